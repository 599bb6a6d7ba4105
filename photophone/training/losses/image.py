"""Losses of image tokenizers beside those of pixels and of the quantizers, and their schedules.

Papers: perceptual distance 1801.03924, adaptive adversarial weight 2012.09841, contrastive loss 2103.00020. Alignment
with a frozen network's features stands in :mod:`photophone.training.losses.alignment`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.training.losses.feature_networks import FeatureNetwork, move_network

LARGEST_WEIGHT = 1e4


@dataclass(frozen=True)
class Ramp:
    """A weight that is 0 before step ``start`` and rises in a line to ``weight`` within ``warmup`` steps."""

    weight: float = 0.0
    start: int = 0
    warmup: int = 0

    @classmethod
    def read(cls, value: Any) -> Ramp:
        """From a number, or from a mapping of the fields.

        Raises:
            ValueError: neither, or values below 0.
        """
        if isinstance(value, Ramp):
            return value
        try:
            ramp = cls(**value) if isinstance(value, dict) else cls(float(value))
        except (TypeError, ValueError) as error:
            raise ValueError(f"a loss weight must be a number or a mapping of weight, start and warmup, got "
                             f"{value!r}") from error
        if not (ramp.weight >= 0 and ramp.start >= 0 and ramp.warmup >= 0):
            raise ValueError(f"weight, start and warmup of a loss must be 0 or more, got {value!r}")
        return ramp

    def at(self, step: int) -> float:
        """The weight at a step, counted from 0."""
        if step < self.start:
            return 0.0
        return self.weight * min(1.0, (step - self.start + 1) / self.warmup) if self.warmup else self.weight


class PerceptualLoss:
    """Distance of two images by the maps of a frozen network: squared differences, averaged over places and rows and
    summed over the maps.

    Args:
        network: see :data:`photophone.training.losses.feature_networks.FeatureNetwork`.
        compare: "unit" normalises the channels of each place and sums over them, as LPIPS does before its weights;
            "sum" sums over the channels as they are (maps that hold LPIPS's weights); "mean" averages over them
            (logits).

    Raises:
        ValueError: another word.
    """

    def __init__(self, network: FeatureNetwork, compare: str = "unit") -> None:
        if compare not in ("unit", "sum", "mean"):
            raise ValueError(f"compare must be 'unit', 'sum' or 'mean', got {compare!r}")
        self.network, self.compare = network, compare

    def __call__(self, made: Tensor, real: Tensor) -> Tensor:
        """A scalar for images (B, 3, H, W) in [-1, 1]; the gradient reaches ``made`` only."""
        network = move_network(self.network, made.device)
        with torch.no_grad():
            wanted = network(real)
        total = made.new_zeros(())
        for pair in zip(network(made), wanted, strict=True):
            ours, theirs = (functional.normalize(x.float(), dim=1, eps=1e-10) if self.compare == "unit" else x.float()
                            for x in pair)
            squared = (ours - theirs).square()
            total = total + (squared.mean(dim=1) if self.compare == "mean" else squared.sum(dim=1)).mean()
        return total


class WeightedSum:
    """Several losses of the same two images, added up: TA-TiTok's perceptual loss is LPIPS and a tenth of the distance
    of class logits.

    Args:
        parts: weights and losses.
    """

    def __init__(self, parts: list[tuple[float, PerceptualLoss]]) -> None:
        self.parts = parts

    def __call__(self, made: Tensor, real: Tensor) -> Tensor:
        """As :meth:`PerceptualLoss.__call__`."""
        return sum(weight * loss(made, real) for weight, loss in self.parts)


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: nn.Parameter, *, eps: float = 1e-6,
                    least: float = 0.0) -> Tensor:
    """How many times the reconstruction's gradient at the last layer is as long as the adversarial one's.

    Args:
        reconstruction, adversarial: scalar losses.
        eps: added to the length of the adversarial gradient.
        least: lower limit; the upper one is LARGEST_WEIGHT.
    """
    first, second = (torch.autograd.grad(loss, last_layer, retain_graph=True)[0].norm()
                     for loss in (reconstruction, adversarial))
    return (first / (second + eps)).clamp(least, LARGEST_WEIGHT).detach()


def contrastive_loss(images: Tensor, texts: Tensor, logit_scale: Tensor) -> Tensor:
    """CLIP's loss (arXiv 2103.00020) of unit vectors (B, C): each image finds its caption and the other way round."""
    logits = logit_scale * images @ texts.T  # (B, B)
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
