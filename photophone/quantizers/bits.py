"""Bit patterns: packing into indices and the entropy of independent bits. Pure functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from photophone.kernels.pack import pack_bits

MAX_BITS = 62
"""Bits that one index can pack (Long, kept positive)."""
MAX_GROUP_BITS = 16
"""Bits whose joint distribution the batch entropy may hold (2**16 numbers a token)."""


def unpack_bits(index: Tensor, count: int) -> Tensor:
    """Inverse of :func:`pack_bits`: Long ``(...)`` to Bool ``(..., count)``."""
    shifts = torch.arange(count - 1, -1, -1, device=index.device)
    return ((index[..., None] >> shifts) & 1).bool()


def joint_probabilities(p: Tensor) -> Tensor:
    """Distribution over all patterns of independent bits, in the order of :func:`pack_bits`.

    Args:
        p: probability that each bit is one ``(M, C)``.

    Returns:
        ``(M, 2**C)``.
    """
    joint = p.new_ones(len(p), 1)
    for bit in p.unbind(1):
        joint = torch.stack([joint * (1 - bit[:, None]), joint * bit[:, None]], dim=-1).flatten(1)  # (M, 2**k)
    return joint


def bit_entropies(logits: Tensor, group_bits: int, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Mean entropy of a token and entropy of the batch average, in nats, over all 2**C patterns.

    Bits of one token are independent given its logits, so its entropy is the sum over bits, exactly. The average
    over the batch does not factorise: it is exact within groups of ``group_bits`` neighbouring bits and summed over
    groups, an upper bound (arXiv 2406.07548, section 3).

    Args:
        logits: of each bit being one ``(M, C)``.
        group_bits: bits in a group.
        eps: inside the logarithm of the average, against an infinite gradient at 0.
    """
    if not len(logits):
        return logits.sum(), logits.sum()
    p = logits.sigmoid()
    row = -(p * F.logsigmoid(logits) + (1 - p) * F.logsigmoid(-logits)).sum(-1).mean()
    averages = [joint_probabilities(group).mean(0) for group in p.split(group_bits, dim=-1)]
    batch = sum(-(average * (average + eps).log()).sum() for average in averages)
    return row, batch


def bits_per_codebook(bits: int, num_codebooks: int) -> int:
    """Bits of one index; refuses what does not divide or does not fit a Long."""
    if bits < 1 or num_codebooks < 1 or bits % num_codebooks:
        raise ValueError(f"{bits} bits do not divide among {num_codebooks} codebooks")
    if bits // num_codebooks > MAX_BITS:
        raise ValueError(f"{bits // num_codebooks} bits an index, at most {MAX_BITS}: raise num_codebooks")
    return bits // num_codebooks


def indices_of(bits: Tensor, num_codebooks: int) -> Tensor:
    """Bits ``(B, N, C)`` to Long ``(B, N)``, or ``(B, Q, N)`` for Q groups of neighbouring bits."""
    if num_codebooks == 1:
        return pack_bits(bits)  # (B, N, C) -> (B, N)
    return pack_bits(bits.unflatten(-1, (num_codebooks, -1))).transpose(1, 2)  # (B, N, Q, C/Q) -> (B, Q, N)


def bits_of(tokens: Tensor, bits: int) -> Tensor:
    """Inverse of :func:`indices_of`: Bool ``(B, N, C)``."""
    if tokens.ndim == 2:
        return unpack_bits(tokens, bits)  # (B, N) -> (B, N, C)
    return unpack_bits(tokens.transpose(1, 2), bits).flatten(2)  # (B, Q, N) -> (B, N, Q, C/Q) -> (B, N, C)
