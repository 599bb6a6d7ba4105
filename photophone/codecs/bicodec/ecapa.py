"""ECAPA-TDNN: what a voice is, from mel frames (arXiv 2005.07143, as in wespeaker)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SCALE = 8
"""Groups of channels of the Res2Net convolutions."""
EPS = 1e-7


class ConvReluNorm(nn.Module):
    """Convolution, ReLU, then batch normalisation: (B, C, T) to (B, C', T)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.bn = nn.BatchNorm1d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to (B, C', T)."""
        return self.bn(self.conv(x).relu())


class Res2Conv(nn.Module):
    """Dilated convolutions of groups of channels; each also reads the group before, the last passes as it is."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        width = channels // SCALE
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation) for _ in range(SCALE - 1))
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(SCALE - 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to the same."""
        *parts, last = x.chunk(SCALE, dim=1)
        made, previous = [], 0
        for part, conv, norm in zip(parts, self.convs, self.bns, strict=True):
            previous = norm(conv(part + previous).relu())
            made.append(previous)
        return torch.cat([*made, last], dim=1)


class SqueezeExcitation(nn.Module):
    """Channels (B, C, T) scaled by what their means over time say."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(channels, bottleneck), nn.Linear(bottleneck, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to the same."""
        return x * self.linear2(self.linear1(x.mean(2)).relu()).sigmoid()[:, :, None]


class SERes2Block(nn.Module):
    """x plus 1x1 convolution, :class:`Res2Conv`, 1x1 convolution and squeeze-excitation of it."""

    def __init__(self, channels: int, dilation: int, bottleneck: int) -> None:
        super().__init__()
        self.se_res2block = nn.Sequential(ConvReluNorm(channels, channels), Res2Conv(channels, dilation),
                                          ConvReluNorm(channels, channels), SqueezeExcitation(channels, bottleneck))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to the same."""
        return x + self.se_res2block(x)


class AttentivePooling(nn.Module):
    """Mean and deviation over time, (B, C, T) to (B, 2C), with weights that see the global ones."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Conv1d(3 * channels, bottleneck, 1), nn.Conv1d(bottleneck, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to (B, 2C)."""
        mean = x.mean(2, keepdim=True).expand_as(x)
        deviation = (x.var(2, keepdim=True) + EPS).sqrt().expand_as(x)
        seen = torch.cat([x, mean, deviation], dim=1)
        weights = self.linear2(self.linear1(seen).tanh()).softmax(2)
        mean = (weights * x).sum(2)
        variance = (weights * x.square()).sum(2) - mean.square()
        return torch.cat([mean, variance.clamp(min=EPS).sqrt()], dim=1)


class ECAPA(nn.Module):
    """Mel frames (B, num_mels, T) to a vector (B, dim) and the frames before pooling (B, 3 * channels, T).

    Args:
        num_mels: of the input.
        channels: of the blocks, a multiple of 8.
        dim: of the vector.
        bottleneck: of squeeze-excitation and pooling.
    """

    def __init__(self, num_mels: int, channels: int, dim: int, bottleneck: int = 128) -> None:
        super().__init__()
        if channels % SCALE:
            raise ValueError(f"ECAPA needs a multiple of {SCALE} channels, got {channels}")
        self.layer1 = ConvReluNorm(num_mels, channels, 5)
        self.layer2, self.layer3, self.layer4 = (SERes2Block(channels, dilation, bottleneck) for dilation in (2, 3, 4))
        self.conv = nn.Conv1d(3 * channels, 3 * channels, 1)
        self.pool = AttentivePooling(3 * channels, bottleneck)
        self.bn = nn.BatchNorm1d(6 * channels)
        self.linear = nn.Linear(6 * channels, dim)

    def frames(self, mels: Tensor) -> Tensor:
        """Mel frames (B, num_mels, T) to frames (B, 3 * channels, T)."""
        x = self.layer1(mels)
        outputs = []
        for layer in (self.layer2, self.layer3, self.layer4):
            x = layer(x)
            outputs.append(x)
        return functional.relu(self.conv(torch.cat(outputs, dim=1)))

    def forward(self, mels: Tensor) -> tuple[Tensor, Tensor]:
        """The vector (B, dim) of mels (B, num_mels, T), and the frames before pooling (B, 3 * channels, T)."""
        frames = self.frames(mels)
        return self.linear(self.bn(self.pool(frames))), frames
