"""Transformer blocks that a condition modulates, in the orders of DiT (arXiv 2212.09748) and VAR (2404.02905)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.kernels.adaln import gate_residual
from photophone.layers.adaln import adaln_projection, modulated_norm, residual_norm
from photophone.layers.self_attention import SelfAttention
from photophone.layers.transformer import LayerCache

ORDERS = {
    "dit": ("shift1", "scale1", "gate1", "shift2", "scale2", "gate2"),
    "var": ("gate1", "gate2", "scale1", "scale2", "shift1", "shift2"),
}
"""Which sixth of the modulation is what: 1 for the attention, 2 for the feed-forward."""


class AdaLNBlock(nn.Module):
    """Attention and feed-forward with modulated norms without weights and gated residuals.

    Args:
        attention: maps (B, N, C) to (B, N, C).
        feed_forward: maps (..., C) to (..., C).
        dim: width C of x and condition.
        order: a name in ORDERS.
        rms: RMS norms instead of layer norms.
        shared: the condition arrives as a modulation (B, K, 6 C) that all blocks share, and the block adds an offset.
        eps: of the norms.
    """

    def __init__(self, attention: SelfAttention, feed_forward: nn.Module, dim: int, *, order: str = "dit",
                 rms: bool = False, shared: bool = False, eps: float = 1e-6) -> None:
        super().__init__()
        norm = nn.RMSNorm if rms else nn.LayerNorm
        self.order = ORDERS[order]
        self.norm1 = norm(dim, eps=eps, elementwise_affine=False)
        self.attention = attention
        self.norm2 = norm(dim, eps=eps, elementwise_affine=False)
        self.feed_forward = feed_forward
        self.modulation = None if shared else adaln_projection(dim, 6)
        self.offset = nn.Parameter(torch.zeros(6 * dim)) if shared else None

    def forward(self, x: Tensor, condition: Tensor, mask: Tensor | None = None, rotary: Tensor | None = None,
                cache: LayerCache | None = None) -> Tensor:
        """x (B, N, C) -> (B, N, C).

        Args:
            condition: (B, K, C), or (B, K, 6 C) when ``shared``; each of its K entries rules N / K tokens in a row.
            mask, rotary, cache: of the attention.
        """
        sixths = condition + self.offset if self.modulation is None else self.modulation(condition)
        if sixths.shape[1] > 1:
            sixths = sixths.repeat_interleave(x.shape[1] // sixths.shape[1], dim=1)
        part = dict(zip(self.order, sixths.chunk(6, dim=-1)))
        attended = self.attention(modulated_norm(self.norm1, x, part["shift1"], part["scale1"]), mask, rotary, cache)
        x, normed = residual_norm(self.norm2, x, part["gate1"], attended, part["shift2"], part["scale2"])
        return gate_residual(x, part["gate2"], self.feed_forward(normed))
