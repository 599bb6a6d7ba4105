"""Rotary positions of HART: prompts count their words, codes have two coordinates in the frame of the largest scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from photophone.layers.transformer import Rotation

BASE = 10_000.0


def frequencies(head_dim: int, stride: int) -> Tensor:
    """``BASE ** -(i / head_dim)`` at every ``stride``-th i below head_dim, float32."""
    return 1.0 / BASE ** (torch.arange(0, head_dim, stride, dtype=torch.float32) / head_dim)


def word_angles(positions: Tensor, head_dim: int) -> Tensor:
    """Positions (B, T) of words to angles (B, T, head_dim), of channels i and i + head_dim / 2 alike."""
    half = positions.float()[..., None] * frequencies(head_dim, 2).to(positions.device)
    return torch.cat([half, half], dim=-1)


def cell_angles(places: Tensor, head_dim: int) -> Tensor:
    """Row and column (..., 2) of cells to angles (..., head_dim): the first half of the channels turns with the row,
    the second with the column, each with head_dim / 4 frequencies twice."""
    quarter = places.float()[..., None] * frequencies(head_dim, 4).to(places.device)  # (..., 2, d / 4)
    return torch.cat([quarter, quarter], dim=-1).flatten(-2)


def cell_places(scales: Sequence[int], largest: int) -> Tensor:
    """Row and column (L, 2) of all cells of these scales, in cells of the largest one."""
    parts = []
    for scale in scales:
        line = torch.arange(scale) / scale * largest
        parts.append(torch.cartesian_prod(line, line).view(-1, 2))
    return torch.cat(parts)


def rotation(angles: Tensor) -> Rotation:
    """The function that turns queries or keys (B, H, N, d) by angles (B, N, d).

    Channels i and i + d/2 pair, but each has an angle of its own, the row's and the column's: no rotation in the strict
    sense for codes, a quirk that the weights depend on.
    """
    cosines, sines = angles.cos()[:, None], angles.sin()[:, None]

    def turn(x: Tensor) -> Tensor:
        first, second = x.float().chunk(2, dim=-1)
        return (x.float() * cosines + torch.cat([-second, first], dim=-1) * sines).to(x.dtype)

    return turn
