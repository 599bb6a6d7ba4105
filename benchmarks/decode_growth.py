"""How the cost of a decode step grows with the codes before it and with the requests that share it; with a plot.

    python benchmarks/decode_growth.py -o docs/pictures/decoding.png

The model is the one of ``cpu_decode.py``, with a grid of 32 x 32 codes; a request has two guidance rows.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from cpu_decode import make_model, seconds
from tables import add_json_option, publish

from photophone.core.files import atomic_write
from photophone.decoding.step import DecodeStep
from photophone.kernels.few_rows import WEIGHTS
from photophone.layers.decode_linear import prepare_for_decoding

CODES = (1, 64, 128, 256, 512, 768, 1023)
REQUESTS = (1, 2, 3, 4, 6, 8, 12, 16)
FEW_CODES = 64
KINDS = ("plain", *WEIGHTS)


def step_cost(step: DecodeStep, rows: int, filled: int, repeats: int, clock: Callable[[], float]) -> float:
    """Median of what a step of the first ``rows`` rows takes behind ``filled`` codes."""
    tokens = torch.zeros(rows, dtype=torch.long)

    def run() -> None:
        step.positions.fill_(filled)
        step(tokens, filled)

    run()
    return statistics.median(seconds(run, clock) for _ in range(repeats))


def plot(growth: dict[str, list[float]], batches: dict[str, list[float]], unit: str, path: Path) -> None:
    """Two panels: milliseconds a step over codes, milliseconds a code and request over requests."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for kind in KINDS:
        left.plot(CODES, growth[kind], marker="o", label=kind)
        right.plot(REQUESTS, [cost / count for cost, count in zip(batches[kind], REQUESTS)], marker="o", label=kind)
    left.set(xlabel="codes before the step", ylabel=f"ms a step ({unit})", ylim=0)
    right.set(xlabel=f"requests that share a step, behind {FEW_CODES} codes", ylabel=f"ms a code ({unit})", ylim=0)
    left.legend(frameon=False)
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="picture")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the processor; take one thread")
    add_json_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    plain = make_model(grid_size=32)
    growth, batches = {}, {}
    for kind in KINDS:
        model = plain if kind == "plain" else prepare_for_decoding(copy.deepcopy(plain), kind)
        step = DecodeStep(model, 2 * max(REQUESTS))
        growth[kind] = [1000 * step_cost(step, 2, codes, arguments.repeats, clock) for codes in CODES]
        batches[kind] = [1000 * step_cost(step, 2 * count, FEW_CODES, arguments.repeats, clock) for count in REQUESTS]
    plural = "" if arguments.threads == 1 else "s"
    unit = f"{arguments.threads} thread{plural}" + (", processor time" if arguments.cpu_time else "")
    plot(growth, batches, unit, arguments.output)
    codes = [f"behind {count} codes" for count in CODES]
    requests = [f"of {count} requests" for count in REQUESTS]
    publish({"decode-growth": (("ms a step", *codes), [[kind, *growth[kind]] for kind in KINDS]),
             "decode-requests": (("ms a step", *requests), [[kind, *batches[kind]] for kind in KINDS])},
            arguments.json, threads=arguments.threads)


if __name__ == "__main__":
    main()
