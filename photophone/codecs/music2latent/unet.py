"""The consistency U-Net: a noisy spectrogram and the pyramid of its latents to a clean spectrogram."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from photophone.codecs.music2latent.blocks import (
    Downsample,
    Levels,
    ResBlock,
    Upsample,
    conv,
    group_norm,
    start_at_zero,
)
from photophone.codecs.music2latent.consistency import NoiseLevels
from photophone.layers.embeddings import sinusoidal_embedding


class JoinedStage(nn.Module):
    """Residual blocks of one level, each with a 1x1 convolution of the pyramid's map in front, then a step."""

    def __init__(self, width: int, count: int, condition_dim: int, heads: int | None,
                 resample: nn.Module | None) -> None:
        super().__init__()
        self.joins = nn.ModuleList(conv(width, width, 1) for _ in range(count))
        self.blocks = nn.ModuleList(ResBlock(width, width, condition_dim=condition_dim, heads=heads)
                                    for _ in range(count))
        self.resample = nn.Identity() if resample is None else resample


def gain_of(condition_dim: int, bins: int) -> nn.Sequential:
    """Noise embeddings (B, condition_dim) to a gain of each frequency, (B, bins), which starts at zero."""
    return nn.Sequential(nn.Linear(condition_dim, condition_dim), nn.SiLU(),
                         nn.Linear(condition_dim, condition_dim), nn.SiLU(),
                         start_at_zero(nn.Linear(condition_dim, bins)))


class ConsistencyUNet(nn.Module):
    """See the module. Sums of n signals are divided by the root of n, which keeps their deviation.

    Args:
        levels: sizes.
        layers: residual blocks of each level, the same on the way down and up.
        attention: whether these have attention.
        heads: of it.
        condition_dim: width of the embedding of the noise level, even.
        noise_levels: of the signals.
    """

    def __init__(self, levels: Levels, layers: Sequence[int], attention: Sequence[bool], heads: int,
                 condition_dim: int, noise_levels: NoiseLevels) -> None:
        super().__init__()
        widths = levels.widths
        self.condition_dim, self.noise_levels = condition_dim, noise_levels
        self.condition = nn.Sequential(nn.Linear(condition_dim, condition_dim), nn.SiLU(),
                                       nn.Linear(condition_dim, condition_dim), nn.SiLU())
        self.gain_in = gain_of(condition_dim, levels.bins)
        self.gain_out = gain_of(condition_dim, levels.bins)
        self.conv_in = conv(2, widths[0], 3)
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for level, count in enumerate(layers):
            used = heads if attention[level] else None
            below = Downsample(widths[level], widths[level + 1], levels.frequency_only[level]) \
                if level + 1 < len(widths) else None
            above = Upsample(widths[level], widths[level - 1], levels.frequency_only[level - 1]) if level else None
            self.down.append(JoinedStage(widths[level], count, condition_dim, used, below))
            self.up.insert(0, JoinedStage(widths[level], count, condition_dim, used, above))
        self.join_out = conv(widths[0], widths[0], 1)
        self.norm_out = group_norm(widths[0])
        self.conv_out = start_at_zero(conv(widths[0], 2, 3))

    def forward(self, noisy: Tensor, maps: Sequence[Tensor], sigma: Tensor) -> Tensor:
        """The clean signal.

        Args:
            noisy: float32 (B, 2, F, T).
            maps: of :class:`photophone.codecs.music2latent.latents.PyramidDecoder`, in the dtype of the weights.
            sigma: float32 (B,), the noise level of each row.

        Returns:
            Float32 (B, 2, F, T).
        """
        keep, scale_out, scale_in = (factor[:, None, None, None] for factor in self.noise_levels.factors(sigma))
        embedded = sinusoidal_embedding(sigma.log() / 4, self.condition_dim, sine_first=True).to(maps[0].dtype)
        x = self.conv_in((scale_in * noisy).to(maps[0].dtype))
        x = x * (1 + self.gain_in(embedded)[:, None, :, None])
        x = self.through_levels(x, maps, self.condition(embedded))
        x = (x + self.join_out(maps[0])) / math.sqrt(2)
        x = F.silu(self.norm_out(x))
        x = self.conv_out(x * (1 + self.gain_out(embedded)[:, None, :, None]))
        return keep * noisy + scale_out * x.float()

    def through_levels(self, x: Tensor, maps: Sequence[Tensor], condition: Tensor) -> Tensor:
        """Level 0 (B, C, F, T) down to the last level and up again; condition (B, condition_dim)."""
        skips = []
        for stage, level_map in zip(self.down, maps):
            for join, block in zip(stage.joins, stage.blocks):
                x = block((x + join(level_map)) / math.sqrt(2), condition)
                skips.append(x)
            x = stage.resample(x)
        for stage, level_map in zip(self.up, reversed(maps)):
            for join, block in zip(stage.joins, stage.blocks):
                x = block((x + skips.pop() + join(level_map)) / math.sqrt(3), condition)
            x = stage.resample(x)
        return x
