"""Triton code of rotary positions and key-value cache; see :mod:`photophone.kernels.rotary`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from photophone.kernels.fused.launch import blocks, launch, power_of_two

BLOCK_H = 8
MAX_HEAD = 512


@triton.jit
def rotary_kernel(x, table, out, cache, position, q_weight, k_weight, x_b, x_h, x_n, table_b, table_h, table_n, out_b,
                  out_h, out_n, cache_part, cache_b, cache_h, cache_n, N, HEADS, KV_HEADS, D, LENGTH, eps, sign,
                  HALVES: tl.constexpr, NORM: tl.constexpr, STORE: tl.constexpr, PLACES: tl.constexpr,
                  BLOCK_H: tl.constexpr, BLOCK_P: tl.constexpr):
    """BLOCK_H heads of one position a program: queries are turned to ``out``; keys and values go to the cache."""
    b = (tl.program_id(0) // N).to(tl.int64)
    n = tl.program_id(0) % N
    h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    i = tl.arange(0, BLOCK_P)
    inside = (h < HEADS + 2 * KV_HEADS if STORE else h < HEADS)[:, None] & (i < D // 2)[None, :]
    first, second = (i, i + D // 2) if HALVES else (2 * i, 2 * i + 1)
    row = x + b * x_b + n * x_n + h.to(tl.int64)[:, None] * x_h
    a = tl.load(row + first[None, :], mask=inside, other=0.0).to(tl.float32)
    c = tl.load(row + second[None, :], mask=inside, other=0.0).to(tl.float32)
    is_query = (h < HEADS)[:, None]
    turned = is_query
    if STORE:
        turned = (h < HEADS + KV_HEADS)[:, None]
    if NORM:
        factor = 1.0 / tl.sqrt(tl.sum(a * a + c * c, 1) / D + eps)
        a_normed = a * factor[:, None]
        c_normed = c * factor[:, None]
        pairs = (i < D // 2)[None, :]
        for part in tl.static_range(2):
            place = second if part else first
            of_q = tl.load(q_weight + place[None, :], mask=pairs, other=0.0).to(tl.float32)
            of_k = tl.load(k_weight + place[None, :], mask=pairs, other=0.0).to(tl.float32)
            weight = tl.where(is_query, of_q, of_k)
            if part == 0:
                a_normed *= weight
            else:
                c_normed *= weight
        a = tl.where(turned, a_normed, a)
        c = tl.where(turned, c_normed, c)
    angle = table + b * table_b + n * table_n + h.to(tl.int64)[:, None] * table_h + 2 * i[None, :]
    cos = tl.load(angle, mask=inside & turned, other=1.0).to(tl.float32)
    sin = sign * tl.load(angle + 1, mask=inside & turned, other=0.0).to(tl.float32)
    left = a * cos - c * sin
    right = c * cos + a * sin
    to = out + b * out_b + n * out_n + h.to(tl.int64)[:, None] * out_h
    kind = out.dtype.element_ty
    tl.store(to + first[None, :], left.to(kind), mask=inside & is_query)
    tl.store(to + second[None, :], right.to(kind), mask=inside & is_query)
    if STORE:
        start = position
        if PLACES:
            start = tl.load(position + b)
        where = start + n
        # a place outside the cache is not written: the host does not read places that lie on the device
        stored = inside & (h >= HEADS)[:, None] & (where >= 0) & (where < LENGTH)
        group = (h - HEADS) // KV_HEADS
        to = cache + group.to(tl.int64)[:, None] * cache_part + ((h - HEADS) % KV_HEADS)[:, None] * cache_h
        to += b * cache_b + where.to(tl.int64) * cache_n
        kind = cache.dtype.element_ty
        tl.store(to + first[None, :], left.to(kind), mask=stored)
        tl.store(to + second[None, :], right.to(kind), mask=stored)


def _expanded(table: Tensor, rows: int, heads: int, count: int) -> Tensor:
    """The table as (B, H, N, d / 2, 2) with zero strides where it is shared, its last two axes dense."""
    table = table if table.stride(-1) == 1 and table.stride(-2) == 2 else table.contiguous()
    return table.expand(rows, heads, count, *table.shape[-2:])


def run(x: Tensor, table: Tensor, out: Tensor, *, halves: bool, heads: int, kv_heads: int = 0,
        sign: float = 1.0, cache: Tensor | None = None, position: int | Tensor = 0,
        weights: tuple[Tensor, Tensor] | None = None, eps: float = 0.0) -> None:
    """x (B, heads + 2 kv_heads, N, d) to ``out`` (B, heads, N, d), and to ``cache`` (2, B, kv_heads, L, d) if given."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    rows, all_heads, count, dim = x.shape
    table = _expanded(table, rows, all_heads, count)
    places = (0, 0, 0, 0) if cache is None else cache.stride()[:4]
    q_weight, k_weight = (None, None) if weights is None else weights
    launch(rotary_kernel, (rows * count, blocks(all_heads, BLOCK_H)), x, table, out, cache, position, q_weight,
           k_weight, *x.stride()[:3], *table.stride()[:3], *out.stride()[:3], *places, count, heads, kv_heads, dim,
           0 if cache is None else cache.shape[3], float(eps), float(sign), HALVES=halves,
           NORM=weights is not None, STORE=cache is not None, PLACES=isinstance(position, Tensor), BLOCK_H=BLOCK_H,
           BLOCK_P=power_of_two(dim // 2), num_warps=4)


class Rotation(torch.autograd.Function):
    """Channel pairs turned by a table; the gradient is turned back."""

    @staticmethod
    def forward(ctx, x: Tensor, table: Tensor, halves: bool) -> Tensor:
        """x (B, H, N, d) turned; see :func:`photophone.kernels.rotary.rotate`."""
        ctx.save_for_backward(table)
        ctx.halves = halves
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        run(x, table, out, halves=halves, heads=x.shape[1])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor):
        """The gradient of x; the table gets none."""
        d_x = torch.empty_like(d_out, memory_format=torch.contiguous_format)
        run(d_out, ctx.saved_tensors[0], d_x, halves=ctx.halves, heads=d_out.shape[1], sign=-1.0)
        return d_x, None, None
