"""The Snake activation: periodic, for networks that make waveforms (arXiv 2006.08195; used by DAC and HiFT)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.kernels.snake import snake


class Snake(nn.Module):
    """:func:`photophone.kernels.snake.snake` with a learned frequency for each channel: (B, C, T) -> (B, C, T).

    Args:
        channels: C; the key is ``alpha`` of shape (1, C, 1), as in DAC.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to the same."""
        return snake(x, self.alpha)
