"""Chameleon's language model (arXiv 2405.09818): a Llama whose queries and keys have norms of their own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.layers.placed_llama import PlacedLlama

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


class Chameleon(PlacedLlama):
    """Embedded tokens (B, N, C) to normalised states (B, N, C).

    Args:
        dim, num_heads, hidden, depth, eps, num_kv_heads, rotary_base: see
            :class:`photophone.layers.placed_llama.PlacedLlama`.
        norm_rows: groups of heads that share a norm; None: each head has its own.
        post_norm: norms stand behind attention and feed-forward, as in the 34B model.
    """

    def __init__(self, dim: int, num_heads: int, hidden: int, depth: int, eps: float = 1e-5, *,
                 num_kv_heads: int | None = None, rotary_base: float = 10_000.0, norm_rows: int | None = None,
                 post_norm: bool = False) -> None:
        super().__init__(dim, num_heads, hidden, depth, eps, num_kv_heads=num_kv_heads, rotary_base=rotary_base,
                         qk_norm=lambda heads, width: HeadNorm(norm_rows or heads, width), post_norm=post_norm)
