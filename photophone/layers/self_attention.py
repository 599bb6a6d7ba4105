"""Self-attention with one projection to queries, keys and values, rotary positions, and VAR's cosine form."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.kernels.rotary import rotate_into_cache
from photophone.layers.attention import attend
from photophone.layers.rotary import rotate
from photophone.layers.transformer import LayerCache

LARGEST_LOG_SCALE = math.log(100)


class SelfAttention(nn.Module):
    """Multi-head self-attention (B, N, C) -> (B, N, C) for generators.

    Args:
        dim: width C.
        num_heads: heads H; C must be a multiple of it, unless ``head_dim`` is given.
        num_kv_heads: heads of keys and values, which divide H: groups of queries share them; None: H.
        head_dim: width of a head; None: C/H.
        bias: of queries and values.
        key_bias: of keys, where there is a ``bias``.
        out_bias: of the output.
        cosine: queries and keys are unit vectors, and logits their products times a learned scale of each head, at
            most 100; the scale is stored as its logarithm (VAR, arXiv 2404.02905).
        rotary_halves: how rotary positions pair the channels, see :func:`photophone.layers.rotary.rotate`.
        gain: factor on the logits without ``cosine``, beside 1/sqrt(head_dim).

    Raises:
        ValueError: for a width that is not a multiple of the heads, or heads that are not one of those of the keys.
    """

    def __init__(self, dim: int, num_heads: int, *, num_kv_heads: int | None = None, head_dim: int | None = None,
                 bias: bool = True, key_bias: bool = True, out_bias: bool = True, cosine: bool = False,
                 rotary_halves: bool = False, gain: float = 1.0) -> None:
        super().__init__()
        if head_dim is None and dim % num_heads:
            raise ValueError(f"width {dim} is not a multiple of {num_heads} heads")
        self.num_heads, self.head_dim, self.gain = num_heads, head_dim or dim // num_heads, gain
        self.num_kv_heads, self.rotary_halves = num_kv_heads or num_heads, rotary_halves
        if num_heads % self.num_kv_heads:
            raise ValueError(f"{num_heads} heads cannot share {self.num_kv_heads} heads of keys")
        inner, kv = num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        self.to_qkv = nn.Linear(dim, inner + 2 * kv, bias=bias and key_bias)
        separate = bias and not key_bias
        self.q_bias = nn.Parameter(torch.zeros(inner)) if separate else None
        self.v_bias = nn.Parameter(torch.zeros(kv)) if separate else None
        self.log_scale = nn.Parameter(torch.full((1, num_heads, 1, 1), math.log(4.0))) if cosine else None
        self.to_out = nn.Linear(inner, dim, bias=out_bias)

    def forward(self, x: Tensor, mask: Tensor | None = None, rotary: Tensor | None = None,
                cache: LayerCache | None = None) -> Tensor:
        """x (B, N, C) -> (B, N, C).

        Args:
            mask: bool, broadcastable to (B, H, N, M), True where attention is allowed.
            rotary: table (N, head_dim/2, 2), or (B, 1, N, head_dim/2, 2), of :mod:`photophone.layers.rotary`.
            cache: keys and values of the M - N positions before x; those of x are appended.
        """
        if self.q_bias is None:
            qkv = self.to_qkv(x)
        else:
            bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
            qkv = F.linear(x, self.to_qkv.weight, bias)
        qkv = qkv.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        if rotary is not None and self.log_scale is None and isinstance(cache, LayerCache):
            start = cache.reserve(qkv.shape[2])
            queries = rotate_into_cache(qkv, rotary, cache.buffer, start, num_heads=self.num_heads,
                                        halves=self.rotary_halves, gain=self.gain)
            return self._merged(attend(queries, *cache.stored(), mask))
        # (B, H + 2H', N, d) -> (B, H, N, d) and 2 x (B, H', N, d)
        queries, keys, values = qkv.split([self.num_heads, self.num_kv_heads, self.num_kv_heads], dim=1)
        gain = self.gain
        if self.log_scale is not None:
            # attend() divides by sqrt(d), which the cosine form does not want
            gain = self.log_scale.clamp(max=LARGEST_LOG_SCALE).exp() * math.sqrt(self.head_dim)
            queries, keys = F.normalize(queries, dim=-1), F.normalize(keys, dim=-1)
        if rotary is not None:
            queries, keys = (rotate(x, rotary, self.rotary_halves) for x in (queries, keys))
        if cache is not None:
            keys, values = cache.append(keys, values)
        return self._merged(attend(queries * gain, keys, values, mask))

    def _merged(self, heads: Tensor) -> Tensor:
        return self.to_out(heads.transpose(1, 2).flatten(2))  # (B, H, N, d) -> (B, N, C)
