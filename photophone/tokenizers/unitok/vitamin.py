"""ViTamin's convolutional stem, and UniTok's mirror image of it (arXiv 2404.02132, 2502.20321).

Blocks are inverted bottlenecks (1x1 up, depthwise 3x3, 1x1 down) with one layer normalisation in front.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

EXPANSION = 4


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation of the channels at each place: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) to the same."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class UpConv(nn.Module):
    """Each pixel twice in both directions, then a 3x3 convolution: (B, C, H, W) -> (B, C', 2H, 2W)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) to (B, C', 2H, 2W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class DownShortcut(nn.Module):
    """3x3 average of stride 2 that leaves the padding out, then a 1x1 convolution where the channels change."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(3, 2, padding=1, count_include_pad=False)
        self.expand = nn.Conv2d(channels, out_channels, 1) if channels != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) to (B, C', H/2, W/2)."""
        return self.expand(self.pool(x))


class InvertedBlock(nn.Module):
    """Residual inverted bottleneck: (B, C, H, W) -> (B, C', H', W').

    Args:
        channels, out_channels: C and C'.
        resample: "down" halves the size, "up" doubles it, None keeps it.
    """

    def __init__(self, channels: int, out_channels: int, resample: str | None = None) -> None:
        super().__init__()
        hidden = EXPANSION * out_channels
        hidden += -hidden % 8  # official widths are multiples of 8
        self.shortcut: nn.Module = nn.Identity()
        if resample == "down":
            self.shortcut = DownShortcut(channels, out_channels)
        elif resample == "up":
            self.shortcut = UpConv(channels, out_channels)
        elif channels != out_channels:
            self.shortcut = nn.Conv2d(channels, out_channels, 1)
        self.pre_norm = ChannelNorm(channels)
        self.conv1_1x1 = nn.Conv2d(channels, hidden, 1)
        self.up = UpConv(hidden, hidden) if resample == "up" else nn.Identity()
        self.conv2_kxk = nn.Conv2d(hidden, hidden, 3, stride=2 if resample == "down" else 1, padding=1, groups=hidden)
        self.conv3_1x1 = nn.Conv2d(hidden, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) to (B, C', H', W')."""
        h = self.up(F.gelu(self.conv1_1x1(self.pre_norm(x))))
        return self.conv3_1x1(F.gelu(self.conv2_kxk(h))) + self.shortcut(x)


def stage(channels: int, out_channels: int, depth: int, resample: str) -> nn.Sequential:
    """``depth`` blocks, of which the first changes channels and size."""
    return nn.Sequential(*(InvertedBlock(out_channels if index else channels, out_channels, None if index else resample)
                           for index in range(depth)))


class ConvStem(nn.Module):
    """Images (B, 3, H, W) to features (B, width, H/16, W/16).

    Args:
        widths: channels of the two stages, then of the output.
        depths: blocks of the two stages.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int], stem_width: int) -> None:
        super().__init__()
        first, second, width = widths
        self.conv1 = nn.Conv2d(3, stem_width, 3, stride=2, padding=1)
        self.norm1 = ChannelNorm(stem_width)
        self.conv2 = nn.Conv2d(stem_width, stem_width, 3, padding=1)
        self.stages = nn.Sequential(stage(stem_width, first, depths[0], "down"),
                                    stage(first, second, depths[1], "down"))
        self.pool_norm = ChannelNorm(second)
        self.pool = nn.Conv2d(second, width, 3, stride=2, padding=1)

    def stem(self, images: Tensor) -> Tensor:
        """The first two convolutions: (B, 3, H, W) to (B, stem_width, H/2, W/2)."""
        return self.conv2(F.gelu(self.norm1(self.conv1(images))))

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) to (B, width, H/16, W/16)."""
        return self.pool(self.pool_norm(self.stages(self.stem(images))))


class ConvTail(nn.Module):
    """Features (B, widths[0], h, w) to images (B, 3, 16 h, 16 w): the stem in reverse.

    Args:
        widths: channels of the features, then of the two stages.
        depths: blocks of the two stages.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        width, second, first = widths
        self.up_conv1 = UpConv(width, second)
        self.up_conv2 = stage(second, second, depths[0], "up")
        self.up_conv3 = stage(second, first, depths[1], "up")
        self.up_conv4 = UpConv(first, first)
        self.norm1 = ChannelNorm(first)
        self.conv2 = nn.Conv2d(first, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, widths[0], h, w) to (B, 3, 16 h, 16 w)."""
        x = self.up_conv3(self.up_conv2(self.up_conv1(x)))
        return self.conv2(F.gelu(self.norm1(self.up_conv4(x))))
