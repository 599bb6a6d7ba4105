"""Compiles every kernel and tile for sm_80, sm_90 and sm_100 without a GPU.

For each launch of :mod:`kernel_cases` and each target: registers, spilled bytes, shared memory, bytes that must be
moved and operations a byte. It says nothing of the time, which a GPU alone can tell (``kernels_gpu.py``). Exits 1 when
anything spills or does not compile. Not in Triton's interpreter: TRITON_INTERPRET must be unset.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from photophone.core.files import atomic_write

TARGETS = (80, 90, 100)
"""Compute capabilities: A100, H100 and B200 have them."""
KINDS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.long: "i64", torch.bool: "i1"}
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}


@dataclass(frozen=True)
class Compiled:
    """What the compiler says about one launch on one target; ``error`` is its message when it failed."""

    registers: int = 0
    spills: int = 0
    shared: int = 0
    error: str = ""


@dataclass(frozen=True)
class Source:
    """A launch as the compiler sees it: kernel, types, constants, alignments and options."""

    kernel: Any
    signature: dict[str, str]
    constants: dict[str, Any]
    attributes: dict[tuple[int], list]
    options: dict[str, int]

    @property
    def key(self) -> str:
        """Equal for launches that compile to the same code."""
        return repr((self.kernel.__name__, self.kernel.fn.__module__, self.signature, self.constants, self.attributes,
                     self.options))


def as_source(launch: Any) -> Source:
    """Types and constants as Triton's own launcher would derive them from the arguments."""
    options = {key: value for key, value in launch.named.items() if key in ("num_warps", "num_stages")}
    names = launch.kernel.arg_names
    values = dict(zip(names, launch.arguments))
    values |= {key: value for key, value in launch.named.items() if key not in options}
    signature, constants, attributes = {}, {}, {}
    for place, name in enumerate(names):
        value = values[name]
        aligned = False
        if name in launch.named or value is None or (type(value) is int and value == 1):
            signature[name], constants[name] = "constexpr", value
        elif isinstance(value, Tensor):
            signature[name] = f"*{KINDS[value.dtype]}"
            aligned = value.storage_offset() * value.element_size() % 16 == 0
        elif isinstance(value, int):
            signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            aligned = value % 16 == 0
        else:
            signature[name] = "fp32"
        if aligned:
            attributes[(place,)] = [["tt.divisibility", 16]]
    return Source(launch.kernel, signature, constants, attributes, options)


def compile_source(source: Source, capability: int) -> Compiled:
    """Compile for one target and read the assembler's report."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    triton.knobs.nvidia.dump_ptxas_log = True
    triton.knobs.compilation.always_compile = True
    log = io.StringIO()
    try:
        with contextlib.redirect_stdout(log):
            code = triton.compile(ASTSource(source.kernel, source.signature, source.constants, source.attributes),
                                  target=GPUTarget("cuda", capability, 32), options=source.options)
    except Exception as problem:  # noqa: BLE001 - whatever the compiler raises is the result
        return Compiled(error=f"{type(problem).__name__}: {str(problem).strip().splitlines()[0][:200]}")
    report = log.getvalue()
    registers = re.search(r"Used (\d+) registers", report)
    spills = [int(number) for number in re.findall(r"(\d+) bytes spill (?:stores|loads)", report)]
    if registers is None or not spills:
        return Compiled(error="the assembler gave no report")
    shared = code.metadata.shared
    error = f"needs {shared} bytes of shared memory" if shared > SHARED_LIMIT[capability] else ""
    return Compiled(int(registers[1]), sum(spills), shared, error)


def on_meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor without memory."""
    return torch.empty(shape, dtype=dtype, device="meta")


def launches(quick: bool, only: str) -> Iterator[tuple[Any, Source]]:
    """Cases with the source of each of their launches that is new."""
    from kernel_cases import all_cases

    from photophone.kernels.fused.launch import recording

    seen: set[str] = set()
    for case in all_cases():
        if (quick and not case.quick) or only not in case.name:
            continue
        with recording() as recorded:
            case.run(on_meta)
        for launch in recorded:
            source = as_source(launch)
            if source.key not in seen:
                seen.add(source.key)
                yield case, source


def compile_share(quick: bool, only: str, targets: list[int], share: int,
                  shares: int) -> list[tuple[int, int, Compiled]]:
    """Compile every ``shares``-th launch; (number of the launch, target, result). The short list takes one target each.
    """
    results = []
    os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp()
    torch.set_num_threads(1)
    for number, (_, source) in enumerate(launches(quick, only)):
        if number % shares == share:
            chosen = [targets[number % len(targets)]] if quick else targets
            results += [(number, target, compile_source(source, target)) for target in chosen]
    return results


def markdown(known: list[tuple[Any, Source]], results: list[tuple[int, int, Compiled]]) -> str:
    """A table of the main kernel of each case; registers, spills and shared memory of all targets side by side."""
    targets = sorted({target for _, target, _ in results})
    names = ", ".join(f"sm_{target}" for target in targets)
    rows = [f"| operation | registers ({names}) | spilled bytes | shared kB |", "|---|---|---|---|"]
    found = {(number, target): result for number, target, result in results}
    for number, (case, source) in enumerate(known):
        complete = all((number, target) in found for target in targets)
        if source.kernel.__name__ != f"{case.kernel}_kernel" or not complete:
            continue
        here = [found[number, target] for target in targets]
        rows.append(f"| {case.name} | {', '.join(str(one.registers) for one in here)} | "
                    f"{', '.join(str(one.spills) for one in here)} | "
                    f"{', '.join(f'{one.shared / 1024:.3g}' for one in here)} |")
    return "\n".join(rows) + "\n"


def line(case: Any, source: Source, target: int, result: Compiled) -> str:
    """One row of the table; the work is that of the case where this is its main kernel."""
    name = source.kernel.__name__.removesuffix("_kernel")
    tile = " ".join(f"{key.removeprefix('BLOCK_')}{value}" for key, value in source.constants.items()
                    if key.startswith("BLOCK"))
    config = f"{tile} w{source.options['num_warps']} s{source.options.get('num_stages', 3)}"
    work = f"{'':>10} {'':>8}"
    if name == case.kernel:
        work = f"{case.moved / 1e6:10.2f} {case.operations / case.moved:8.1f}"
    state = result.error or ("SPILLS" if result.spills else "")
    return (f"{case.name:<74.74} {name:<12} {config:<26} sm_{target:<4} {result.registers:>4} {result.spills:>6} "
            f"{result.shared:>7} {work} {state}").rstrip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the short list, one target a launch: for the test suite")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--markdown", type=Path, help="also write a table of the main kernels to this file")
    parser.add_argument("--targets", type=int, nargs="+", default=sorted(TARGETS), choices=sorted(TARGETS))
    arguments = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET") == "1":
        parser.error("kernels cannot be compiled in Triton's interpreter: unset TRITON_INTERPRET")
    started = time.perf_counter()
    with ProcessPoolExecutor(arguments.jobs) as pool:
        shares = [pool.submit(compile_share, arguments.quick, arguments.only, arguments.targets, share, arguments.jobs)
                  for share in range(arguments.jobs)]
        results = sorted((result for share in shares for result in share.result()), key=lambda result: result[:2])
    known = list(launches(arguments.quick, arguments.only))
    print(f"{'case':<74} {'kernel':<12} {'tile, warps, stages':<26} {'target':<7} {'regs':>4} {'spills':>6} "
          f"{'shared':>7} {'MB':>10} {'ops/byte':>8}")
    for number, target, result in results:
        print(line(*known[number], target, result))
    if arguments.markdown:
        with atomic_write(arguments.markdown) as path:
            path.write_text(markdown(known, results), encoding="utf-8")
    bad = sum(bool(result.error or result.spills) for _, _, result in results)
    print(f"{len(results)} compilations of {len(known)} launches for {len(arguments.targets)} targets, {bad} bad, "
          f"{time.perf_counter() - started:.0f} s")
    return int(bad > 0 or not results)


if __name__ == "__main__":
    sys.exit(main())
