"""The Llama of TASTE's spoken language model (Llama 3.2, arXiv 2407.21783)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.decoding.loop import KVCache
from photophone.layers.left_padding import attention_mask, positions
from photophone.layers.llama_block import LlamaStack
from photophone.layers.rotary import llama3_factors

TABLE = 512
"""Rotary tables are made for multiples of so many positions."""


@lru_cache(maxsize=8)
def rotary_table(length: int, head_dim: int, base: float, factors: Sequence[float] | None, rounded: bool,
                 device: torch.device) -> Tensor:
    """Table (length, head_dim / 2, 2), see :mod:`photophone.layers.rotary`.

    Args:
        factors: divisors of the frequencies.
        rounded: frequencies have the precision of bfloat16, as they got it when the authors cast the whole model.
    """
    with torch.inference_mode(False), torch.device("cpu"):
        frequencies = 1.0 / base ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
        if factors is not None:
            frequencies = frequencies / torch.tensor(factors)
        if rounded:
            frequencies = frequencies.bfloat16().float()
        angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
        return torch.stack([angles.cos(), angles.sin()], dim=-1).to(device)


class TextLlama(nn.Module):
    """Embedded positions (B, N, width) to states of the same shape; ids are embedded by the matrix of the output.

    Args:
        vocab_size, width, depth, num_heads, num_kv_heads, hidden, eps: of Llama.
        rotary_base: of the rotary frequencies.
        rotary_scaling: see :func:`photophone.layers.rotary.llama3_factors`.
        rounded: see :func:`rotary_table`.
    """

    def __init__(self, vocab_size: int, width: int, depth: int, num_heads: int, num_kv_heads: int, hidden: int,
                 eps: float = 1e-5, rotary_base: float = 500_000.0, rotary_scaling: Mapping[str, Any] | None = None,
                 rounded: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.backbone = LlamaStack(width, num_heads, hidden, depth, eps, num_kv_heads=num_kv_heads,
                                   rotary_halves=True)
        self.head_dim, self.num_kv_heads, self.rotary_base, self.rounded = (width // num_heads, num_kv_heads,
                                                                           rotary_base, rounded)
        factors = llama3_factors(self.head_dim, rotary_base, rotary_scaling)
        self.factors = None if factors is None else tuple(factors)

    def states(self, x: Tensor, mask: Tensor, cache: KVCache | None = None) -> Tensor:
        """Embedded positions (B, N, C) to states (B, N, C).

        Args:
            mask: bool (B, M), False at padding in front, of these positions and those in the cache.
            cache: keys and values of the positions before; x is appended to it.
        """
        count, size = x.shape[1], mask.shape[1]
        table = rotary_table(-(-size // TABLE) * TABLE, self.head_dim, self.rotary_base, self.factors, self.rounded,
                             x.device)
        rotary = table[positions(mask)[:, size - count:]][:, None]
        seen = mask[:, None, None] if count == 1 else attention_mask(mask)[:, :, size - count:]
        return self.backbone(x, seen, rotary, None if cache is None else cache.layers)

    def logits(self, states: Tensor) -> Tensor:
        """States (..., C) to float32 (..., vocab_size)."""
        return F.linear(states, self.embedding.weight).float()

    def cache(self, rows: int, length: int) -> KVCache:
        """An empty memory of so many positions."""
        weight = self.embedding.weight
        return KVCache(len(self.backbone.blocks), rows, self.num_kv_heads, length, self.head_dim, weight.device,
                       weight.dtype)
