"""The self-attention of VAR (arXiv 2404.02905) and HART (2410.10812): by cosine with a learned scale of each
head, or by plain products."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.layers.attention import attend, merge_heads
from photophone.layers.transformer import LayerCache, Rotation

LARGEST_LOG_SCALE = math.log(100)  # logits of unit vectors stay within -100..100
PLAIN_GAIN = 0.25  # the official factor on plain logits, beside 1/sqrt(d)


class VARAttention(nn.Module):
    """Multi-head self-attention (B, N, C) -> (B, N, C) whose keys have no bias.

    Args:
        dim: width C.
        num_heads: heads H; C must be a multiple of it.
        cosine: queries and keys are unit vectors, and logits their products times a learned scale of each head, at
            most 100, which is stored as its logarithm. Else logits are products times PLAIN_GAIN / sqrt(C/H).

    Raises:
        ValueError: for a width that is not a multiple of the heads.
    """

    def __init__(self, dim: int, num_heads: int, cosine: bool = True) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"width {dim} is not a multiple of {num_heads} heads")
        self.head_dim = dim // num_heads
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.full((1, num_heads, 1, 1), math.log(4.0))) if cosine else None
        self.to_out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: LayerCache | None = None,
                rotate: Rotation | None = None) -> Tensor:
        """x (B, N, C) -> (B, N, C).

        Args:
            mask: bool, broadcastable to (B, H, N, M), True where attention is allowed.
            cache: keys and values of the M - N positions before x; those of x are appended.
            rotate: rotary embedding of queries and keys, behind their normalisation.
        """
        # the weights have two biases for one product: that of the keys, which would change nothing, is left out
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.to_qkv.weight, bias)
        queries, keys, values = qkv.unflatten(-1, (3, -1, self.head_dim)).permute(2, 0, 3, 1, 4)  # (B, H, N, d) each
        if self.log_scale is None:
            scale = PLAIN_GAIN * self.head_dim**-0.5
        else:
            queries = F.normalize(queries, dim=-1) * self.log_scale.clamp(max=LARGEST_LOG_SCALE).exp()
            keys = F.normalize(keys, dim=-1)
            scale = 1.0
        if rotate is not None:
            queries, keys = rotate(queries), rotate(keys)
        if cache is not None:
            keys, values = cache.append(keys, values)
        return self.to_out(merge_heads(attend(queries, keys, values, mask, scale=scale)))
