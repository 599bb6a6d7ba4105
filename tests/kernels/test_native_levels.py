"""The compiled code of wheels: each level that this processor runs gives what the reference gives, and what is said."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from photophone.kernels import few_rows, frames, native
from photophone.kernels.native import build

HERE = Path(native.__file__).parent
pytestmark = pytest.mark.skipif(native.compiler() is None or not build.is_target(),
                                reason="wheels bring compiled code for Linux on x86-64, made by a C++ compiler")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of the libraries of all levels, as ``setup.py`` makes them."""
    folder = tmp_path_factory.mktemp("native")
    files, failed = build.build_levels(HERE, folder)
    assert not failed and sorted(file.name for file in files) == sorted(
        f"{name}-x86-64-{level}.{ending}" for name in build.SOURCES for level in build.LEVELS
        for ending in ("so", "sha256"))
    return folder


@pytest.fixture
def installed(made, monkeypatch):
    """As if the package lay beside these libraries, without a compiler."""
    monkeypatch.setattr(native, "__file__", str(made / "__init__.py"))
    monkeypatch.setattr(native, "compiler", lambda: None)
    yield made
    forget()


def forget():
    for cached in (few_rows.library, frames.library, native.load):
        cached.cache_clear()


@pytest.mark.parametrize("level", build.LEVELS)
@pytest.mark.parametrize("kind", few_rows.WEIGHTS)
def test_each_level_gives_what_the_reference_gives(level, kind, installed, monkeypatch):
    if level not in native.levels():
        pytest.skip(f"this processor does not run x86-64-{level}")
    monkeypatch.setattr(native, "levels", lambda: [level])
    forget()
    assert few_rows.library()[1] == f"prebuilt for x86-64-{level}"
    torch.manual_seed(0)
    for rows, channels, outputs in ((1, 64, 32), (2, 515, 130), (7, 384, 257)):
        weight, x, bias = torch.randn(outputs, channels), torch.randn(rows, channels), torch.randn(outputs)
        made = few_rows.FewRowsWeight(weight, kind, bias)(x)
        values, scale, *_ = few_rows.round_weight(weight, kind)
        torch.testing.assert_close(made, few_rows.linear_reference(x, values, scale, bias), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("level", build.LEVELS)
def test_each_level_convolves_as_the_reference_does(level, installed, monkeypatch):
    if level not in native.levels():
        pytest.skip(f"this processor does not run x86-64-{level}")
    monkeypatch.setattr(native, "levels", lambda: [level])
    forget()
    assert frames.library()[1] == f"prebuilt for x86-64-{level}"
    torch.manual_seed(0)
    for channels, outputs, kernel, length in ((1, 32, 7, 100), (33, 17, 3, 257), (512, 96, 1, 64)):
        x, weight, bias = torch.randn(2, channels, length), torch.randn(outputs, channels, kernel), torch.randn(outputs)
        options = {"left": kernel - 1, "before": "elu", "after": "gelu"}
        torch.testing.assert_close(frames.frames_conv(x, weight, bias, **options),
                                   frames.conv_reference(x, weight, bias, **options), rtol=1e-4, atol=1e-4)


def test_the_best_level_of_the_processor_is_taken(installed, monkeypatch):
    for features, wanted in ((build.LEVELS["v4"], "v4"), (build.LEVELS["v3"], "v3"),
                             (build.LEVELS["v4"] - {"avx512vl"}, "v3")):
        monkeypatch.setattr(native, "_processor", lambda features=features: f"flags : fpu {' '.join(sorted(features))}")
        assert native.levels()[0] == wanted
    monkeypatch.setattr(native, "_processor", lambda: f"flags\t: {' '.join(sorted(build.V3 - {'fma'}))}")
    assert native.levels() == []
    assert native.load.__wrapped__("decode") == (None, "no C++ compiler")


def test_the_environment_holds_to_a_level(installed, monkeypatch):
    monkeypatch.setattr(native, "_processor", lambda: f"flags : {' '.join(sorted(build.LEVELS['v4']))}")
    monkeypatch.setenv(native.LEVEL, "v3")
    assert native.levels() == ["v3"]
    if set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split()) >= build.V3:
        assert native.load.__wrapped__("decode")[1] == "prebuilt for x86-64-v3"
    monkeypatch.setenv(native.LEVEL, "v5")
    with pytest.raises(ValueError, match="='v5' is no level that this processor runs: 'v4', 'v3'; unset it"):
        native.levels()
    monkeypatch.setattr(native, "_processor", lambda: "flags : fpu")
    monkeypatch.setenv(native.LEVEL, "v3")
    with pytest.raises(ValueError, match="it runs none; unset it"):
        native.levels()


def test_what_is_compiled_here_is_held_to_it_too(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(native, "levels", lambda: ["v3"])
    monkeypatch.setattr(native, "_prebuilt", lambda name: None)
    monkeypatch.setattr(native, "library_folder", lambda: tmp_path)
    monkeypatch.setattr(native, "compile_source", lambda source, target, program, flags, link: asked.append(flags))
    for level in ("v3", None):
        monkeypatch.setenv(native.LEVEL, level) if level else monkeypatch.delenv(native.LEVEL)
        native.load.__wrapped__("decode")  # loads what was not made: says so
    assert asked == [["-march=x86-64-v3"], [build.OWN]]


@pytest.mark.parametrize("damage", ["missing", "half", "no digest"])
def test_what_is_damaged_is_not_loaded(made, damage, tmp_path, monkeypatch):
    for file in made.iterdir():
        data = file.read_bytes()
        (tmp_path / file.name).write_bytes(data[:len(data) // 2] if damage == "half" else data)
        if damage == "missing" or (damage == "no digest" and file.suffix == ".sha256"):
            (tmp_path / file.name).unlink()
    monkeypatch.setattr(native, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(native, "compiler", lambda: None)
    assert native.load.__wrapped__("decode") == (None, "no C++ compiler")


def test_there_is_one_openmp(made):
    """The one that torch has loaded, not another of the system."""
    code = f"""
import ctypes, torch
for level in {native.levels()!r}:
    ctypes.CDLL({str(made)!r} + "/decode-x86-64-" + level + ".so").packed_lanes()
print(*{{line.split()[-1] for line in open("/proc/self/maps") if "gomp" in line}}, sep="\\n")
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert len(found) == 1 and "torch" in found[0]


def test_old_systems_have_all_symbols(made):
    """Of the C library 2.28 and GCC 8, which torch's own wheels need (manylinux_2_28)."""
    for file in made.glob("*.so"):
        data = file.read_bytes()
        for prefix, newest in ((b"GLIBC_", (2, 28)), (b"GLIBCXX_", (3, 4, 25)), (b"CXXABI_", (1, 3, 11)),
                               (b"GOMP_", (4, 5)), (b"OMP_", (4, 5))):
            names = [name[len(prefix):] for name in data.split(b"\0") if name.startswith(prefix)]
            versions = [tuple(int(part) for part in name.split(b".")) for name in names if name[:1].isdigit()]
            assert all(version <= newest for version in versions), (file.name, prefix, versions)


BARRIER = """
#include "{header}"
#include <omp.h>
#include <unistd.h>
#include <vector>
// All threads count rounds, and look behind each barrier whether the others have counted it too. Now and then one is
// late. Returns how often one had not.
extern "C" int wrong(int threads, int rounds, int late) {{
    Barrier barrier;
    std::vector<int> counts(16 * threads);
    int wrong = 0;
#pragma omp parallel num_threads(threads) reduction(+ : wrong)
    {{
        const int me = omp_get_thread_num(), team = omp_get_num_threads();
        for (int round = 1; round <= rounds; round++) {{
            if (late && round % late == me) usleep(1000);
            counts[16 * me] = round;
            barrier.wait(team);
            for (int other = 0; other < team; other++) wrong += counts[16 * other] != round;
            barrier.wait(team);
        }}
    }}
    return wrong;
}}
"""


@pytest.fixture(scope="module")
def barrier(tmp_path_factory):
    """Compiled code that counts what a barrier let through."""
    folder = tmp_path_factory.mktemp("barrier")
    (folder / "barrier.cpp").write_text(BARRIER.format(header=HERE / "barrier.h"))
    build.compile_source(folder / "barrier.cpp", folder / "barrier.so", native.compiler(), [], ["-fopenmp"])
    return ctypes.CDLL(str(folder / "barrier.so"))


@pytest.mark.parametrize("threads, rounds, late", [(1, 1000, 0), (2, 20000, 0), (2, 400, 10), (3, 2000, 100),
                                                   (7, 300, 50), (16, 50, 20)])
def test_the_barrier_lets_nobody_through(barrier, threads, rounds, late):
    """Also with many more threads than cores, and when partners sleep."""
    assert barrier.wrong(threads, rounds, late) == 0
