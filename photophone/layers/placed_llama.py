"""A Llama whose callers say where each embedded position stands and what it sees: for rows padded on the left."""

from __future__ import annotations

from torch import Tensor

from photophone.layers.llama_block import LlamaStack, run_blocks
from photophone.layers.rotary import sequence_rotary
from photophone.layers.transformer import LayerCache

TABLE = 512
"""Rotary tables are made for multiples of so many positions."""


def rotary_at(places: Tensor, head_dim: int, base: float) -> Tensor:
    """Rotary table (B, 1, n, head_dim / 2, 2) of places Long (B, n)."""
    length = -(-(int(places.max()) + 1) // TABLE) * TABLE
    return sequence_rotary(length, head_dim, base, device=places.device)[places][:, None]


class PlacedLlama(LlamaStack):
    """Embedded tokens (B, N, C) to normalised states (B, N, C).

    Args:
        dim, num_heads, hidden, depth, eps, num_kv_heads, options: see
            :class:`photophone.layers.llama_block.LlamaBlock`.
        head_dim: channels of a head; None: an equal share of ``dim``.
        rotary_base: of the rotary positions.
    """

    def __init__(self, dim: int, num_heads: int, hidden: int, depth: int, eps: float = 1e-5, *,
                 num_kv_heads: int | None = None, head_dim: int | None = None, rotary_base: float = 10_000.0,
                 **options) -> None:
        super().__init__(dim, num_heads, hidden, depth, eps, num_kv_heads=num_kv_heads, head_dim=head_dim,
                         rotary_halves=True, **options)
        self.num_kv_heads, self.head_dim = num_kv_heads or num_heads, head_dim or dim // num_heads
        self.rotary_base = rotary_base

    def at(self, x: Tensor, places: Tensor, seen: Tensor,
           caches: list[LayerCache] | None = None, depth: int | None = None) -> Tensor:
        """States of embedded tokens (B, n, C) at places Long (B, n), which see what bool (B, 1, n, M) says.

        Args:
            depth: only through so many blocks, and without the norm behind all.
        """
        table = rotary_at(places, self.head_dim, self.rotary_base)
        return self(x, seen, table, caches) if depth is None else run_blocks(self.blocks[:depth], x, seen, table)

    def caches(self, rows: int, length: int) -> list[LayerCache]:
        """An empty cache of each block."""
        weight = self.norm.weight
        return [LayerCache(rows, self.num_kv_heads, length, self.head_dim, weight.device, weight.dtype)
                for _ in self.blocks]
