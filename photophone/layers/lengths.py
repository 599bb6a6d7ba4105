"""Rows of different length in one batch: masks, and padding at each row's own end."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Bool (B, size), True before each row's length."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def keep_valid(x: Tensor, mask: Tensor | None) -> Tensor:
    """``x`` (B, C, T) with zeros where ``mask`` (B, T) is False: what zero padding of each row alone would give."""
    return x if mask is None else torch.where(mask[:, None], x, 0)


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the valid entries of ``x``; 0 when there are none.

    Args:
        x: (B, N, ...), or any shape.
        mask: (B, N), or of the shape of ``x``: True where it is valid; None: everywhere.

    Raises:
        ValueError: for a mask of other axes.
    """
    if mask is None:
        return x.mean() if x.numel() else x.sum()
    if mask.dim() < min(x.dim(), 2) or mask.shape != x.shape[:mask.dim()]:
        raise ValueError(f"mask of shape {tuple(mask.shape)} for values of shape {tuple(x.shape)}")
    valid = mask.bool().reshape(*mask.shape, *[1] * (x.dim() - mask.dim()))
    entries = math.prod(x.shape[mask.dim():])  # that one element of the mask speaks of
    return torch.where(valid, x, 0).sum() / (mask.sum() * entries).clamp(min=1)


def reflect_pad(x: Tensor, left: int, right: int | Tensor, lengths: Tensor | None = None) -> Tensor:
    """Mirror each row of (B, C, T) at its beginning and at its own end, giving (B, C, left + T + max(right)).

    A row that is not longer than the padding is extended by zeros first, as EnCodec does.

    Args:
        x: the signals; what lies behind a row's length is not read.
        left: samples to add in front.
        right: samples to add behind each row, or Long (B,).
        lengths: Long (B,), or None when all rows are full.
    """
    rows = x.shape[0]
    size = x.shape[-1]
    if lengths is None and isinstance(right, int) and size > max(left, right):
        return functional.pad(x, (left, right), mode="reflect")
    right = torch.as_tensor(right, device=x.device).expand(rows)
    if lengths is None:
        lengths = torch.full((rows,), size, device=x.device)
    else:
        x = keep_valid(x, length_mask(lengths, size))
    most = right.clamp(min=left)
    added = int(right.max())
    x = functional.pad(x, (0, max(int(most.max()) + 1 - size, 0)))
    ends = torch.maximum(lengths, most + 1)[:, None] - 1  # the last sample, or the last zero of the extension
    places = torch.arange(-left, size + added, device=x.device).abs()
    places = torch.where(places > ends, 2 * ends - places, places).clamp(min=0)  # (B, left + T + added)
    return x.gather(-1, places[:, None].expand(-1, x.shape[1], -1))
