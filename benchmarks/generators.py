"""Image generators of about 100 million parameters and 256 tokens beside each other: images a minute, memory, FLOPs.

    python benchmarks/generators.py                            all; about eight minutes on two cores
    python benchmarks/generators.py --only nar par             some
    python benchmarks/generators.py --profile bitdance-4       where the time of one goes

Weights are random, samplers the published ones with guidance (two rows an image) but for MAR: 64 steps of its order
with 25 of its head. Decoders of pixels are left out. Each measurement is one run in a process of its own, which ends
after ``--seconds``: what is left is then projected by FLOPs, which are counted step by step in models of one and of two
blocks. Claims of papers stand beside the same ratios here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from generator_systems import SYSTEMS, run
from tables import Table, add_json_option, forget_peak, peak_megabytes, publish
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from photophone.core.files import atomic_write

CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
                 lambda query, key, value, *rest, out_shape=None, **options: sdpa_flop_count(query, key, value)}
"""What torch's counter leaves out."""
BATCHES = (1, 8)
LEAST_STEPS = 2
HARD_LIMIT = 20
"""A process is ended after so many times the seconds of a measurement: steps can be long."""
CLAIMS = [
    ("NAR, times PAR", "nar", "par", 2.4),
    ("xAR-B, times DiT-XL, at their sizes", "xar-base", "dit-xl", 20.0),
    ("xAR, times DiT of 250 steps", "xar", "dit", None),
    ("HART, times a DiT of 20 steps", "hart", "dit-20", 4.5),
    ("CSpD, times its target alone", "cspd", "mar", 2.33),
]
"""Words, faster and slower system, and the paper's ratio, the lower end of a range. The 20 of xAR is told of its 173 M
parameters against 675 M of DiT-XL; at equal size nobody claims a number."""


def counted(name: str, depth: int, solver_steps: int) -> list[int]:
    """FLOPs of one image at the end of each step, of a model with so many blocks whose head takes so many steps."""
    seen: list[int] = []
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        run(name, SYSTEMS[name].build(depth), 1, lambda step, total: seen.append(counter.get_total_flops()),
            solver_steps)
    return seen


def counts(name: str) -> list[list[int]]:
    """The same of the least model, with one block more, with one solver step more, and with both more."""
    least, deeper = counted(name, 1, LEAST_STEPS), counted(name, 2, LEAST_STEPS)
    if not SYSTEMS[name].solver_steps:
        return [least, deeper, least, deeper]
    return [least, deeper, counted(name, 1, LEAST_STEPS + 1), counted(name, 2, LEAST_STEPS + 1)]


def flops(name: str, parts: list[list[int]], solver_steps: int | None) -> list[int]:
    """The same of the whole model with so many solver steps, of :func:`counts`: each block costs as much as any other,
    and so does each solver step, be it one of a head or one through all blocks."""
    blocks, steps = SYSTEMS[name].depth - 1, (solver_steps or LEAST_STEPS) - LEAST_STEPS
    return [base + (block - base) * blocks + (step - base) * steps + (both - block - step + base) * blocks * steps
            for base, block, step, both in zip(*parts, strict=True)]


@torch.no_grad()
def measure(name: str, batch: int, seconds: float, parts: list[list[int]] | None = None) -> dict:
    """One run of a batch; ``parts`` are :func:`counts`, where they were made before."""
    torch.manual_seed(0)
    system, parts = SYSTEMS[name], counts(name) if parts is None else parts
    total = flops(name, parts, system.solver_steps)[-1]
    before = _resident()
    forget_peak()
    model = system.build(system.depth)
    parameters = sum(weight.numel() for weight in model.parameters())
    marks: list[float] = []
    began = time.perf_counter()

    def stop(step: int, total: int) -> bool:
        marks.append(time.perf_counter() - began)
        return marks[-1] > seconds and step < total

    timed = system.timed_steps or system.solver_steps
    steps = len(parts[0]) if system.make is None or system.solver_steps is None else system.solver_steps
    run(name, model, batch, stop, timed)
    took, done = marks[-1], flops(name, parts, timed)[len(marks) - 1]
    return {"system": name, "batch": batch, "parameters": parameters, "steps": steps, "share": done / total,
            "seconds": took * total / done, "flops": total, "rate": done * batch / took, "parts": parts,
            "megabytes": peak_megabytes() - before}


def _resident() -> float:
    """Megabytes of this process now."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


@torch.no_grad()
def profile(name: str, seconds: float) -> None:
    """Print which operations take the time of one image, or of as much of it as fits into the seconds."""
    model, began = SYSTEMS[name].build(SYSTEMS[name].depth), time.perf_counter()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as recorded:
        run(name, model, 1, lambda step, total: time.perf_counter() - began > seconds, SYSTEMS[name].timed_steps)
    print(recorded.key_averages(group_by_input_shape=True).table(sort_by="self_cpu_time_total", row_limit=15,
                                                                 max_name_column_width=40, max_shapes_column_width=60))


def in_process(name: str, batch: int, seconds: float, threads: int, parts: list[list[int]] | None) -> dict | None:
    """:func:`measure` in a process of its own; None where that failed or took too long."""
    command = [sys.executable, __file__, "--child", name, str(batch), "--seconds", str(seconds), "--threads",
               str(threads)]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, input=json.dumps(parts),
                              timeout=60 + HARD_LIMIT * seconds)
    except subprocess.TimeoutExpired:
        print(f"{name}, batch {batch}: no step ended in time", file=sys.stderr)
        return None
    except subprocess.CalledProcessError as error:
        print(f"{name}, batch {batch}: {error.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def measure_all(names: list[str], batches: list[int], seconds: float, threads: int,
                keep: Path | None) -> dict[tuple[str, int], dict]:
    """Measurements by system and batch, and those of the file ``keep``, which gets each as soon as it is made."""
    old = json.loads(keep.read_text(encoding="utf-8")) if keep is not None and keep.exists() else []
    found = {(result["system"], result["batch"]): result for result in old}
    for name in names:
        parts = next((result["parts"] for (system, _), result in found.items() if system == name), None)
        for batch in batches[:1] if SYSTEMS[name].published else batches:
            if (name, batch) in found:
                continue
            result = in_process(name, batch, seconds, threads, parts)
            if result is None:
                continue
            found[name, batch], parts = result, result["parts"]
            print(f"{name}, batch {batch}: {60 * batch / result['seconds']:.3g} images a minute", flush=True)
            if keep is not None:
                with atomic_write(keep) as partial:
                    partial.write_text(json.dumps(list(found.values())), encoding="utf-8")
    order = list(SYSTEMS)
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))


def speeds(found: dict[tuple[str, int], dict]) -> Table:
    """A row a system and batch."""
    rows = []
    for (name, batch), result in found.items():
        rows.append([SYSTEMS[name].words, batch, result["parameters"] / 1e6, result["steps"],
                     60 * batch / result["seconds"], result["megabytes"], result["flops"] / 1e12, result["rate"] / 1e9,
                     round(100 * result["share"])])
    return ("generator", "batch", "million parameters", "steps", "images a minute", "peak MB", "TFLOP an image",
            "GFLOP/s", "% of its FLOPs run"), rows


def claims(found: dict[tuple[str, int], dict]) -> Table:
    """A row a claim: the paper's ratio, those of both batches, and that of the FLOPs."""
    rows = []
    for words, fast, slow, paper in CLAIMS:
        pairs = [(found.get((fast, batch)), found.get((slow, batch))) for batch in BATCHES]
        first, second = pairs[0]
        if first is None or second is None:
            continue
        ratios = [one and two and two["seconds"] / one["seconds"] for one, two in pairs]
        reached = "" if paper is None else "yes" if max(ratio or 0 for ratio in ratios) >= paper / 2 else "no"
        rows.append([words, paper, *ratios, second["flops"] / first["flops"], first["steps"], second["steps"], reached])
    return ("claim", "paper", *(f"here, batch {batch}" for batch in BATCHES), "by FLOPs", "steps", "steps of the other",
            "half of it reached"), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SYSTEMS), metavar="NAME", help=", ".join(SYSTEMS))
    parser.add_argument("--batch", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--seconds", type=float, default=6.0, help="of a measurement; the rest is projected")
    parser.add_argument("--keep", type=Path, help="a file of measurements; those that it holds are not made again")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", choices=list(SYSTEMS), metavar="NAME", help="where the time of one system goes")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    add_json_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.child:
        name, batch = arguments.child
        print(json.dumps(measure(name, int(batch), arguments.seconds, json.load(sys.stdin))))
        return
    if arguments.profile:
        profile(arguments.profile, arguments.seconds)
        return
    found = measure_all(arguments.only or list(SYSTEMS), arguments.batch, arguments.seconds, arguments.threads,
                        arguments.keep)
    tables = {"generators": speeds(found), "generators-claims": claims(found)}
    publish({name: table for name, table in tables.items() if table[1]}, arguments.json, threads=arguments.threads)


if __name__ == "__main__":
    main()
