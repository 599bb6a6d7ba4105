"""The quick benchmarks, one after the other, into ``benchmarks/results.json``: all speeds that README and docs quote.

    python benchmarks/bench.py                    all of them; half an hour on two cores
    python benchmarks/bench.py --part image       one; the others stay, if they are of this machine

Each is a script of its own, in a process of its own. Run it on a machine that does nothing else, then
``python scripts/make_docs_tables.py``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from photophone.core.files import atomic_write

HERE = Path(__file__).parent
PICTURES = HERE.parent / "docs" / "pictures"
RESULTS = HERE / "results.json"
PARTS = {
    "cold-start": ["cold_start.py"],
    "image": ["image.py"],
    "speech": ["speech.py", "--repeats", "3"],
    "enhance": ["enhance.py", "--long", "600"],
    "live": ["live_enhance.py"],
    "codecs": ["codec_speed.py"],
    "resample": ["resample.py"],
    "cpu": ["cpu.py", "--repeats", "3"],
    "generators": ["generators.py"],
    "training": ["training.py"],
    "growth": ["growth.py", "-o", str(PICTURES / "growth.png")],
    "decode-growth": ["decode_growth.py", "-o", str(PICTURES / "decoding.png"), "--repeats", "5"],
}
"""Scripts and their arguments, by the name that ``--part`` takes."""
THREADED = ("image", "speech", "cpu", "generators", "growth", "decode-growth")
"""Parts that take ``--threads``; the others take one, or what torch takes."""
SLOW = {"newcomer": ["newcomer.py", "my_images"]}
"""The same, of those that run only when they are asked for: this one installs the package, and reads your pictures."""


def machine() -> dict[str, str | int]:
    """What speeds depend on, and the day."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"processor": names[0] if names else platform.processor() or platform.machine(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            "python": platform.python_version(), "torch": metadata.version("torch"),
            "date": datetime.date.today().isoformat()}


def run(arguments: list[str]) -> dict:
    """The tables of one script.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tables.json")
        environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}:{os.environ.get('PYTHONPATH', '')}"}
        subprocess.run([sys.executable, str(HERE / arguments[0]), *arguments[1:], "--json", str(path)], check=True,
                       env=environment)
        tables = json.loads(path.read_text(encoding="utf-8"))
    command = f"python benchmarks/{arguments[0]}"
    return {name: {"command": command, **table} for name, table in tables.items()}


def kept(path: Path, here: dict) -> dict:
    """Tables of a former run, if it was on this machine with these versions."""
    if not path.exists():
        return {}
    former = json.loads(path.read_text(encoding="utf-8"))
    same = all(former["machine"].get(name) == value for name, value in here.items() if name != "date")
    return former["tables"] if same else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=[*PARTS, *SLOW], help="may be given several times")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    here = machine()
    tables = kept(arguments.output, here) if arguments.part else {}
    for part in arguments.part or PARTS:
        print(f"== {part}", flush=True)
        began = time.perf_counter()
        threads = ["--threads", str(arguments.threads)] if part in THREADED else []
        tables |= run([*{**PARTS, **SLOW}[part], *threads])
        print(f"== {part}: {time.perf_counter() - began:.0f} s\n", flush=True)
        with atomic_write(arguments.output) as partial:  # after each, so that an end in between loses one part
            partial.write_text(json.dumps({"machine": here, "tables": tables}, indent=1) + "\n", encoding="utf-8")
    print(f"{arguments.output}: {', '.join(tables)}")


if __name__ == "__main__":
    main()
