"""Rotary position embeddings of grids (arXiv 2104.09864; two axes as in EVA-02, arXiv 2303.11331).

A table holds cosine and sine for each position and each pair of channels: float32 ``(N, head_dim / 2, 2)``. Pairs are
interleaved, channels 2i and 2i + 1. The first half of the pairs turns with the row, the second with the column.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor


@cache
def grid_rotary(height: int, width: int, head_dim: int, base: float = 10_000.0) -> Tensor:
    """Table ``(height * width, head_dim / 2, 2)`` of a grid, row by row: LlamaGen's and, reordered, xAR's.

    Raises:
        ValueError: head_dim is not a multiple of 4.
    """
    if head_dim % 4:
        raise ValueError(f"two axes of channel pairs need a head width that is a multiple of 4, got {head_dim}")
    quarter = head_dim // 4
    frequencies = 1.0 / base ** (torch.arange(quarter, dtype=torch.float32) * 2 / (head_dim // 2))
    rows, columns = (torch.outer(torch.arange(size, dtype=torch.float32), frequencies) for size in (height, width))
    angles = torch.cat([rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)], dim=-1)
    angles = angles.flatten(0, 1)  # (h, w, head_dim / 2) -> (hw, head_dim / 2)
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def with_condition_rows(table: Tensor, count: int) -> Tensor:
    """The table with ``count`` rows of zeros in front.

    Zeros make queries and keys of condition tokens vanish, so all see them alike: a quirk that LlamaGen's weights
    depend on.
    """
    return F.pad(table, (0, 0, 0, 0, count, 0))


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn the channel pairs of x ``(B, H, N, head_dim)`` by a table ``(N, head_dim / 2, 2)``, in float32."""
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)  # (B, H, N, head_dim / 2) each
    cos, sin = table.to(x.device).unbind(-1)
    return torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(-2).to(x.dtype)
