"""HART's transformer block: one norm for both halves, and three ways for the prompt to modulate it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.layers.adaln import Modulation, adaln_projection, modulated_block, modulated_norm
from photophone.layers.adaln_block import ORDERS
from photophone.layers.llama_block import GatedFeedForward
from photophone.layers.transformer import FeedForward
from photophone.layers.var_attention import VARAttention

MODULATIONS = ("blocks", "table", "none")
HIDDEN_MULTIPLE = 256


def gated_width(width: int, ratio: float) -> int:
    """Hidden width of a gated feed-forward that costs as much as a plain one of this ratio."""
    return int(width * ratio * 2 / 3 + HIDDEN_MULTIPLE - 1) // HIDDEN_MULTIPLE * HIDDEN_MULTIPLE


class HARTBlock(nn.Module):
    """Attention and feed-forward with residuals, x (B, N, C) to the same.

    Args:
        width, num_heads: of the attention.
        mlp_ratio: hidden width over the width; that of a gated feed-forward is two thirds of it, raised to a multiple
            of 256.
        cosine: see :class:`photophone.layers.var_attention.VARAttention`.
        gated: a gated feed-forward, else one with GELU.
        rms: an RMS norm with weights, else a layer norm without.
        modulation: "blocks" for a projection of the prompt in each block, "table" for offsets to the prompt's average,
            "none" for plain norms.
        eps: of the norm.

    Raises:
        ValueError: an unknown modulation.
    """

    def __init__(self, width: int, num_heads: int, mlp_ratio: float, *, cosine: bool, gated: bool, rms: bool,
                 modulation: str, eps: float) -> None:
        super().__init__()
        if modulation not in MODULATIONS:
            raise ValueError(f"modulation must be one of {', '.join(MODULATIONS)}, got {modulation!r}")
        self.norm = nn.RMSNorm(width, eps=eps) if rms else nn.LayerNorm(width, eps=eps, elementwise_affine=False)
        self.attention = VARAttention(width, num_heads, cosine)
        self.feed_forward = GatedFeedForward(width, gated_width(width, mlp_ratio)) if gated else \
            FeedForward(width, mlp_ratio)
        self.modulation = adaln_projection(width, 6) if modulation == "blocks" else None
        self.offset = nn.Parameter(torch.randn(6 * width) / width**0.5) if modulation == "table" else None

    def forward(self, x: Tensor, pooled: Tensor, **options) -> Tensor:
        """x (B, N, C) -> (B, N, C); the prompt pooled (B, 1, C); options of the attention."""
        if self.modulation is None and self.offset is None:
            x = x + self.attention(modulated_norm(self.norm, x), **options)
            return x + self.feed_forward(modulated_norm(self.norm, x))
        sixths = pooled.repeat(1, 1, 6) + self.offset if self.modulation is None else self.modulation(pooled)
        modulation = Modulation(**dict(zip(ORDERS["var"], sixths.chunk(6, dim=-1), strict=True)))
        return modulated_block(x, modulation, self.norm, lambda normed: self.attention(normed, **options), self.norm,
                               self.feed_forward)
