"""Rotary position embeddings of sequences and grids (arXiv 2104.09864; two axes as in EVA-02, arXiv 2303.11331).

A table holds cosine and sine for each position and each pair of channels: float32 ``(N, head_dim / 2, 2)``. Pairs are
interleaved, channels 2i and 2i + 1, or halves, channels i and i + head_dim / 2. In a grid the first half of the pairs
turns with the row, the second with the column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


def sequence_rotary(length: int, head_dim: int, base: float = 10_000.0, factors: Sequence[float] | None = None,
                    scale: float = 1.0, device: torch.device | str = "cpu", start: int = 0) -> Tensor:
    """Table ``(length, head_dim / 2, 2)`` of positions start .. start + length - 1 on ``device``; recent ones are kept.

    Args:
        factors: divisors of the head_dim / 2 frequencies, and ``scale`` a factor on the table, for contexts longer than
            those of the training (LongRoPE, arXiv 2402.13753); see :func:`longrope_scale`.

    Raises:
        ValueError: for an odd head width, or as many factors as there are not frequencies.
    """
    factors = tuple(factors or [1.0] * (head_dim // 2))
    if head_dim % 2 or len(factors) != head_dim // 2:
        raise ValueError(f"a head needs an even number of channels, and half as many factors; got {head_dim} and "
                         f"{len(factors)}")
    return _sequence_rotary(length, head_dim, base, factors, scale, torch.device(device), start)


@lru_cache(maxsize=32)
def _sequence_rotary(length: int, head_dim: int, base: float, factors: tuple[float, ...], scale: float,
                     device: torch.device, start: int) -> Tensor:
    with torch.inference_mode(False), torch.device("cpu"):  # the table outlives the mode it was first asked for in
        frequencies = 1.0 / base ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
        divisors = 1.0 / torch.tensor(factors, dtype=torch.float32)
        # in this order, as MiniCPM computes it: far positions are sensitive to rounding
        angles = torch.outer(torch.arange(start, start + length, dtype=torch.float32), divisors) * frequencies
        return (torch.stack([angles.cos(), angles.sin()], dim=-1) * scale).to(device)


def longrope_scale(length: int, trained_length: int) -> float:
    """LongRoPE's factor on the table when ``length`` positions follow a training with fewer."""
    return math.sqrt(1 + math.log(length / trained_length) / math.log(trained_length))


def llama3_factors(head_dim: int, base: float, scaling: Mapping[str, float] | None) -> list[float] | None:
    """Divisors of the rotary frequencies of Llama 3 for its longer contexts (arXiv 2407.21783).

    Args:
        scaling: ``factor``, ``low_freq_factor``, ``high_freq_factor`` and ``original_max_position_embeddings``; None:
            no divisors.
    """
    if scaling is None:
        return None
    length, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    divisors = []
    for pair in range(head_dim // 2):
        turns = length * base**(-2 * pair / head_dim) / (2 * math.pi)
        share = min(max((turns - low) / (high - low), 0.0), 1.0)  # 1 where a pair turns often: it stays
        divisors.append(1 / ((1 - share) / factor + share))
    return divisors


@cache
def grid_rotary(height: int, width: int, head_dim: int, base: float = 10_000.0) -> Tensor:
    """Table ``(height * width, head_dim / 2, 2)`` of a grid, row by row: LlamaGen's and, reordered, xAR's.

    Raises:
        ValueError: head_dim is not a multiple of 4.
    """
    _check_axes(head_dim)
    with torch.inference_mode(False), torch.device("cpu"):  # as above
        rows, columns = torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)
        return axes_rotary(rows, columns, head_dim, base)


def axes_rotary(first: Tensor, second: Tensor, head_dim: int, base: float = 10_000.0) -> Tensor:
    """Table ``(N, head_dim / 2, 2)`` of places with two coordinates (N,) each, whole or not, on their device.

    Raises:
        ValueError: head_dim is not a multiple of 4.
    """
    _check_axes(head_dim)
    quarter = torch.arange(head_dim // 4, dtype=torch.float32, device=first.device)
    frequencies = 1.0 / base ** (quarter * 2 / (head_dim // 2))
    angles = torch.cat([torch.outer(axis.float(), frequencies) for axis in (first, second)], dim=-1)
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def _check_axes(head_dim: int) -> None:
    if head_dim % 4:
        raise ValueError(f"two axes of channel pairs need a head width that is a multiple of 4, got {head_dim}")


def with_condition_rows(table: Tensor, count: int) -> Tensor:
    """The table with ``count`` rows of zeros in front.

    Zeros make queries and keys of condition tokens vanish, so all see them alike: a quirk that LlamaGen's weights
    depend on.
    """
    return F.pad(table, (0, 0, 0, 0, count, 0))
