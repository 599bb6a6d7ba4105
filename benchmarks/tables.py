"""Tables that benchmarks print, and keep as JSON where ``--json`` names a file.

``make bench`` (``bench.py``) gathers them in ``results.json``, from which ``scripts/make_docs_tables.py`` writes the
speeds that README and docs quote.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from photophone.core.files import atomic_write

Cell = str | int | float | None
Table = tuple[Sequence[str], Sequence[Sequence[Cell]]]
"""Names of the columns, and rows of as many cells."""


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """The option that :func:`publish` reads."""
    parser.add_argument("--json", type=Path, help="also write the tables to this file")


def forget_peak() -> None:
    """Let :func:`peak_megabytes` count from here; where the system cannot, it goes on counting."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_megabytes() -> float:
    """Largest resident memory of this process since :func:`forget_peak`."""
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cell(value: Cell) -> str:
    """A number with three digits, whole above 100; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def markdown(table: Table) -> str:
    """The table in Markdown."""
    columns, rows = table
    lines = [columns, ["---"] * len(columns), *([cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def publish(tables: dict[str, Table], path: Path | None = None, **facts: Cell) -> None:
    """Print tables, and write them with ``facts``, such as the number of threads, to a JSON file."""
    for name, table in tables.items():
        print(f"{name}:\n{markdown(table)}\n", flush=True)
    if path is None:
        return
    content = {name: {**facts, "columns": list(columns), "rows": [list(row) for row in rows]}
               for name, (columns, rows) in tables.items()}
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content), encoding="utf-8")
