"""How TASTE makes one sequence of units of words and of their text.

Paper: TASTE (arXiv 2504.07053).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WeightedFusion(nn.Module):
    """Two sequences (B, N, C) as one, with two learned weights.

    Args:
        normalize: give both zero mean and unit variance in each frame first.
        start: of the weights of audio and text, before their softmax.
    """

    def __init__(self, normalize: bool = False, start: tuple[float, float] = (1.0, 1.0)) -> None:
        super().__init__()
        self.normalize = normalize
        self.weights = nn.Parameter(torch.tensor(start))

    def forward(self, audio: Tensor, text: Tensor) -> Tensor:
        """(B, N, C) of both."""
        if self.normalize:
            audio, text = (F.layer_norm(part, part.shape[-1:]) for part in (audio, text))
        first, second = self.weights.softmax(dim=0)
        return first * audio + second * text
