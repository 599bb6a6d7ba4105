"""Self-attention with one projection to queries, keys and values, rotary positions and shared heads of keys."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from photophone.kernels.rotary import rotate, rotate_into_cache
from photophone.layers.attention import attend, merge_heads
from photophone.layers.transformer import LayerCache

MakeNorm = Callable[[int, int], nn.Module]


class SelfAttention(nn.Module):
    """Multi-head self-attention (B, N, C) -> (B, N, C) for generators.

    Args:
        dim: width C.
        num_heads: heads H; C must be a multiple of it, unless ``head_dim`` is given.
        num_kv_heads: heads H' of keys and values, which divide H: groups of queries share them; None: H.
        head_dim: width d of a head; None: C/H.
        bias: of queries, keys and values.
        out_bias: of the output.
        rotary_halves: how rotary positions pair the channels, see :func:`photophone.kernels.rotary.rotate`.
        qk_norm: makes the norms of queries and keys (B, H, N, d), before they turn, from H (or H') and d; None: none.

    Raises:
        ValueError: for a width that is not a multiple of the heads, or heads that are not one of those of the keys.
    """

    def __init__(self, dim: int, num_heads: int, *, num_kv_heads: int | None = None, head_dim: int | None = None,
                 bias: bool = True, out_bias: bool = True, rotary_halves: bool = False,
                 qk_norm: MakeNorm | None = None) -> None:
        super().__init__()
        if head_dim is None and dim % num_heads:
            raise ValueError(f"width {dim} is not a multiple of {num_heads} heads")
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads or num_heads
        self.head_dim = head_dim or dim // num_heads
        self.rotary_halves = rotary_halves
        if num_heads % self.num_kv_heads:
            raise ValueError(f"{num_heads} heads cannot share {self.num_kv_heads} heads of keys")
        inner = num_heads * self.head_dim
        self.to_qkv = nn.Linear(dim, inner + 2 * self.num_kv_heads * self.head_dim, bias=bias)
        self.to_out = nn.Linear(inner, dim, bias=out_bias)
        self.normed = qk_norm is not None
        if qk_norm is not None:
            self.q_norm = qk_norm(num_heads, self.head_dim)
            self.k_norm = qk_norm(self.num_kv_heads, self.head_dim)

    def forward(self, x: Tensor, mask: Tensor | None = None, rotary: Tensor | None = None,
                cache: LayerCache | None = None, target_rotary: Tensor | None = None) -> Tensor:
        """x (B, N, C) -> (B, N, C).

        Args:
            mask: bool, broadcastable to (B, H, N, M), True where attention is allowed.
            rotary: table (N, d/2, 2), or (B, 1, N, d/2, 2), of :mod:`photophone.layers.rotary`.
            cache: keys and values of the M - N positions before x; those of x are appended.
            target_rotary: a table by which the queries of the second half of the heads turn instead.
        """
        heads = self.to_qkv(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, H + 2 H', N, d)
        if cache is not None and rotary is not None and target_rotary is None and not self.normed:
            # a step of decoding: one kernel turns queries and keys and writes keys and values where they stay
            start = cache.reserve(x.shape[1])
            queries = rotate_into_cache(heads, rotary, cache.buffer, start, num_heads=self.num_heads,
                                        halves=self.rotary_halves)
            keys, values = cache.stored()
        else:
            queries, keys, values = heads.split([self.num_heads, self.num_kv_heads, self.num_kv_heads], dim=1)
            if self.normed:
                queries, keys = self.q_norm(queries), self.k_norm(keys)
            if rotary is not None:
                queries = self._turn(queries, rotary, target_rotary)
                keys = rotate(keys, rotary, self.rotary_halves)
            if cache is not None:
                keys, values = cache.append(keys, values)
        return self.to_out(merge_heads(attend(queries, keys, values, mask)))

    def _turn(self, queries: Tensor, rotary: Tensor, target_rotary: Tensor | None) -> Tensor:
        if target_rotary is None:
            return rotate(queries, rotary, self.rotary_halves)
        tables = zip(queries.chunk(2, dim=1), (rotary, target_rotary), strict=True)
        return torch.cat([rotate(heads, table, self.rotary_halves) for heads, table in tables], dim=1)
