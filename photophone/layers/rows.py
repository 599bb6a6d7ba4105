"""Rows of different length through models that cannot skip padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def equal_rows(lengths: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each length above 0 that occurs in ``lengths`` Long (B,), and Long (b,), the rows that have it."""
    for length in lengths.unique().tolist():
        if length:
            yield length, (lengths == length).nonzero()[:, 0]


def map_equal_lengths(function: Callable[[Tensor], Tensor], x: Tensor, lengths: Tensor | None) -> Tensor:
    """``function`` of all rows of equal length at once, each without padding, so a batch equals single runs exactly.

    Args:
        function: (b, ..., t) to (b, ..., t').
        x: (B, ..., T).
        lengths: Long (B,), not all 0, or None when all rows are full.

    Returns:
        (B, ..., T'), zero behind the end of each row.
    """
    if lengths is None:
        return function(x)
    made = [(rows, function(x[rows][..., :length])) for length, rows in equal_rows(lengths)]
    _, longest = made[-1]  # lengths come in rising order
    result = longest.new_zeros(len(x), *longest.shape[1:])
    for rows, part in made:
        result[rows, ..., :part.shape[-1]] = part
    return result


def fill_up(x: Tensor, size: int) -> Tensor:
    """(B, ..., T) cut or extended by zeros to ``size`` on the last axis."""
    return torch.nn.functional.pad(x, (0, size - x.shape[-1]))
