"""Nearest-code search: the plain torch reference that a fused kernel has to equal."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SCORE_BYTES = 64 * 2**20
"""Upper limit of the score matrix (rows of x times codes, float32) that is held at any one time."""


@torch.no_grad()
def nearest_code(x: Tensor, codebook: Tensor, *, cosine: bool = False, max_bytes: int = MAX_SCORE_BYTES) -> Tensor:
    """Index of the code nearest to each row, in float32.

    Args:
        x: float ``(M, D)``.
        codebook: float ``(K, D)``.
        cosine: the largest cosine similarity instead of the smallest Euclidean distance.
        max_bytes: rows are processed in chunks so that the scores stay below this many bytes (one row at least).

    Returns:
        Long ``(M,)`` in ``0..K-1``.

    Raises:
        ValueError: when the shapes do not fit each other or the codebook is empty.
    """
    if x.ndim != 2 or codebook.ndim != 2 or x.shape[1] != codebook.shape[1] or not len(codebook):
        raise ValueError(f"need x (M, D) and a codebook (K >= 1, D), got {tuple(x.shape)} and {tuple(codebook.shape)}")
    codes = codebook.float()
    if cosine:
        # The length of x does not change which cosine is largest, so only the codes are normalised.
        codes, offset = F.normalize(codes, dim=-1), codes.new_zeros(len(codes))
    else:
        # |x - e|^2 = |x|^2 - 2 x.e + |e|^2: the first term is the same for all codes and would only cost precision.
        offset = codes.square().sum(-1)
    scale = -1.0 if cosine else -2.0
    rows = max(1, max_bytes // (4 * len(codes)))
    with torch.autocast(x.device.type, enabled=False):
        chunks = [torch.addmm(offset, part.float(), codes.T, alpha=scale).argmin(-1) for part in x.split(rows)]
    return torch.cat(chunks)
