"""Rows of different length through models that cannot skip padding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def equal_length_groups(lengths: Tensor) -> list[tuple[int, list[int]]]:
    """Each length that occurs in Long (B,), in rising order, and the rows that have it."""
    return [(int(length), (lengths == length).nonzero()[:, 0].tolist()) for length in lengths.unique()]


def map_equal_lengths(function: Callable[[Tensor], Tensor], x: Tensor, lengths: Tensor | None) -> Tensor:
    """``function`` of all rows of equal length at once, each without padding, so a batch equals single runs exactly.

    Args:
        function: (b, ..., t) to (b, ..., t').
        x: (B, ..., T).
        lengths: Long (B,), or None when all rows are full.

    Returns:
        (B, ..., T'), zero behind the end of each row.
    """
    if lengths is None:
        return function(x)
    groups = equal_length_groups(lengths)
    made = [function(x[rows][..., :length]) for length, rows in groups]
    longest = made[-1]
    result = longest.new_zeros(len(x), *longest.shape[1:])
    for (_, rows), values in zip(groups, made, strict=True):
        result[rows, ..., :values.shape[-1]] = values
    return result


def fill_up(x: Tensor, size: int) -> Tensor:
    """(B, ..., T) cut or extended by zeros to ``size`` on the last axis."""
    return torch.nn.functional.pad(x, (0, size - x.shape[-1]))
