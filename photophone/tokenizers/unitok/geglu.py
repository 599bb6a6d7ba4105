"""The feed-forward of ViTamin (arXiv 2404.02132): a gate, and a norm of its own in front."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-6


class NormedGEGLU(nn.Module):
    """``down(gelu(gate(y)) * up(y))`` of ``y = norm(x)`` (arXiv 2002.05202): (B, N, C) -> (B, N, C).

    Args:
        dim: width C.
        hidden: width inside.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.gate = nn.Linear(dim, hidden)
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, N, C) -> (B, N, C)."""
        x = self.norm(x)
        return self.down(F.gelu(self.gate(x), approximate="tanh") * self.up(x))
