"""A compressed spectrogram to latents, and latents to maps of all levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.codecs.music2latent.blocks import Downsample, Levels, ResBlock, Upsample, conv, group_norm


class Stage(nn.Module):
    """Residual blocks of one level, then a step to another: (B, C, F, T) -> (B, C', F', T')."""

    def __init__(self, blocks: Sequence[ResBlock], resample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.resample = nn.Identity() if resample is None else resample

    def forward(self, x: Tensor) -> Tensor:
        return self.resample(self.blocks(x))


class LatentEncoder(nn.Module):
    """Spectrograms (B, 2, F, T) to latents (B, D, N) in [-1, 1], N = T / time_factor.

    Args:
        levels: sizes.
        layers: residual blocks of each level.
        attention: whether these have attention.
        heads: of it.
        hidden_dim, hidden_layers: width and number of the blocks behind, which see no frequencies any more.
        latent_dim: D.
    """

    def __init__(self, levels: Levels, layers: Sequence[int], attention: Sequence[bool], heads: int, hidden_dim: int,
                 hidden_layers: int, latent_dim: int) -> None:
        super().__init__()
        width = levels.widths[0]
        self.conv_in = conv(2, width, 3)
        self.gain = nn.Parameter(torch.ones(1, 1, levels.bins, 1))
        stages = []
        for level, count in enumerate(layers):
            blocks = []
            for _ in range(count):
                blocks.append(ResBlock(width, levels.widths[level], heads=heads if attention[level] else None))
                width = levels.widths[level]
            last = level == len(layers) - 1
            step = None if last else Downsample(width, width, levels.frequency_only[level], norm=True)
            stages.append(Stage(blocks, step))
        self.stages = nn.Sequential(*stages)
        self.norm_features = group_norm(width)
        self.proj_in = conv(width * levels.last_bins, hidden_dim, 1, flat=True)
        self.blocks = nn.Sequential(*(ResBlock(hidden_dim, hidden_dim, flat=True) for _ in range(hidden_layers)))
        self.norm_out = group_norm(hidden_dim)
        self.conv_out = conv(hidden_dim, latent_dim, 1, flat=True)

    def features(self, x: Tensor) -> Tensor:
        """What the latents are computed from: (B, C * F', N), the last level's channels and frequencies."""
        x = self.gain * self.conv_in(x)
        x = self.stages(x)
        return self.norm_features(x).flatten(1, 2)  # (B, C, F', N) -> (B, C * F', N)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj_in(self.features(x))
        x = self.blocks(x)
        return self.conv_out(F.silu(self.norm_out(x))).tanh()


class PyramidDecoder(nn.Module):
    """Latents (B, D, N) to one map (B, C, F, T) for each level, level 0 first.

    Args:
        levels, layers, attention, heads, hidden_dim, hidden_layers, latent_dim: of :class:`LatentEncoder`.
    """

    def __init__(self, levels: Levels, layers: Sequence[int], attention: Sequence[bool], heads: int, hidden_dim: int,
                 hidden_layers: int, latent_dim: int) -> None:
        super().__init__()
        self.last_bins = levels.last_bins
        self.conv_in = conv(latent_dim, hidden_dim, 1, flat=True)
        self.blocks = nn.Sequential(*(ResBlock(hidden_dim, hidden_dim, flat=True) for _ in range(hidden_layers)))
        self.proj_out = conv(hidden_dim, levels.widths[-1] * levels.last_bins, 1, flat=True)
        self.stages = nn.ModuleList()
        for level in reversed(range(len(layers))):
            width = levels.widths[level]
            blocks = [ResBlock(width, width, heads=heads if attention[level] else None) for _ in range(layers[level])]
            step = Upsample(width, levels.widths[level - 1], levels.frequency_only[level - 1]) if level else None
            self.stages.append(Stage(blocks, step))

    def forward(self, latents: Tensor) -> list[Tensor]:
        x = self.proj_out(self.blocks(self.conv_in(latents)))
        x = x.unflatten(1, (self.last_bins, -1)).transpose(1, 2)  # (B, F' * C, N) -> (B, C, F', N)
        maps = []
        for stage in self.stages:
            x = stage.blocks(x)
            maps.append(x)
            x = stage.resample(x)
        return maps[::-1]
