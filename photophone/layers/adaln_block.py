"""Transformer blocks that a condition modulates, in the orders of DiT (arXiv 2212.09748) and VAR (2404.02905)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from photophone.layers.adaln import Modulation, adaln_projection, modulated_block

ORDERS = {
    "dit": Modulation._fields,
    "var": ("gate1", "gate2", "scale1", "scale2", "shift1", "shift2"),
}
"""Which sixth of the projection is what; see :class:`photophone.layers.adaln.Modulation`."""


class AdaLNBlock(nn.Module):
    """Attention and feed-forward with modulated norms and gated residuals.

    Args:
        attention: maps (B, N, C), and what else it takes, to (B, N, C).
        feed_forward: maps (..., C) to (..., C).
        dim: width C of x and condition.
        order: a name in ORDERS.
        rms: RMS norms instead of layer norms.
        shared: the condition arrives as a modulation (B, K, 6 C) that all blocks share, and the block adds an offset.
        eps: of the norms.
        affine: the norms have weights of their own.
    """

    def __init__(self, attention: nn.Module, feed_forward: nn.Module, dim: int, *, order: str = "dit",
                 rms: bool = False, shared: bool = False, eps: float = 1e-6, affine: bool = False) -> None:
        super().__init__()
        norm = nn.RMSNorm if rms else nn.LayerNorm
        self.order = ORDERS[order]
        self.norm1 = norm(dim, eps=eps, elementwise_affine=affine)
        self.attention = attention
        self.norm2 = norm(dim, eps=eps, elementwise_affine=affine)
        self.feed_forward = feed_forward
        self.modulation = None if shared else adaln_projection(dim, 6)
        self.offset = nn.Parameter(torch.zeros(6 * dim)) if shared else None

    def forward(self, x: Tensor, condition: Tensor, *arguments: Any, **options: Any) -> Tensor:
        """x (B, N, C) -> (B, N, C).

        Args:
            condition: (B, K, C), or (B, K, 6 C) when ``shared``; each of its K entries rules N / K tokens in a row.
            arguments, options: of the attention, behind its x: mask, positions, cache.
        """
        sixths = condition + self.offset if self.modulation is None else self.modulation(condition)
        if sixths.shape[1] > 1:
            sixths = sixths.repeat_interleave(x.shape[1] // sixths.shape[1], dim=1)
        modulation = Modulation(**dict(zip(self.order, sixths.chunk(6, dim=-1), strict=True)))

        def attend(normed: Tensor) -> Tensor:
            return self.attention(normed, *arguments, **options)

        return modulated_block(x, modulation, self.norm1, attend, self.norm2, self.feed_forward)
