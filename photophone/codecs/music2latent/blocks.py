"""Blocks on maps (B, C, F, T): channels, frequencies, frames. A level is a resolution, and level 0 is the finest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from photophone.layers.self_attention import SelfAttention

MAX_GROUPS = 32
CHANNELS_PER_GROUP = 4
FREQUENCY_STEP = 4
"""How much coarser a step makes the frequencies that leaves the frames alone; another halves both."""


@dataclass(frozen=True)
class Levels:
    """Sizes of the maps at each level.

    Args:
        bins: frequencies of level 0.
        widths: channels of each level.
        frequency_only: for each step from a level to the next, True where it makes frequencies four times coarser, and
            False where it halves frequencies and frames.

    Raises:
        ValueError: as many steps as levels are missing or left over, or frequencies that do not divide.
    """

    bins: int
    widths: tuple[int, ...]
    frequency_only: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not self.widths or len(self.frequency_only) != len(self.widths) - 1:
            raise ValueError(f"{len(self.widths)} levels have one step less between them, "
                             f"got {len(self.frequency_only)} of frequency_only")
        if self.bins % self.frequency_factor:
            raise ValueError(f"{self.bins} frequencies cannot be divided by {self.frequency_factor}")

    @property
    def frequency_factor(self) -> int:
        """Frequencies of level 0 for one of the last level."""
        return math.prod(FREQUENCY_STEP if alone else 2 for alone in self.frequency_only)

    @property
    def time_factor(self) -> int:
        """Frames of level 0 for one of the last level."""
        return 2 ** sum(not alone for alone in self.frequency_only)

    @property
    def last_bins(self) -> int:
        """Frequencies of the last level."""
        return self.bins // self.frequency_factor

    def check(self, **lists: Sequence) -> None:
        """Refuse named lists that do not have one value for each level."""
        for name, values in lists.items():
            if len(values) != len(self.widths):
                raise ValueError(f"{name} needs a value for each of {len(self.widths)} levels, got {list(values)}")


def group_norm(channels: int) -> nn.GroupNorm:
    """Groups of four channels, but 32 groups at most.

    Raises:
        ValueError: the channels do not divide into them.
    """
    groups = min(channels // CHANNELS_PER_GROUP, MAX_GROUPS)
    if not groups or channels % groups:
        raise ValueError(f"{channels} channels cannot be normalised in {groups} groups")
    return nn.GroupNorm(groups, channels)


def conv(channels: int, out_channels: int, kernel: int, flat: bool = False) -> nn.Conv2d | nn.Conv1d:
    """A convolution that keeps the size; ``flat`` for (B, C, T)."""
    return (nn.Conv1d if flat else nn.Conv2d)(channels, out_channels, kernel, padding=kernel // 2)


def start_at_zero(layer: nn.Module) -> nn.Module:
    """The layer with zero weights and biases."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class FrequencyAttention(nn.Module):
    """Attention over the frequencies of each frame by itself, with a residual: (B, C, F, T) -> (B, C, F, T)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.mix = SelfAttention(channels, heads)

    def forward(self, x: Tensor) -> Tensor:
        frames = self.norm(x).permute(0, 3, 2, 1)  # (B, C, F, T) -> (B, T, F, C)
        mixed = self.mix(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # one sequence for each frame
        return x + mixed.permute(0, 3, 2, 1)


class ResBlock(nn.Module):
    """Norm, SiLU, convolution of width 3, twice, a shortcut, and attention where there are heads.

    Args:
        channels, out_channels: C and C'.
        condition_dim: width of a condition that is added after the first convolution; None: no condition.
        heads: of a :class:`FrequencyAttention` behind; None: none.
        flat: for (B, C, T) instead of (B, C, F, T).
    """

    def __init__(self, channels: int, out_channels: int, *, condition_dim: int | None = None, heads: int | None = None,
                 flat: bool = False) -> None:
        super().__init__()
        self.norm1 = group_norm(channels)
        self.conv1 = conv(channels, out_channels, 3, flat)
        self.norm2 = group_norm(out_channels)
        self.conv2 = start_at_zero(conv(out_channels, out_channels, 3, flat))
        self.condition_in = None if condition_dim is None else nn.Linear(condition_dim, out_channels)
        self.shortcut = nn.Identity() if channels == out_channels else conv(channels, out_channels, 1, flat)
        self.attention = nn.Identity() if heads is None else FrequencyAttention(out_channels, heads)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, C, ...) to (B, C', ...); condition (B, condition_dim), where the block has one."""
        h = self.conv1(F.silu(self.norm1(x)))
        if self.condition_in is not None:
            h = h + self.condition_in(condition)[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return self.attention(h + self.shortcut(x))


class Downsample(nn.Module):
    """A step to the next level: (B, C, F, T) -> (B, C', F/4, T) or (B, C', F/2, T/2).

    Args:
        channels, out_channels: C and C'.
        frequency_only: True for the first of these.
        norm: a GroupNorm in front.
    """

    def __init__(self, channels: int, out_channels: int, frequency_only: bool, norm: bool = False) -> None:
        super().__init__()
        self.norm = group_norm(channels) if norm else nn.Identity()
        if frequency_only:
            self.conv = nn.Conv2d(channels, out_channels, (5, 1), stride=(FREQUENCY_STEP, 1), padding=(2, 0))
        else:
            self.conv = nn.Conv2d(channels, out_channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x))


class Upsample(nn.Module):
    """A step to the level before, by repetition and a convolution: the shapes of :class:`Downsample` turned round."""

    def __init__(self, channels: int, out_channels: int, frequency_only: bool) -> None:
        super().__init__()
        self.factors = (FREQUENCY_STEP, 1) if frequency_only else (2, 2)
        kernel = (5, 1) if frequency_only else (3, 3)
        self.conv = nn.Conv2d(channels, out_channels, kernel, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        for axis, factor in zip((2, 3), self.factors):
            x = x.repeat_interleave(factor, dim=axis) if factor > 1 else x
        return self.conv(x)
