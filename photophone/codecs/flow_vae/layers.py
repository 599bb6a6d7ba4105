"""Layers of KALL-E's FlowVAE: anti-aliased Snake, blocks of BigVGAN (arXiv 2206.04658), a coupling flow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.layers.causal_conv import CausalConv1d

TAPS = 12
"""Of the filters around the activation, which works at twice the rate."""


def half_band_filter() -> Tensor:
    """The Kaiser-windowed low-pass filter (TAPS,) that halves and doubles the rate; it sums to 1."""
    half = TAPS // 2
    attenuation = 2.285 * (half - 1) * math.pi * 4 * 0.3 + 7.95
    window = torch.kaiser_window(TAPS, beta=0.1102 * (attenuation - 8.7), periodic=False)
    taps = window * torch.sinc(0.5 * (torch.arange(-half, half) + 0.5))
    return taps / taps.sum()


class AliasFreeSnake(nn.Module):
    """``x + sin(x e^alpha)^2 / e^beta`` at twice the rate: (B, C, T) to the same.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to the same."""
        channels = x.shape[1]
        taps = half_band_filter().to(x).expand(channels, 1, -1)
        side = TAPS // 2 - 1
        x = functional.pad(x, (side, side), mode="replicate")
        x = 2 * functional.conv_transpose1d(x, taps, stride=2, groups=channels)
        x = x[..., 3 * side:-3 * side]
        alpha, beta = (part.exp()[:, None] for part in (self.alpha, self.beta))
        x = x + (beta + 1e-9).reciprocal() * torch.sin(x * alpha).square()
        x = functional.pad(x, (side, side + 1), mode="replicate")
        return functional.conv1d(x, taps, stride=2, groups=channels)


class AmpBlock(nn.Module):
    """Pairs of causal convolutions, the first of each dilated, behind anti-aliased activations, with residuals.

    Args:
        channels: C of (B, C, T).
        kernel_size: of all convolutions.
        dilations: of the first of each pair.
    """

    def __init__(self, channels: int, kernel_size: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(CausalConv1d(channels, channels, kernel_size, dilation=dilation)
                                    for dilation in dilations)
        self.convs2 = nn.ModuleList(CausalConv1d(channels, channels, kernel_size) for _ in dilations)
        self.activations = nn.ModuleList(AliasFreeSnake(channels) for _ in range(2 * len(dilations)))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to the same."""
        for index, (first, second) in enumerate(zip(self.convs1, self.convs2)):
            inner = first(self.activations[2 * index](x))
            x = x + second(self.activations[2 * index + 1](inner))
        return x


class ResidualStack(nn.Module):
    """Pairs of convolutions with growing dilation and residuals: (B, C, T) to the same."""

    def __init__(self, channels: int, count: int = 6) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LeakyReLU(), nn.Conv1d(channels, channels, 3, dilation=2**index, padding=2**index),
                          nn.LeakyReLU(), nn.Conv1d(channels, channels, 3, padding=1)) for index in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to the same."""
        for layer in self.layers:
            x = x + layer(x)
        return x


class GatedConvs(nn.Module):
    """The network of WaveNet's kind in a coupling: (B, C, T) to the same.

    Args:
        channels: C.
        kernel_size, count: of its layers.
    """

    def __init__(self, channels: int, kernel_size: int = 5, count: int = 4) -> None:
        super().__init__()
        self.in_layers = nn.ModuleList(CausalConv1d(channels, 2 * channels, kernel_size) for _ in range(count))
        self.res_skip_layers = nn.ModuleList(nn.Conv1d(channels, channels * (2 if index < count - 1 else 1), 1)
                                             for index in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to the same."""
        total = torch.zeros_like(x)
        for index, (inner, outer) in enumerate(zip(self.in_layers, self.res_skip_layers)):
            gated, gate = inner(x).chunk(2, dim=1)
            made = outer(torch.tanh(gated) * torch.sigmoid(gate))
            if index < len(self.in_layers) - 1:
                kept, made = made.chunk(2, dim=1)
                x = x + kept
            total = total + made
        return total


class Coupling(nn.Module):
    """Moves the second half of the channels by what the first half says; all its volumes are 1.

    Args:
        channels: C of (B, C, T), even.
        hidden: channels within.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.pre = nn.Conv1d(channels // 2, hidden, 1)
        self.enc = GatedConvs(hidden)
        self.post = nn.Conv1d(hidden, channels // 2, 1)

    def forward(self, x: Tensor, back: bool = False) -> Tensor:
        """x (B, C, T) to the same; ``back`` undoes it."""
        first, second = x.chunk(2, dim=1)
        move = self.post(self.enc(self.pre(first)))
        return torch.cat([first, second - move if back else second + move], dim=1)


class CouplingFlow(nn.Module):
    """Couplings with the channels turned round behind each: latents (B, C, T) to those of the prior, and back.

    Args:
        channels, hidden: of each.
        count: couplings.
    """

    def __init__(self, channels: int, hidden: int, count: int = 4) -> None:
        super().__init__()
        self.flows = nn.ModuleList(Coupling(channels, hidden) for _ in range(count))

    def forward(self, x: Tensor, back: bool = False) -> Tensor:
        """x (B, C, T) to the same."""
        for flow in reversed(self.flows) if back else self.flows:
            x = flow(x.flip(1), back=True) if back else flow(x).flip(1)
        return x
