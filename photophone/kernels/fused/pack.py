"""Triton code of quantization by signs or levels with packed indices; see :mod:`photophone.kernels.pack`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from photophone.kernels.fused.launch import blocks, launch, power_of_two

NUMBERS = 2048
"""Numbers that a program holds."""


@triton.jit
def binary_kernel(x, indices, values, M, BITS, x_m, x_d, values_m, scale, VALUES: tl.constexpr,
                  BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr):
    """BLOCK_M rows of one group of BITS channels a program."""
    q = tl.program_id(1)
    m = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    mask = (m < M)[:, None] & (d < BITS)[None, :]
    column = q * BITS + d
    value = tl.load(x + m[:, None] * x_m + column.to(tl.int64)[None, :] * x_d, mask=mask, other=0.0)
    bit = value > 0
    weight = tl.full([BLOCK_D], 1, dtype=tl.int64) << tl.maximum(BITS - 1 - d, 0).to(tl.int64)
    index = tl.sum(tl.where(bit & mask, weight[None, :], 0), 1)
    tl.store(indices + q.to(tl.int64) * M + m, index, mask=m < M)
    if VALUES:
        tl.store(values + m[:, None] * values_m + column[None, :], tl.where(bit, scale, -scale), mask=mask)


@triton.jit
def _bound(z, half, shift, offset):
    """``tanh(z + shift) * half - offset``."""
    return (2.0 * tl.sigmoid(2.0 * (z + shift)) - 1.0) * half - offset


@triton.jit
def levels_kernel(z, levels, basis, indices, values, M, C, z_m, z_c, eps, TWICE: tl.constexpr, VALUES: tl.constexpr,
                  BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr):
    """BLOCK_M rows a program: bound, round to levels, and pack the digits."""
    m = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    c = tl.arange(0, BLOCK_C)
    mask = (m < M)[:, None] & (c < C)[None, :]
    level = tl.load(levels + c, mask=c < C, other=2).to(tl.int32)
    half = (level - 1).to(tl.float32) * (1.0 + eps) * 0.5
    offset = tl.where(level % 2 == 0, 0.5, 0.0)
    ratio = tl.where(c < C, offset / half, 0.0)
    shift = 0.5 * tl.log((1.0 + ratio) / (1.0 - ratio))  # atanh
    value = tl.load(z + m[:, None] * z_m + c.to(tl.int64)[None, :] * z_c, mask=mask, other=0.0).to(tl.float32)
    value = _bound(value, half[None, :], shift[None, :], offset[None, :])
    if TWICE:
        value = _bound(value, half[None, :], shift[None, :], offset[None, :])
    value = (value + 12582912.0) - 12582912.0  # 1.5 * 2^23: rounds halves to even, as torch does
    width = level // 2
    digit = value.to(tl.int64) + width.to(tl.int64)[None, :]
    step = tl.load(basis + c, mask=c < C, other=0)
    tl.store(indices + m, tl.sum(tl.where(mask, digit * step[None, :], 0), 1), mask=m < M)
    if VALUES:
        tl.store(values + m[:, None] * C + c[None, :], value / width.to(tl.float32)[None, :], mask=mask)


def binary(x: Tensor, groups: int, scale: float, values: bool) -> tuple[Tensor, Tensor | None]:
    """x (M, D) to indices (groups, M) and values float32 (M, D)."""
    rows, dim = x.shape
    bits = dim // groups
    indices = torch.empty(groups, rows, dtype=torch.long, device=x.device)
    found = torch.empty(rows, dim, device=x.device) if values else None
    block_d = power_of_two(bits)
    block_m = max(1, NUMBERS // block_d)
    launch(binary_kernel, (blocks(rows, block_m), groups), x, indices, found, rows, bits, *x.stride(), dim,
           float(scale), VALUES=values, BLOCK_M=block_m, BLOCK_D=block_d, num_warps=4)
    return indices, found


def scalar(z: Tensor, levels: Tensor, basis: Tensor, eps: float, twice: bool,
           values: bool) -> tuple[Tensor, Tensor | None]:
    """z (M, C) to indices (M,) and values float32 (M, C)."""
    rows, channels = z.shape
    indices = torch.empty(rows, dtype=torch.long, device=z.device)
    found = torch.empty(rows, channels, device=z.device) if values else None
    block_c = power_of_two(channels)
    block_m = max(1, NUMBERS // block_c)
    launch(levels_kernel, (blocks(rows, block_m),), z, levels, basis, indices, found, rows, channels, *z.stride(),
           float(eps), TWICE=twice, VALUES=values, BLOCK_M=block_m, BLOCK_C=block_c, num_warps=4)
    return indices, found
