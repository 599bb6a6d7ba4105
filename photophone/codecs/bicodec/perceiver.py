"""The perceiver resampler: a fixed number of latents read a sequence of any length (arXiv 2204.14198, 2304.09116)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class GEGLU(nn.Module):
    """Half of the channels times GELU of the other half."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., 2C) to (..., C)."""
        x, gate = x.chunk(2, dim=-1)
        return x * functional.gelu(gate)


class LatentAttention(nn.Module):
    """Latents (B, L, dim) attend to themselves and to a context (B, T, dim)."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.to_q = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * heads * head_dim, bias=False)
        self.to_out = nn.Linear(heads * head_dim, dim, bias=False)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, L, dim) to the same; ``context`` (B, T, dim)."""
        keys, values = self.to_kv(torch.cat([x, context], dim=1)).chunk(2, dim=-1)
        queries, keys, values = (part.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, heads, N, head_dim)
                                 for part in (self.to_q(x), keys, values))
        x = functional.scaled_dot_product_attention(queries, keys, values)
        return self.to_out(x.transpose(1, 2).flatten(2))  # (B, heads, L, head_dim) -> (B, L, heads * head_dim)


class PerceiverResampler(nn.Module):
    """A sequence (B, T, context_dim) to latents (B, num_latents, dim).

    Args:
        dim: of the latents.
        context_dim: of the sequence.
        num_latents: how many.
        depth: layers of attention and MLP.
        heads, head_dim: of the attention.
    """

    def __init__(self, dim: int, context_dim: int, num_latents: int, depth: int = 2, heads: int = 8,
                 head_dim: int = 64) -> None:
        super().__init__()
        hidden = int(dim * 4 * 2 / 3)
        self.proj_context = nn.Linear(context_dim, dim) if context_dim != dim else nn.Identity()
        self.latents = nn.Parameter(0.02 * torch.randn(num_latents, dim))
        self.layers = nn.ModuleList(
            nn.ModuleList([LatentAttention(dim, heads, head_dim),
                           nn.Sequential(nn.Linear(dim, 2 * hidden), GEGLU(), nn.Linear(hidden, dim))])
            for _ in range(depth))
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, context: Tensor) -> Tensor:
        """Latents (B, num_latents, dim) of a context (B, T, context_dim)."""
        context = self.proj_context(context)
        x = self.latents.expand(len(context), -1, -1)
        for attention, mlp in self.layers:
            x = x + attention(x, context)
            x = x + mlp(x)
        return functional.normalize(x, dim=-1) * x.shape[-1] ** 0.5 * self.gamma
