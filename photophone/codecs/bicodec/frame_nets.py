"""Vocos backbones between frame rates: the feature encoder and decoder of BiCodec (arXiv 2503.01710)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.layers.vocos_backbone import VocosBackbone

STAGE_DEPTH = 2
"""Blocks behind each change of the rate."""


class SamplingBlock(nn.Module):
    """Frames (B, T, C) to (B, C, T * up / down): a convolution of each channel plus two skips.

    With a ratio of one all three are the input, so the result is three times the input. Weights depend on that.

    Args:
        channels: C.
        up, down: the ratio; one of them is 1.
    """

    def __init__(self, channels: int, up: int = 1, down: int = 1) -> None:
        super().__init__()
        self.up, self.down = up, down
        if up > 1:
            self.de_conv_upsampler = nn.Sequential(nn.LeakyReLU(0.2), nn.ConvTranspose1d(
                channels, channels, 2 * up, stride=up, padding=up // 2 + up % 2, output_padding=up % 2,
                groups=channels))
        if down > 1:
            self.conv_downsampler = nn.Sequential(nn.LeakyReLU(0.2), nn.Conv1d(
                channels, channels, 2 * down, stride=down, padding=down // 2 + down % 2, groups=channels))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) to (B, C, T * up / down)."""
        repeated = merged = x.transpose(1, 2)
        if self.up > 1:
            repeated = repeated.repeat_interleave(self.up, dim=2)
            merged = repeated + self.de_conv_upsampler(x.transpose(1, 2))
        if self.down == 1:
            return 2 * merged + repeated
        return self.conv_downsampler(merged) + functional.avg_pool1d(merged + repeated, self.down)


def _stages(width: int, hidden: int, ratios: Sequence[int], direction: str) -> nn.ModuleList:
    return nn.ModuleList(nn.Sequential(SamplingBlock(width, **{direction: ratio}),
                                       VocosBackbone(width, width, hidden, STAGE_DEPTH)) for ratio in ratios)


class FrameEncoder(nn.Module):
    """Features (B, in_channels, T) to (B, out_channels, T / prod(ratios)).

    Args:
        in_channels, out_channels: of the features.
        width, hidden, depth: of the backbone.
        ratios: each a stage that lowers the frame rate; see :class:`SamplingBlock` for 1.
    """

    def __init__(self, in_channels: int, width: int, hidden: int, depth: int, out_channels: int,
                 ratios: Sequence[int] = (1, 1)) -> None:
        super().__init__()
        self.encoder = VocosBackbone(in_channels, width, hidden, depth)
        self.downsample = _stages(width, hidden, ratios, "down")
        self.project = nn.Linear(width, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, in_channels, T) to (B, out_channels, T / prod(ratios))."""
        x = self.encoder(x)
        for stage in self.downsample:
            x = stage(x)
        return self.project(x).transpose(1, 2)


class FrameDecoder(nn.Module):
    """Features (B, in_channels, T) and a condition to (B, out_channels, T * prod(ratios)).

    Args:
        in_channels, out_channels: of the features.
        width, hidden, depth: of the backbone.
        condition_dim: of the condition (B, condition_dim), or None.
        ratios: each a stage that raises the frame rate; the official name of these stages is "downsample".
        tanh: limits the output.
    """

    def __init__(self, in_channels: int, width: int, hidden: int, depth: int, out_channels: int,
                 condition_dim: int | None = None, ratios: Sequence[int] = (1, 1), tanh: bool = False) -> None:
        super().__init__()
        self.tanh = tanh
        self.linear_pre = nn.Linear(in_channels, width)
        self.downsample = _stages(width, hidden, ratios, "up")
        self.vocos_backbone = VocosBackbone(width, width, hidden, depth, condition_dim=condition_dim)
        self.linear = nn.Linear(width, out_channels)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """x (B, in_channels, T) to (B, out_channels, T * prod(ratios)); ``condition`` (B, condition_dim) or None."""
        x = self.linear_pre(x.transpose(1, 2))
        for stage in self.downsample:
            x = stage(x)
        x = self.linear(self.vocos_backbone(x.transpose(1, 2), condition)).transpose(1, 2)
        return torch.tanh(x) if self.tanh else x
