"""Skips, repeats and missed stops of spoken sentences, from the words that a recogniser heard and from the length.

Definitions, both sides normalised and aligned with the fewest edits. Words that differ only in where they are parted
("s t w" and "stw", "newgate" and "new gate") count as heard:
- skip: MIN_RUN or more given words in a row were not heard, or the only words of the sentence were not;
- repeat: MIN_RUN or more words in a row were heard beyond the given ones, all of which occur in the sentence;
- missed stop: speech beyond SLOWEST seconds a phoneme, or MIN_RUN or more heard words behind the last given one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

MIN_RUN = 2
"""Words; a single one is more often an error of the recogniser."""
MAX_JOINED = 5
"""Words or spelled letters that may be heard as one."""
SLOWEST = 0.25
"""Seconds a phoneme with stress marks left out; the slowest voices need about 0.12."""
SPARE_SECONDS = 1.0
"""Silence around a sentence that is no defect."""


@dataclass(frozen=True)
class Defects:
    """What is wrong with one sentence."""

    skip: bool
    repeat: bool
    missed_stop: bool

    @property
    def any(self) -> bool:
        """True if the sentence has a defect."""
        return self.skip or self.repeat or self.missed_stop


def align(given: Sequence[str], heard: Sequence[str]) -> list[tuple[str, int, int]]:
    """Operations of a shortest edit: ("equal" | "replace" | "delete" | "insert", index in given, index in heard)."""
    rows, columns = len(given), len(heard)
    cost = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows, -1, -1):
        for j in range(columns, -1, -1):
            options = []
            if i < rows and j < columns:
                options.append(cost[i + 1][j + 1] + (given[i] != heard[j]))
            if i < rows:
                options.append(cost[i + 1][j] + 1)
            if j < columns:
                options.append(cost[i][j + 1] + 1)
            cost[i][j] = min(options, default=0)
    operations, i, j = [], 0, 0
    while i < rows or j < columns:
        if i < rows and j < columns and cost[i][j] == cost[i + 1][j + 1] + (given[i] != heard[j]):
            operations.append(("equal" if given[i] == heard[j] else "replace", i, j))
            i, j = i + 1, j + 1
        elif i < rows and cost[i][j] == cost[i + 1][j] + 1:
            operations.append(("delete", i, j))
            i += 1
        else:
            operations.append(("insert", i, j))
            j += 1
    return operations


def find_defects(given: Sequence[str], heard: Sequence[str], seconds: float, phonemes: int) -> Defects:
    """The defects of one sentence.

    Args:
        given, heard: normalised words.
        seconds: length of the speech.
        phonemes: of the sentence, without stress marks, spaces and punctuation.
    """
    given = rejoin(given, heard)
    heard = rejoin(heard, given)
    operations = align(given, heard)
    skip = _longest(operations, "delete") >= min(MIN_RUN, len(given))
    repeat = any(len(run) >= MIN_RUN and all(heard[j] in given for _, _, j in run)
                 for run in _runs(operations, "insert"))
    trailing = sum(1 for kind, i, _ in operations if kind == "insert" and i == len(given))
    return Defects(skip, repeat, trailing >= MIN_RUN or seconds > SLOWEST * phonemes + SPARE_SECONDS)


def rejoin(words: Sequence[str], known: Collection[str]) -> list[str]:
    """``words`` with runs of two to MAX_JOINED that make one of the ``known`` words written as that word."""
    result, start = [], 0
    while start < len(words):
        joined = {count: "".join(words[start:start + count]) for count in range(MAX_JOINED, 1, -1)
                  if start + count <= len(words)}
        count = next((count for count, word in joined.items() if word in known), 1)
        result.append(joined.get(count, words[start]))
        start += count
    return result


def _runs(operations: list[tuple[str, int, int]], kind: str) -> list[list[tuple[str, int, int]]]:
    runs: list[list[tuple[str, int, int]]] = [[]]
    for operation in operations:
        if operation[0] == kind:
            runs[-1].append(operation)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _longest(operations: list[tuple[str, int, int]], kind: str) -> int:
    return max(map(len, _runs(operations, kind)), default=0)
