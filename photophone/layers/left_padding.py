"""Rows of different length that are continued together: padded on the left, so that all end at the same place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pad_left(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows (n, ...) of different length as (B, N, ...) with zeros in front, and bool (B, N), False there."""
    length = max(len(row) for row in rows)
    padded = rows[0].new_zeros(len(rows), length, *rows[0].shape[1:])
    mask = torch.zeros(len(rows), length, dtype=torch.bool, device=padded.device)
    for index, row in enumerate(rows):
        padded[index, length - len(row):], mask[index, length - len(row):] = row, True
    return padded, mask


def positions(mask: Tensor) -> Tensor:
    """Positions Long (B, L) of rows whose padding is False in mask (B, L)."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def attention_mask(mask: Tensor) -> Tensor:
    """Bool (B, 1, L, L): each position sees itself and what is before it, but no padding."""
    causal = torch.ones(mask.shape[1], mask.shape[1], dtype=torch.bool, device=mask.device).tril()
    itself = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)  # a row without any key would be NaN
    return ((causal & mask[:, None]) | itself)[:, None]
