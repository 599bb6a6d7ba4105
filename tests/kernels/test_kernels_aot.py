"""Kernels compile for GPUs that are not here, without spilling registers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from photophone.kernels import dispatch

ROOT = Path(__file__).parents[2]


def compile_kernels(*arguments):
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run([sys.executable, ROOT / "benchmarks/kernels_aot.py", *arguments], capture_output=True,
                          text=True, env=environment, check=False)


def test_a_kernel_of_each_family_compiles_without_spills():
    done = compile_kernels("--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    compiled = {line.split()[0] for line in done.stdout.splitlines() if " sm_" in line}
    assert compiled == {"vq", "adaln", "solver", "sampling", "rotary", "snake", "overlap_add", "pack"}
    assert {"sm_80", "sm_90", "sm_100"} <= set(re.findall(r"sm_[0-9]+", done.stdout))


@pytest.mark.slow
def test_every_kernel_and_tile_compiles_for_every_target():
    done = compile_kernels()
    assert done.returncode == 0, done.stdout + done.stderr


def test_spills_and_errors_are_seen(monkeypatch, capsys):
    """The gate is not blind: a result with a spill or an error makes the command fail and shows in its table."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import kernels_aot

    class Case:
        name, kernel, moved, operations = "pack signs", "binary", 1e6, 3e6

    class Kernel:
        __name__ = "binary_kernel"

    source = kernels_aot.Source(Kernel(), {}, {"BLOCK_M": 8}, {}, {"num_warps": 4})
    assert "SPILLS" in kernels_aot.line(Case, source, 90, kernels_aot.Compiled(32, 16, 0))
    assert "broken" in kernels_aot.line(Case, source, 90, kernels_aot.Compiled(error="broken"))
    good = kernels_aot.line(Case, source, 90, kernels_aot.Compiled(32, 0, 0))
    assert good.split()[-3:] == ["0", "1.00", "3.0"] and not capsys.readouterr().out


def test_types_are_those_of_tritons_launcher(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import kernels_aot

    from photophone.kernels.fused.launch import Launch

    class Kernel:
        arg_names = ["x", "one", "many", "odd", "large", "ratio", "none", "BLOCK"]

    x = torch.empty(9, dtype=torch.bfloat16, device="meta")[1:]
    launch = Launch(Kernel(), (1,), (x, 1, 32, 7, 2**40, 0.5, None), {"BLOCK": 8, "num_warps": 2})
    source = kernels_aot.as_source(launch)
    assert source.signature == {"x": "*bf16", "one": "constexpr", "many": "i32", "odd": "i32", "large": "i64",
                                "ratio": "fp32", "none": "constexpr", "BLOCK": "constexpr"}
    assert source.constants == {"one": 1, "none": None, "BLOCK": 8} and source.options == {"num_warps": 2}
    assert set(source.attributes) == {(2,), (4,)}  # x starts 2 bytes after an aligned address


def test_the_compiler_refuses_to_run_in_the_interpreter(monkeypatch):
    done = subprocess.run([sys.executable, ROOT / "benchmarks/kernels_aot.py"], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "1"}, check=False)
    assert done.returncode == 2 and "TRITON_INTERPRET" in done.stderr


def test_the_gpu_benchmark_fits_the_kernels_and_says_that_there_is_no_gpu(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import kernels_gpu

    operations = kernels_gpu.operations("meta")
    assert {name.split()[0] for name in operations} == set(dispatch.OPERATIONS)
    for name, (run, moved, _) in operations.items():
        assert moved > 0
        if not name.startswith("vq"):  # autocast, which the lookup switches off, knows no meta device
            run()  # shapes only: a meta tensor has no memory
    monkeypatch.setattr(kernels_gpu.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["kernels_gpu.py"])
    assert kernels_gpu.main() == 0 and "finds none" in capsys.readouterr().out
