"""Means over clips that say which clips they leave out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

SHOWN_NAMES = 5
"""Of clips without a score; a table names no more of them."""


def mean_scores(rows: Sequence[Mapping[str, float]], names: Sequence[str] | None = None) -> dict:
    """Means of each column over its finite values: a score that is not defined for a clip enters no mean.

    Args:
        rows: the scores of each clip, all with the same columns; NaN or infinite where there is none.
        names: of the clips, for the message; None: their numbers, from 1.

    Returns:
        A mean for each column: NaN where no clip has a score, infinite where all that have one have that; and
        ``unscored``, the names of the clips that are left out, by column, only of columns that some clips have and
        others have not.
    """
    names = [str(number) for number in range(1, len(rows) + 1)] if names is None else list(names)
    means: dict = {}
    unscored: dict[str, list[str]] = {}
    for column in rows[0] if rows else ():
        values = [row[column] for row in rows if math.isfinite(row[column])]
        endless = {row[column] for row in rows if math.isinf(row[column])}
        if not values and len(endless) == 1:  # such as the ratio of a perfect copy to no distortion
            means[column] = endless.pop()
            continue
        means[column] = statistics.fmean(values) if values else math.nan
        if 0 < len(values) < len(rows):
            unscored[column] = [name for name, row in zip(names, rows) if not math.isfinite(row[column])]
    return means | {"unscored": unscored}


def unscored_lines(system: str, row: Mapping, clips: int) -> list[str]:
    """What a table says below about the means of a system that leave clips out, and about clips on which it failed."""
    lines = []
    for column, names in row.get("unscored", {}).items():
        lines.append(f"{system}, {column}: {clips - len(names)} of {clips} clips scored, not {shortened(names)}")
    if failed := row.get("failed"):
        reasons = "; ".join(sorted(set(failed.values())))
        lines.append(f"{system}: failed on {len(failed)} of {clips} clips, {shortened(list(failed))} ({reasons})")
    return lines


def shortened(names: Sequence[str]) -> str:
    """At most ``SHOWN_NAMES`` names."""
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
