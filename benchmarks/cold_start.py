"""What a first command costs: processor time of each, new process every time, as a share of ``import torch``.

    python benchmarks/cold_start.py [--repeats 5] [--threads 1] [--against FOLDER]

The rounds are interleaved; each number is the median of its command. ``--against`` runs the
package of another checkout in the same rounds.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tables import add_json_option, publish

CLI = ["-m", "photophone.cli"]
COMMANDS: dict[str, list[str]] = {
    "import torch": ["-c", "import torch"],
    "import photophone": ["-c", "import photophone"],
    "--help": [*CLI, "--help"],
    "wrong arguments": [*CLI, "image"],
    "speak": [*CLI, "speak", "Hi there.", "-o", "speech.wav", "--overwrite"],
    "image": [*CLI, "image", "a red apple", "-o", "apple.png", "--overwrite"],
    "enhance": [*CLI, "enhance", "speech.wav", "-o", "clean.wav", "--overwrite"],
    "encode": [*CLI, "encode", "speech.wav", "-m", "photophone/tiny-speech", "-o", "tokens.safetensors",
               "--overwrite"],
}
"""In their order: later ones read what earlier ones wrote."""
COLUMNS = ("command", "seconds of processor", "of `import torch`", "peak MB")
REPOSITORY = Path(__file__).resolve().parents[1]


def measure(arguments: list[str], checkout: Path, threads: int | None, folder: str) -> tuple[float, float]:
    """Processor seconds and peak memory in MB of one new process."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    child = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    usage: resource.struct_rusage = os.wait4(child.pid, 0)[2]
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="OMP_NUM_THREADS; by default as the environment has it")
    parser.add_argument("--against", type=Path, help="another checkout of this repository")
    add_json_option(parser)
    arguments = parser.parse_args()
    checkouts = {"": REPOSITORY} | ({", other": arguments.against.resolve()} if arguments.against else {})
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.repeats + 1):
            for name, command in COMMANDS.items():
                for mark, checkout in checkouts.items():
                    found.setdefault(name + mark, []).append(measure(command, checkout, arguments.threads, folder))
    middle = {name: statistics.median(seconds for seconds, _ in rounds[1:]) for name, rounds in found.items()}
    rows = [[name, middle[name], middle[name] / middle["import torch"], max(peak for _, peak in rounds)]
            for name, rounds in found.items()]  # the first round, which fills the disk's cache, counts for memory alone
    publish({"cold-start": (COLUMNS, rows)}, arguments.json)


if __name__ == "__main__":
    main()
