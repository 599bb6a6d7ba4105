"""Noise levels of a consistency model (arXiv 2303.01469), whose one call leads from any level to the clean signal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseLevels:
    """A noise level sigma is the standard deviation of the noise in a signal.

    Args:
        lowest, highest: range of sigma; at the lowest the signal counts as clean.
        data: standard deviation of clean signals.
        rho: how much denser levels lie towards the lowest (arXiv 2206.00364).

    Raises:
        ValueError: an empty range, or values that are not above 0.
    """

    lowest: float
    highest: float
    data: float
    rho: float

    def __post_init__(self) -> None:
        if not (0 < self.lowest < self.highest and self.data > 0 and self.rho > 0):
            raise ValueError("noise levels need 0 < sigma_min < sigma_max, sigma_data > 0 and rho > 0, got "
                             f"{self.lowest}, {self.highest}, {self.data} and {self.rho}")

    def path(self, num_steps: int) -> Tensor:
        """The levels at which each of ``num_steps`` steps begins, and the lowest: float32 (num_steps + 1,).

        Raises:
            ValueError: less than one step.
        """
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {num_steps}")
        ends = torch.tensor([self.highest, self.lowest], dtype=torch.float64) ** (1 / self.rho)
        places = torch.linspace(0, 1, num_steps + 1, dtype=torch.float64)
        return ((ends[0] + places * (ends[1] - ends[0])) ** self.rho).float()

    def factors(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Factors on the signal that is added to the output, on the network's output, and on its input.

        The first is 1 and the second 0 at the lowest level: a clean signal stays what it is.
        """
        above = sigma - self.lowest
        total = (sigma.square() + self.data**2).sqrt()
        return self.data**2 / (above.square() + self.data**2), self.data * above / total, 1 / total

    def added(self, sigma: Tensor) -> Tensor:
        """Deviation of the noise that brings a clean signal, which counts as the lowest level, to ``sigma``."""
        return (sigma.square() - self.lowest**2).clamp(min=0).sqrt()
