"""Embeddings of a scalar time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def sinusoidal_embedding(t: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Cosines, then sines, of ``t`` at ``dim / 2`` geometric frequencies (1 down to ``1 / max_period``).

    Args:
        t: times of any shape ``(...)``; computed in float32.
        dim: even size of the embedding.

    Returns:
        Float32 ``(..., dim)``.

    Raises:
        ValueError: when ``dim`` is odd.
    """
    if dim % 2:
        raise ValueError(f"the dimension of a sinusoidal embedding must be even, got {dim}")
    half = dim // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t.float()[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimestepEmbedding(nn.Module):
    """Sinusoidal embedding of a time followed by Linear, SiLU, Linear (as in ADM, arXiv 2105.05233).

    Args:
        width: size of the output.
        frequency_dim: size of the sinusoidal embedding.
        time_scale: factor on ``t`` first: 1 for integer diffusion steps, 1000 for flow times in [0, 1].
    """

    def __init__(self, width: int, frequency_dim: int = 256, time_scale: float = 1.0) -> None:
        super().__init__()
        self.frequency_dim, self.time_scale = frequency_dim, time_scale
        self.mlp = nn.Sequential(nn.Linear(frequency_dim, width), nn.SiLU(), nn.Linear(width, width))
        nn.init.normal_(self.mlp[0].weight, std=0.02)
        nn.init.normal_(self.mlp[2].weight, std=0.02)

    def forward(self, t: Tensor) -> Tensor:
        """Times ``(...)`` to embeddings ``(..., width)``."""
        waves = sinusoidal_embedding(t.float() * self.time_scale, self.frequency_dim)
        return self.mlp(waves.to(self.mlp[0].weight.dtype))
