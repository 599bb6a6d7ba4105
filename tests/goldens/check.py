"""Compare our models with tensors that official code made: ``python tests/goldens/check.py DIR [DIR ...]``.

Each directory holds config.json, official weights and io.safetensors; :mod:`golden` describes them, and how to write
the adaptor of a system. Prints a line for every tensor: verdict, name, shape, largest absolute and relative
difference, tolerance. Exits with 1 when any tensor misses its tolerance or was neither compared nor skipped by name.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from golden import Golden, Verdict, load_system


def line(verdict: Verdict) -> str:
    """One row of the report."""
    numbers = "" if verdict.difference != verdict.difference else \
        f"abs {verdict.difference:.2e}  rel {verdict.relative:.2e}  tol {verdict.tolerance}"
    return f"{verdict.status:4s}  {verdict.name:42s} {str(list(verdict.shape)):18s} {numbers}  {verdict.note}".rstrip()


def main() -> int:
    """Check all directories; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--system", help="adaptor, when config.json and the folder do not tell")
    parser.add_argument("--misses", action="store_true", help="print only what missed")
    arguments = parser.parse_args()
    missed = 0
    for folder in arguments.folders:
        golden = Golden(folder)
        try:
            system = load_system(golden, arguments.system)
        except ValueError as error:
            print(f"MISS  {error}")
            missed += 1
            continue
        verdicts = system.compare(golden)
        print(f"== {folder} ({system.name})")
        for verdict in verdicts:
            if verdict.status == "MISS" or not arguments.misses:
                print(line(verdict))
        count = {status: sum(verdict.status == status for verdict in verdicts) for status in ("ok", "skip", "MISS")}
        print(f"== {count['ok']} ok, {count['skip']} skipped, {count['MISS']} missed")
        missed += count["MISS"] + (not verdicts)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
