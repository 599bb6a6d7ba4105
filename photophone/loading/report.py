"""What a checkpoint was found to be: the places, names and forms that were undone on the way to a model's weights."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Any

logger = logging.getLogger(__name__)
SHOWN = 4
"""Names of each kind that a line shows."""


@dataclass(frozen=True)
class LoadReport:
    """How the weights of a model were found in a checkpoint; :attr:`lines` says it in words.

    Args:
        source: the file or folder; None for a table in memory.
        files: names of the shards, where there are several.
        place: of the table that was taken, with dots: "trainer.var_wo_ddp"; "" for the top.
        prefix: what stood before every key that was taken: "module.", "model.".
        averaged: whether the table is a running average (EMA) of the weights.
        others: places of further tables that fit as well, such as the weights that were not averaged.
        tables: places of tables that were not read, such as other models' weights.
        left_out: keys of the table that belong to the training alone (discriminators, counters, averages).
        values: names of plain values beside the weights: "epoch", "args".
        notes: further forms that were undone: weight norms, quantised weights, tied weights, keys of ours.
        official: whether all of this is how the authors publish the weights; then it is not worth a warning.
        same, renamed, dropped, made: keys of the official table that stay, are renamed, split or joined, are left out
            on purpose; and ours that came of them.
    """

    source: str | None = None
    files: tuple[str, ...] = ()
    place: str = ""
    prefix: str = ""
    averaged: bool = False
    others: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    official: bool = True
    same: tuple[str, ...] = field(default=(), repr=False)
    renamed: tuple[str, ...] = field(default=(), repr=False)
    dropped: tuple[str, ...] = field(default=(), repr=False)
    made: tuple[str, ...] = field(default=(), repr=False)

    def with_notes(self, *notes: str) -> LoadReport:
        """A copy with further notes."""
        return replace(self, notes=(*self.notes, *notes))

    @property
    def lines(self) -> list[str]:
        """What was undone, one sentence each; empty for a plain file of the official keys."""
        lines = []
        if len(self.files) > 1:
            lines.append(f"weights of {len(self.files)} files")
        if self.place:
            lines.append(f"weights taken from {self.place!r}")
        if self.prefix:
            lines.append(f"{self.prefix!r} before the keys left out")
        if self.averaged:
            beside = f", not those at {self.others[0] or 'the top'!r}, which take='raw' takes" if self.others else ""
            lines.append(f"averaged weights (EMA) taken{beside}")
        elif self.others:
            lines.append(f"not taken: {_some(self.others)}")
        if self.tables:
            lines.append(f"other tables not read: {_some(self.tables)}")
        if self.left_out:
            lines.append(f"{len(self.left_out)} tensors of the training not read: {_some(self.left_out)}")
        if self.values:
            lines.append(f"values beside the weights not read: {_some(self.values)}")
        return [*lines, *self.notes]

    def log(self) -> None:
        """Tell it: as a warning where the file is not as its authors publish it, which Python prints to stderr."""
        if self.lines:
            level = logging.INFO if self.official else logging.WARNING
            logger.log(level, "%s: %s", self.source or "the checkpoint", "; ".join(self.lines))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: what was undone, without the lists of keys."""
        return {"place": self.place, "prefix": self.prefix, "averaged": self.averaged, "others": list(self.others),
                "tables": list(self.tables),
                "left_out": list(self.left_out), "values": list(self.values), "notes": list(self.notes)}


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
