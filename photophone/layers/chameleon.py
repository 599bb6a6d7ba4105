"""Chameleon's language model (arXiv 2405.09818): a Llama whose queries and keys have norms of their own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.layers.llama_block import LlamaStack, run_blocks
from photophone.layers.rotary import sequence_rotary
from photophone.layers.transformer import LayerCache

TABLE = 512
"""Rotary tables are made for multiples of so many positions."""
NORM_EPS = 1e-5


class HeadNorm(nn.Module):
    """Layer norm of each head (B, H, N, d) with weights for each of ``rows`` groups of neighbouring heads."""

    def __init__(self, rows: int, head_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(rows, head_dim))
        self.bias = nn.Parameter(torch.zeros(rows, head_dim))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, H, N, d) to the same."""
        weight, bias = (part.repeat_interleave(x.shape[1] // len(part), dim=0)[:, None]
                        for part in (self.weight, self.bias))
        return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS) * weight + bias


class Chameleon(LlamaStack):
    """Embedded tokens (B, N, C) to normalised states (B, N, C).

    Args:
        dim, num_heads, hidden, depth, eps, num_kv_heads: see :class:`photophone.layers.llama_block.LlamaBlock`.
        rotary_base: of the rotary positions.
        norm_rows: groups of heads that share a norm; None: each head has its own.
        post_norm: norms stand behind attention and feed-forward, as in the 34B model.
    """

    def __init__(self, dim: int, num_heads: int, hidden: int, depth: int, eps: float = 1e-5, *,
                 num_kv_heads: int | None = None, rotary_base: float = 10_000.0, norm_rows: int | None = None,
                 post_norm: bool = False) -> None:
        super().__init__(dim, num_heads, hidden, depth, eps, num_kv_heads=num_kv_heads, rotary_halves=True,
                         qk_norm=lambda heads, width: HeadNorm(norm_rows or heads, width), post_norm=post_norm)
        self.num_kv_heads, self.head_dim, self.rotary_base = num_kv_heads or num_heads, dim // num_heads, rotary_base

    def at(self, x: Tensor, places: Tensor, seen: Tensor,
           caches: list[LayerCache] | None = None, depth: int | None = None) -> Tensor:
        """States of embedded tokens (B, n, C) at places Long (B, n), which see what bool (B, 1, n, M) says.

        Args:
            depth: only through so many blocks, and without the norm behind all.
        """
        length = -(-(int(places.max()) + 1) // TABLE) * TABLE
        table = sequence_rotary(length, self.head_dim, self.rotary_base, device=x.device)
        if depth is not None:
            return run_blocks(self.blocks[:depth], x, seen, table[places][:, None])
        return self(x, seen, table[places][:, None], caches)

    def caches(self, rows: int, length: int) -> list[LayerCache]:
        """An empty cache of each block."""
        weight = self.norm.weight
        return [LayerCache(rows, self.num_kv_heads, length, self.head_dim, weight.device, weight.dtype)
                for _ in self.blocks]
