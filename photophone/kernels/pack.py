"""Quantization by signs (LFQ, BSQ) and by levels (FSQ), with the index of each token.

For M rows of D channels of b bytes: reads ``M D b`` and writes ``8 M`` for each codebook's index, and ``4 M D`` when
values are wanted. 3 operations a number for signs, about 30 with the tanh of levels: 1 to 8 a byte, so bandwidth is the
limit. Torch makes a Long of 8 bytes for each number on the way: about ``30 M D`` bytes in 5 to 15 kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from photophone.kernels.dispatch import choose

MAX_DIM = 1024
"""Channels of one index (or of one row, for levels) that a program holds."""


def pack_bits(bits: Tensor) -> Tensor:
    """Bits ``(..., C)`` (bool or 0/1) to Long ``(...)``, first bit highest."""
    weights = 2 ** torch.arange(bits.shape[-1] - 1, -1, -1, device=bits.device)
    return (bits.long() * weights).sum(-1)


def pack_levels(digits: Tensor, levels: Sequence[int]) -> Tensor:
    """Digits ``(..., C)`` with ``0 <= digit_c < levels[c]`` to one index ``(...)``; channel 0 counts fastest."""
    index = torch.zeros_like(digits[..., 0])
    for channel in reversed(range(len(levels))):
        index = index * levels[channel] + digits[..., channel]
    return index


def bound(x: Tensor, levels: Tensor, eps: float = 1e-3) -> Tensor:
    """Squash each channel so that rounding gives exactly its number of levels.

    ``tanh(x + shift) * (L - 1)(1 + eps)/2 - offset``, where an even L has offset 1/2 (its levels then are
    ``-L/2 .. L/2 - 1``) and the shift that keeps 0 at 0.

    Args:
        x: float ``(..., C)``.
        levels: ``(C,)``, at least 2 each.
        eps: room at the ends; below 0 the outermost rounding borders are reached later.
    """
    half = (levels - 1) * (1 + eps) / 2
    offset = 0.5 * (levels % 2 == 0)
    return torch.tanh(x + torch.atanh(offset / half)) * half - offset


@torch.no_grad()
def quantize_signs(x: Tensor, num_codebooks: int, scale: float, *,
                   want_values: bool = True) -> tuple[Tensor | None, Tensor]:
    """Signs of x float ``(B, N, D)``: values +scale or -scale, and the indices of the bits ``x > 0``.

    Args:
        num_codebooks: Q groups of neighbouring channels, each with an index, first bit highest.
        scale: size of the values.
        want_values: False leaves them out.

    Returns:
        values float32 ``(B, N, D)`` or None, and indices Long ``(B, N)``, or ``(B, Q, N)``.
    """
    rows, length, dim = x.shape
    if choose("pack", x) == "triton" and dim // num_codebooks <= MAX_DIM:
        from photophone.kernels.fused import pack

        indices, values = pack.binary(x.reshape(-1, dim), num_codebooks, scale, want_values)
        indices = indices.view(-1, rows, length)
        return None if values is None else values.view(x.shape), \
            indices[0] if num_codebooks == 1 else indices.transpose(0, 1)
    bits = x > 0
    values = (2.0 * bits.float() - 1.0) * scale if want_values else None
    if num_codebooks == 1:
        return values, pack_bits(bits)  # (B, N, C) -> (B, N)
    return values, pack_bits(bits.unflatten(-1, (num_codebooks, -1))).transpose(1, 2)  # (B, N, Q, C/Q) -> (B, Q, N)


@torch.no_grad()
def quantize_levels(z: Tensor, levels: Sequence[int], sizes: Tensor, *, eps: float, twice: bool = False,
                    want_values: bool = True) -> tuple[Tensor | None, Tensor]:
    """Levels of z float ``(..., C)``: :func:`bound`, round, :func:`pack_levels`.

    Args:
        levels: of each channel; ``sizes`` holds the same as a Long tensor on the device of z.
        eps: of :func:`bound`.
        twice: bound twice.
        want_values: False leaves the values out.

    Returns:
        values float32 ``(..., C)``, the levels divided by ``L // 2``, or None; and indices Long ``(...)``.
    """
    if choose("pack", z, sizes) == "triton" and z.shape[-1] <= MAX_DIM:
        from photophone.kernels.fused import pack

        basis = sizes.cumprod(0) // sizes
        indices, values = pack.scalar(z.reshape(-1, z.shape[-1]), sizes, basis, eps, twice, want_values)
        return None if values is None else values.view(z.shape), indices.view(z.shape[:-1])
    z = bound(z, sizes, eps) if twice else z
    rounded = bound(z, sizes, eps).round()
    indices = pack_levels(rounded.long() + sizes // 2, levels)
    return rounded / (sizes // 2) if want_values else None, indices
