"""Embeddings of a scalar time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def sinusoidal_embedding(t: Tensor, dim: int, max_period: float = 10_000.0, *, sine_first: bool = False) -> Tensor:
    """Cosines, then sines, of ``t`` at ``dim / 2`` geometric frequencies (1 down to just above ``1 / max_period``).

    Args:
        t: times of any shape ``(...)``; computed in float32.
        dim: even size of the embedding.
        sine_first: sines, then cosines, and the last frequency is ``1 / max_period`` itself: the form of Matcha-TTS
            (arXiv 2309.03199), which VoxCPM and CosyVoice took over.

    Returns:
        Float32 ``(..., dim)``.

    Raises:
        ValueError: when ``dim`` is odd.
    """
    if dim % 2:
        raise ValueError(f"the dimension of a sinusoidal embedding must be even, got {dim}")
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=t.device)
    if sine_first:
        angles = t.float()[..., None] * torch.exp(steps * -(math.log(max_period) / max(half - 1, 1)))
        return torch.cat([angles.sin(), angles.cos()], dim=-1)
    angles = t.float()[..., None] * torch.exp(-math.log(max_period) * steps / half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimestepEmbedding(nn.Module):
    """Sinusoidal embedding of a time followed by Linear, SiLU, Linear (as in ADM, arXiv 2105.05233).

    Args:
        width: size of the output.
        frequency_dim: size of the sinusoidal embedding.
        time_scale: factor on ``t`` first: 1 for integer diffusion steps, 1000 for flow times in [0, 1].
        sine_first: see :func:`sinusoidal_embedding`.
    """

    def __init__(self, width: int, frequency_dim: int = 256, time_scale: float = 1.0, *,
                 sine_first: bool = False) -> None:
        super().__init__()
        self.frequency_dim = frequency_dim
        self.time_scale = time_scale
        self.sine_first = sine_first
        self.mlp = nn.Sequential(nn.Linear(frequency_dim, width), nn.SiLU(), nn.Linear(width, width))
        nn.init.normal_(self.mlp[0].weight, std=0.02)
        nn.init.normal_(self.mlp[2].weight, std=0.02)

    def forward(self, t: Tensor) -> Tensor:
        """Times ``(...)`` to embeddings ``(..., width)``."""
        waves = sinusoidal_embedding(t.float() * self.time_scale, self.frequency_dim, sine_first=self.sine_first)
        return self.mlp(waves.to(self.mlp[0].weight.dtype))


def grid_sinusoids(side: int, width: int) -> Tensor:
    """Fixed positions (side * side, width) of a square grid, row by row, as DiT has them (arXiv 2212.09748).

    The column's, then the row's, each sines, then cosines, at width / 4 geometric frequencies.

    Raises:
        ValueError: width is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"positions of two axes need a width that is a multiple of 4, got {width}")
    frequencies = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    line = torch.arange(side, dtype=torch.float64)
    parts = []
    for axis in (line.repeat(side), line.repeat_interleave(side)):
        angles = axis[:, None] * frequencies
        parts += [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=-1).float()
