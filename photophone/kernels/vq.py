"""Codebook lookup: nearest code, gather and statistics, for one codebook, several, and residual stages.

Work of the fused kernel for N rows, K codes of D channels and Q codebooks of b bytes a number:

- bytes: ``N D b`` in, ``8 N`` of indices and ``4 N D`` of values out, the codebook ``K D b`` at least once from memory
  and once a block of 64 rows from the cache. The scores, N x K, are never stored.
- operations: ``2 N K D`` for the products, ``5 N K`` for scores and minimum; times Q.
- limit: about ``2 K / (b + 4)`` operations a byte: above K of about 200 it is arithmetic. 16-bit operands run on the
  tensor cores as they are; float32 takes three passes of tf32 ("tf32x3", error near float32's), a sixth of the rate of
  16 bits. Below D of about 16 the minimum costs more than the products, because it runs on the ordinary units.

Statistics add atomically ``4 N (D + 1)`` bytes into ``K (D + 1)`` sums, in an order that may differ between runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from photophone.kernels.dispatch import choose

MAX_SCORE_BYTES = 64 * 2**20
"""Limit of the scores (rows of x times codes, float32) that the reference holds at any one time, or one row of them."""

TILE = 512
"""Rows and codes of a tile on the processor."""


@dataclass(frozen=True)
class Lookup:
    """What a lookup found.

    Args:
        indices: Long ``(M,)``, or ``(Q, M)`` for several codebooks or stages.
        values: float32 ``(M, D)``: the codes found, or ``(Q, M, D)`` for several codebooks; of residual stages the sum.
        counts: float32 ``(K,)`` or ``(Q, K)``: rows that each code has; None without statistics.
        sums: float32 ``(K, D)`` or ``(Q, K, D)``: sum of these rows (of the residuals, in later stages); None without.
    """

    indices: Tensor
    values: Tensor
    counts: Tensor | None
    sums: Tensor | None


@torch.no_grad()
def nearest_code(x: Tensor, codebook: Tensor, *, cosine: bool = False) -> Tensor:
    """Index of the code nearest to each row, in float32.

    Args:
        x: float ``(M, D)``.
        codebook: float ``(K, D)``.
        cosine: the largest cosine similarity instead of the smallest Euclidean distance.

    Returns:
        Long ``(M,)`` in ``0..K-1``.

    Raises:
        ValueError: when the shapes do not fit each other or the codebook is empty.
    """
    if x.ndim != 2 or codebook.ndim != 2 or x.shape[1] != codebook.shape[1] or not len(codebook):
        raise ValueError(f"need x (M, D) and a codebook (K >= 1, D), got {tuple(x.shape)} and {tuple(codebook.shape)}")
    return SEARCHES[choose("vq", x, codebook)](x, codebook, cosine)


def _search_reference(x: Tensor, codebook: Tensor, cosine: bool) -> Tensor:
    codes = codebook.float()
    if cosine:
        # The length of x does not change which cosine is largest, so only the codes are normalised.
        codes = F.normalize(codes, dim=-1)
        offset = codes.new_zeros(len(codes))
    else:
        # |x - e|^2 = |x|^2 - 2 x.e + |e|^2: the first term is the same for all codes and would only cost precision.
        offset = codes.square().sum(-1)
    scale = -1.0 if cosine else -2.0
    rows = max(1, MAX_SCORE_BYTES // (4 * len(codes)))  # of a chunk
    with torch.autocast(x.device.type, enabled=False):
        chunks = [torch.addmm(offset, part.float(), codes.T, alpha=scale).argmin(-1) for part in x.split(rows)]
    return torch.cat(chunks)


def _search_tiled(x: Tensor, codebook: Tensor, cosine: bool) -> Tensor:
    """Tiles of ``TILE`` rows times ``TILE`` codes, whose megabyte of scores stays in the processor's cache.

    torch's argmin is ten times slower than its minimum. So a first pass keeps the minimum of each tile, which says in
    which tile a row's code lies, and a second one searches that tile alone, with the rows of one tile together.
    """
    if len(x) < TILE // 2 or len(x) * len(codebook) <= 4 * TILE * TILE:  # too few to gain
        return _search_reference(x, codebook, cosine)
    codes = F.normalize(codebook.float(), dim=-1) if cosine else codebook.float()
    offset = codes.new_zeros(len(codes)) if cosine else codes.square().sum(-1)
    scale = -1.0 if cosine else -2.0
    columns = codes.T.contiguous()
    parts = [slice(start, start + TILE) for start in range(0, len(codes), TILE)]
    x = x.float()
    lowest = x.new_empty(len(parts), len(x))
    scores = x.new_empty(TILE * TILE)
    with torch.autocast("cpu", enabled=False):
        for start in range(0, len(x), TILE):
            rows = x[start:start + TILE]
            for number, part in enumerate(parts):
                tile = scores[:len(rows) * len(offset[part])].view(len(rows), -1)
                torch.addmm(offset[part], rows, columns[:, part], alpha=scale, out=tile)
                torch.amin(tile, -1, out=lowest[number, start:start + TILE])
        order = lowest.argmin(0)
        ordered, places = order.sort(stable=True)
        found = torch.empty_like(places)
        for number, rows in enumerate(places.split(torch.bincount(ordered, minlength=len(parts)).tolist())):
            part = parts[number]
            for some in rows.split(TILE):
                tile = torch.addmm(offset[part], x[some], columns[:, part], alpha=scale)
                found[some] = tile.argmin(-1) + part.start
    return found


def _search_triton(x: Tensor, codebook: Tensor, cosine: bool) -> Tensor:
    from photophone.kernels.fused import vq

    return vq.lookup(x[None], codebook[None], cosine, False, False, None)[0][0]


SEARCHES = {"reference": _search_reference, "cpu": _search_tiled, "triton": _search_triton}
"""Code of :func:`nearest_code` by the name that the dispatch rule gives."""


@torch.no_grad()
def lookup(x: Tensor, codebooks: Tensor, *, cosine: bool = False, statistics: bool = False,
           valid: Tensor | None = None) -> Lookup:
    """Nearest codes of rows, their values and, for moving averages, counts and sums.

    Args:
        x: float ``(M, D)``, or ``(Q, M, D)`` for Q codebooks; strided views are read as they are.
        codebooks: float ``(K, D)``, or ``(Q, K, D)``.
        cosine: search by cosine similarity; values are the codes as stored.
        statistics: counts and sums are wanted.
        valid: Bool ``(M,)``, rows that count in the statistics; None: all.

    Raises:
        ValueError: when the shapes do not fit each other or a codebook is empty.
    """
    single = codebooks.ndim == 2
    if (x.ndim != codebooks.ndim or x.ndim not in (2, 3) or x.shape[-1] != codebooks.shape[-1]
            or x.shape[:-2] != codebooks.shape[:-2] or not codebooks.shape[-2]):
        raise ValueError("need x (M, D) and codebooks (K >= 1, D), or both with an axis Q in front, "
                         f"got {tuple(x.shape)} and {tuple(codebooks.shape)}")
    _check_valid(valid, x.shape[-2])
    if choose("vq", x, codebooks, valid) == "triton":
        from photophone.kernels.fused import vq

        books = (x[None], codebooks[None]) if single else (x, codebooks)
        parts = vq.lookup(*books, cosine, True, statistics, valid)
        return Lookup(*(part[0] if single and part is not None else part for part in parts))
    if single:
        indices = nearest_code(x, codebooks, cosine=cosine)
        counts, sums = _statistics(x, indices, len(codebooks), valid) if statistics else (None, None)
        return Lookup(indices, F.embedding(indices, codebooks).float(), counts, sums)
    found = [lookup(part, book, cosine=cosine, statistics=statistics, valid=valid) for part, book in zip(x, codebooks)]
    return _stacked(found, torch.stack([one.values for one in found]))


@torch.no_grad()
def residual_lookup(x: Tensor, codebooks: Tensor, *, cosine: bool = False, statistics: bool = False,
                    valid: Tensor | None = None) -> Lookup:
    """Codes of residual stages: each codebook codes what those before it left over (arXiv 2107.03312).

    Args:
        x: float ``(M, D)``.
        codebooks: float ``(Q, K, D)``; one launch does all Q.
        cosine, statistics, valid: as in :func:`lookup`.

    Raises:
        ValueError: when the shapes do not fit each other or the codebooks are empty.
    """
    if x.ndim != 2 or codebooks.ndim != 3 or x.shape[1] != codebooks.shape[2] or 0 in codebooks.shape[:2]:
        raise ValueError("need x (M, D) and codebooks (Q >= 1, K >= 1, D), "
                         f"got {tuple(x.shape)} and {tuple(codebooks.shape)}")
    _check_valid(valid, len(x))
    if choose("vq", x, codebooks, valid) == "triton":
        from photophone.kernels.fused import vq

        return Lookup(*vq.residual_lookup(x, codebooks, cosine, statistics, valid))
    residual = x.float()
    found = []
    for codebook in codebooks:
        found.append(lookup(residual, codebook, cosine=cosine, statistics=statistics, valid=valid))
        residual = residual - found[-1].values
    return _stacked(found, torch.stack([one.values for one in found]).sum(0))


def _check_valid(valid: Tensor | None, rows: int) -> None:
    if valid is not None and (valid.dtype != torch.bool or tuple(valid.shape) != (rows,)):
        raise ValueError(f"valid must be Bool ({rows},), got {valid.dtype} {tuple(valid.shape)}")


def _statistics(x: Tensor, indices: Tensor, count: int, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    x, indices = (x.float(), indices) if valid is None else (x[valid].float(), indices[valid])
    counts = x.new_zeros(count).index_add_(0, indices, x.new_ones(len(x)))
    return counts, x.new_zeros(count, x.shape[1]).index_add_(0, indices, x)


def _stacked(found: list[Lookup], values: Tensor) -> Lookup:
    counts = None if found[0].counts is None else torch.stack([one.counts for one in found])
    sums = None if found[0].sums is None else torch.stack([one.sums for one in found])
    return Lookup(torch.stack([one.indices for one in found]), values, counts, sums)
