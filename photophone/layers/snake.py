"""The Snake activation: periodic, for networks that make waveforms (arXiv 2006.08195; used by BigVGAN, DAC, HiFT)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from photophone.kernels.snake import alias_free_snake, snake
from photophone.layers.constants import ConstantsModule


class Snake(nn.Module):
    """:func:`photophone.kernels.snake.snake` with a learned frequency for each channel: (B, C, T) -> (B, C, T).

    Args:
        channels: C; the key is ``alpha`` of shape (1, C, 1), as in DAC.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return snake(x, self.alpha)


def half_band_filter(taps: int = 12) -> Tensor:
    """Float32 ``(taps,)`` of a low-pass at half the band, for rates that change by 2: a sinc under a Kaiser window.

    The window follows Kaiser's formula for a transition of 0.6 of the band, as BigVGAN has it (arXiv 2206.04658); the
    taps sum to one.

    Raises:
        ValueError: for a number of taps that is no multiple of 4.
    """
    if taps < 4 or taps % 4:
        raise ValueError(f"taps must be a multiple of 4, got {taps}")
    attenuation = 2.285 * (taps // 2 - 1) * math.pi * 4 * 0.3 + 7.95
    beta = 0.1102 * (attenuation - 8.7) if attenuation > 50 else \
        0.5842 * max(attenuation - 21, 0) ** 0.4 + 0.07886 * max(attenuation - 21, 0)
    time = torch.arange(taps, dtype=torch.float64) - taps / 2 + 0.5
    window = torch.kaiser_window(taps, periodic=False, beta=beta, dtype=torch.float64)
    response = torch.sinc(0.5 * time) * window
    return (response / response.sum()).float()


class AliasFreeSnake(ConstantsModule):
    """Snake at twice the rate between two low-pass filters, so that its overtones do not fold back: BigVGAN's.

    Args:
        channels: C of x (B, C, T). ``alpha`` and ``beta`` of shape (C,) are logarithms of the frequency and of the
            divisor of the wave, as in BigVGAN's SnakeBeta.
        taps: of both filters, a multiple of 4.
    """

    def __init__(self, channels: int, taps: int = 12) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.add_constant("filter", half_band_filter(taps))

    def forward(self, x: Tensor) -> Tensor:
        return alias_free_snake(x, self.alpha.exp(), self.filter, self.filter, self.beta.exp())
