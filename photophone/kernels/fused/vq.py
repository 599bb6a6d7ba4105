"""Triton code of the codebook lookups; see :mod:`photophone.kernels.vq`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from photophone.kernels.dispatch import interpreted
from photophone.kernels.fused.launch import blocks, launch, power_of_two

WHOLE_FLOAT32 = 32
WHOLE_16_BIT = 256
"""Widest code that a program holds at once; wider ones are read in parts, because registers would spill."""
CONFIGS = {
    "few rows": {"BLOCK_M": 16, "BLOCK_K": 64, "num_warps": 4, "num_stages": 2},
    "narrow": {"BLOCK_M": 64, "BLOCK_K": 128, "num_warps": 4, "num_stages": 2},
    "wide": {"BLOCK_M": 64, "BLOCK_K": 64, "num_warps": 8, "num_stages": 2},
}
"""Tile shapes by name; :func:`pick` chooses."""
FEW_ROWS = 4096


def pick(rows: int, dim: int) -> dict[str, int]:
    """The tile for so many rows of codes of ``dim`` channels."""
    return CONFIGS["few rows" if rows <= FEW_ROWS else "narrow" if dim <= 32 else "wide"]


def _parts(dim: int, exact: bool) -> tuple[bool, int]:
    """Whether a program holds whole codes, and the width of what it holds."""
    width = max(16, power_of_two(dim))
    limit = WHOLE_16_BIT if exact else WHOLE_FLOAT32
    return (True, width) if width <= limit else (False, 64 if exact else 32)


@triton.jit
def code_terms_kernel(codes, scale, offset, K, D, stride_q, stride_k, COSINE: tl.constexpr, BLOCK_K: tl.constexpr,
                      BLOCK_D: tl.constexpr):
    """Numbers that make the score of a code ``offset + scale * (x . e)``: 1 block of codes a program."""
    q = tl.program_id(1).to(tl.int64)
    k = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    square = tl.zeros([BLOCK_K], dtype=tl.float32)
    for start in range(0, D, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        mask = (k < K)[:, None] & (d < D)[None, :]
        e = tl.load(codes + q * stride_q + k.to(tl.int64)[:, None] * stride_k + d[None, :], mask=mask, other=0.0)
        e = e.to(tl.float32)
        square += tl.sum(e * e, 1)
    if COSINE:
        tl.store(scale + q * K + k, -1.0 / tl.maximum(tl.sqrt(square), 1e-12), mask=k < K)
        tl.store(offset + q * K + k, square * 0.0, mask=k < K)
    else:
        tl.store(scale + q * K + k, square * 0.0 - 2.0, mask=k < K)
        tl.store(offset + q * K + k, square, mask=k < K)


@triton.jit
def _best_codes(x, x_rows, row_mask, codes, scale, offset, K, D, stride_k, WHOLE: tl.constexpr, EXACT: tl.constexpr,
                BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr):
    """Index int32 [BLOCK_M] of the lowest score: of the tile ``x``, or of the rows at ``x_rows`` when not WHOLE."""
    best = tl.full([BLOCK_M], float("inf"), dtype=tl.float32)
    index = tl.zeros([BLOCK_M], dtype=tl.int32)
    for start in range(0, K, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        columns = codes + k.to(tl.int64)[None, :] * stride_k
        product = tl.zeros([BLOCK_M, BLOCK_K], dtype=tl.float32)
        for begin in range(0, BLOCK_D if WHOLE else D, BLOCK_D):
            d = begin + tl.arange(0, BLOCK_D)
            e = tl.load(columns + d[:, None], mask=(d < D)[:, None] & (k < K)[None, :], other=0.0)
            if WHOLE:
                part = x
            else:
                part = tl.load(x_rows[:, None] + d[None, :], mask=row_mask[:, None] & (d < D)[None, :], other=0.0)
            if EXACT:  # 16-bit operands of one dtype: their products are exact in float32
                product = tl.dot(part, e, product)
            else:
                product = tl.dot(part.to(tl.float32), e.to(tl.float32), product, input_precision="tf32x3")
        factor = tl.load(scale + k, mask=k < K, other=0.0)
        constant = tl.load(offset + k, mask=k < K, other=float("inf"))
        value, place = tl.min(constant[None, :] + factor[None, :] * product, 1, return_indices=True)
        index = tl.where(value < best, start + place.to(tl.int32), index)
        best = tl.minimum(value, best)
    return index


@triton.jit
def lookup_kernel(x, codes, scale, offset, valid, indices, values, counts, sums, M, K, D, stride_xq, stride_xm,
                  stride_q, stride_k, VALUES: tl.constexpr, STATISTICS: tl.constexpr, MASKED: tl.constexpr,
                  WHOLE: tl.constexpr, EXACT: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr,
                  BLOCK_D: tl.constexpr):
    """One block of rows and one codebook a program: search, then gather and statistics of the codes found."""
    q = tl.program_id(1).to(tl.int64)
    m = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    inside = m < M
    x_rows = x + q * stride_xq + m * stride_xm
    d0 = tl.arange(0, BLOCK_D)
    codes += q * stride_q
    tile = tl.load(x_rows[:, None] + d0[None, :], mask=inside[:, None] & (d0 < D)[None, :], other=0.0)
    index = _best_codes(tile, x_rows, inside, codes, scale + q * K, offset + q * K, K, D, stride_k, WHOLE, EXACT,
                        BLOCK_M, BLOCK_K, BLOCK_D).to(tl.int64)
    tl.store(indices + q * M + m, index, mask=inside)
    counted = inside
    if MASKED:
        counted = inside & (tl.load(valid + m, mask=inside, other=0) != 0)
    if STATISTICS:
        tl.atomic_add(counts + q * K + index, tl.full([BLOCK_M], 1.0, dtype=tl.float32), mask=counted)
    if VALUES or STATISTICS:
        for begin in range(0, D, BLOCK_D):
            d = begin + tl.arange(0, BLOCK_D)
            mask = inside[:, None] & (d < D)[None, :]
            if VALUES:
                e = tl.load(codes + index[:, None] * stride_k + d[None, :], mask=mask, other=0.0)
                tl.store(values + (q * M + m[:, None]) * D + d[None, :], e.to(tl.float32), mask=mask)
            if STATISTICS:
                row = tl.load(x_rows[:, None] + d[None, :], mask=mask, other=0.0).to(tl.float32)
                tl.atomic_add(sums + (q * K + index[:, None]) * D + d[None, :], row, mask=mask & counted[:, None])


@triton.jit
def residual_kernel(x, codes, scale, offset, valid, indices, values, counts, sums, M, K, D, Q, stride_q, stride_k,
                    STATISTICS: tl.constexpr, MASKED: tl.constexpr, WHOLE: tl.constexpr, BLOCK_M: tl.constexpr,
                    BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr):
    """One block of rows a program, through all stages. ``x`` float32 (M, D) is overwritten by the last residual.

    The residual stays in registers when it is WHOLE, and else in the cache of the processor. Values start as zeros.
    """
    m = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    d0 = tl.arange(0, BLOCK_D)
    inside = m < M
    rows = x + m * D
    totals = values + m * D
    residual = tl.load(rows[:, None] + d0[None, :], mask=inside[:, None] & (d0 < D)[None, :], other=0.0)
    counted = inside
    if MASKED:
        counted = inside & (tl.load(valid + m, mask=inside, other=0) != 0)
    for _ in range(0, Q):
        index = _best_codes(residual, rows, inside, codes, scale, offset, K, D, stride_k, WHOLE, False, BLOCK_M,
                            BLOCK_K, BLOCK_D).to(tl.int64)
        tl.store(indices + m, index, mask=inside)
        if STATISTICS:
            tl.atomic_add(counts + index, tl.full([BLOCK_M], 1.0, dtype=tl.float32), mask=counted)
        for begin in range(0, BLOCK_D if WHOLE else D, BLOCK_D):
            d = begin + tl.arange(0, BLOCK_D)
            mask = inside[:, None] & (d < D)[None, :]
            e = tl.load(codes + index[:, None] * stride_k + d[None, :], mask=mask, other=0.0).to(tl.float32)
            if not WHOLE:
                residual = tl.load(rows[:, None] + d[None, :], mask=mask, other=0.0)
            if STATISTICS:
                tl.atomic_add(sums + index[:, None] * D + d[None, :], residual, mask=mask & counted[:, None])
            residual -= e
            if not WHOLE:
                tl.store(rows[:, None] + d[None, :], residual, mask=mask)
            place = totals[:, None] + d[None, :]
            tl.store(place, tl.load(place, mask=mask, other=0.0) + e, mask=mask)
        if not WHOLE:
            tl.debug_barrier()  # the search reads rows that other threads have written
        if STATISTICS:
            counts += K
            sums += K * D
        indices += M
        codes += stride_q
        scale += K
        offset += K


def _exact(x: Tensor, codes: Tensor) -> bool:
    """Whether 16-bit operands are multiplied as they are; the interpreter multiplies the bits of bfloat16 instead."""
    return x.dtype == codes.dtype == torch.float16 or (x.dtype == codes.dtype == torch.bfloat16 and not interpreted())


def _code_terms(codes: Tensor, cosine: bool) -> tuple[Tensor, Tensor]:
    books, count, dim = codes.shape
    scale = torch.empty(books, count, device=codes.device)
    offset = torch.empty(books, count, device=codes.device)
    launch(code_terms_kernel, (blocks(count, 32), books), codes, scale, offset, count, dim, *codes.stride()[:2],
           COSINE=cosine, BLOCK_K=32, BLOCK_D=min(power_of_two(dim), 128), num_warps=4)
    return scale, offset


def _dense(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def lookup(x: Tensor, codes: Tensor, cosine: bool, values: bool, statistics: bool, valid: Tensor | None,
           config: dict[str, int] | None = None) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """x (Q, M, D), codes (Q, K, D) and valid Bool (M,) or None to indices, values, counts and sums; see the parent."""
    x = _dense(x)
    codes = _dense(codes)
    books, rows, dim = x.shape
    count = codes.shape[1]
    scale, offset = _code_terms(codes, cosine)
    exact = _exact(x, codes)
    whole, block_d = _parts(dim, exact)
    indices = torch.empty(books, rows, dtype=torch.long, device=x.device)
    found = torch.empty(books, rows, dim, device=x.device) if values else None
    counts = torch.zeros(books, count, device=x.device) if statistics else None
    sums = torch.zeros(books, count, dim, device=x.device) if statistics else None
    config = config or pick(rows * books, dim)
    launch(lookup_kernel, (blocks(rows, config["BLOCK_M"]), books), x, codes, scale, offset, valid, indices, found,
           counts, sums, rows, count, dim, *x.stride()[:2], *codes.stride()[:2], VALUES=values, STATISTICS=statistics,
           MASKED=valid is not None, WHOLE=whole, EXACT=exact, BLOCK_D=block_d, **config)
    return indices, found, counts, sums


def residual_lookup(x: Tensor, codes: Tensor, cosine: bool, statistics: bool, valid: Tensor | None,
                    config: dict[str, int] | None = None) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """x (M, D), codes (Q, K, D) to indices (Q, M), values (M, D), counts and sums."""
    codes = _dense(codes)
    rows, dim = x.shape
    books, count, _ = codes.shape
    scale, offset = _code_terms(codes, cosine)
    whole, block_d = _parts(dim, False)
    residual = torch.empty(rows, dim, device=x.device).copy_(x)
    indices = torch.empty(books, rows, dtype=torch.long, device=x.device)
    values = torch.zeros(rows, dim, device=x.device)
    counts = torch.zeros(books, count, device=x.device) if statistics else None
    sums = torch.zeros(books, count, dim, device=x.device) if statistics else None
    config = config or pick(rows, dim)
    launch(residual_kernel, (blocks(rows, config["BLOCK_M"]),), residual, codes, scale, offset, valid, indices, values,
           counts, sums, rows, count, dim, books, *codes.stride()[:2], STATISTICS=statistics,
           MASKED=valid is not None, WHOLE=whole, BLOCK_D=block_d, **config)
    return indices, values, counts, sums
