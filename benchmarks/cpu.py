"""Speed on the processor beside installable peers in the same run: medians of paired, interleaved repeats.

    python benchmarks/cpu.py                     all parts
    python benchmarks/cpu.py --part decode       one part; each has a file of its own, cpu_PART.py

On a machine that is busy with other work, --cpu-time --threads 1 counts seconds of the processor, not of the clock.
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

import torch
from tables import add_json_option, publish

PARTS = sorted(path.stem.removeprefix("cpu_") for path in Path(__file__).parent.glob("cpu_*.py"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="may be given several times")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the processor; take one thread")
    add_json_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    tables = {}
    for part in arguments.part or PARTS:
        print(f"{part}: {arguments.threads} threads, {arguments.repeats} repeats", flush=True)
        tables[f"cpu-{part}"] = importlib.import_module(f"cpu_{part}").run(arguments.repeats, clock)
    publish(tables, arguments.json, threads=arguments.threads)


if __name__ == "__main__":
    main()
