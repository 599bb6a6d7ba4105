"""Self-attention with one projection to queries, keys and values, rotary positions, and VAR's cosine form."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.layers.attention import attend
from photophone.layers.rotary import rotate
from photophone.layers.transformer import LayerCache

LARGEST_LOG_SCALE = math.log(100)


class SelfAttention(nn.Module):
    """Multi-head self-attention (B, N, C) -> (B, N, C) for generators.

    Args:
        dim: width C.
        num_heads: heads H; C must be a multiple of it.
        bias: of queries and values.
        key_bias: of keys, where there is a ``bias``.
        out_bias: of the output.
        cosine: queries and keys are unit vectors, and logits their products times a learned scale of each head, at
            most 100; the scale is stored as its logarithm (VAR, arXiv 2404.02905).
        gain: factor on the logits without ``cosine``, beside 1/sqrt(C/H).

    Raises:
        ValueError: for a width that is not a multiple of the heads.
    """

    def __init__(self, dim: int, num_heads: int, *, bias: bool = True, key_bias: bool = True, out_bias: bool = True,
                 cosine: bool = False, gain: float = 1.0) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"width {dim} is not a multiple of {num_heads} heads")
        self.num_heads, self.head_dim, self.gain = num_heads, dim // num_heads, gain
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=bias and key_bias)
        separate = bias and not key_bias
        self.q_bias = nn.Parameter(torch.zeros(dim)) if separate else None
        self.v_bias = nn.Parameter(torch.zeros(dim)) if separate else None
        self.log_scale = nn.Parameter(torch.full((1, num_heads, 1, 1), math.log(4.0))) if cosine else None
        self.to_out = nn.Linear(dim, dim, bias=out_bias)

    def forward(self, x: Tensor, mask: Tensor | None = None, rotary: Tensor | None = None,
                cache: LayerCache | None = None) -> Tensor:
        """x (B, N, C) -> (B, N, C).

        Args:
            mask: bool, broadcastable to (B, H, N, M), True where attention is allowed.
            rotary: table (N, C/H/2, 2) of :mod:`photophone.layers.rotary`.
            cache: keys and values of the M - N positions before x; those of x are appended.
        """
        bias = self.to_qkv.bias
        if self.q_bias is not None:
            bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.to_qkv.weight, bias).unflatten(-1, (3, self.num_heads, self.head_dim))
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4)  # (B, N, 3, H, d) -> 3 x (B, H, N, d)
        gain = self.gain
        if self.log_scale is not None:
            # attend() divides by sqrt(d), which the cosine form does not want
            gain = self.log_scale.clamp(max=LARGEST_LOG_SCALE).exp() * math.sqrt(self.head_dim)
            queries, keys = F.normalize(queries, dim=-1), F.normalize(keys, dim=-1)
        if rotary is not None:
            queries, keys = rotate(queries, rotary), rotate(keys, rotary)
        if cache is not None:
            keys, values = cache.append(keys, values)
        out = attend(queries * gain, keys, values, mask)
        return self.to_out(out.transpose(1, 2).flatten(2))  # (B, H, N, d) -> (B, N, C)
