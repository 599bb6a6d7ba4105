"""What families of generators share beside their contract: random examples, and classes as conditions."""

from __future__ import annotations

import torch
from torch import Tensor

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.generators.base import Generator
from photophone.generators.conditions import ClassLabels


def example_labels(rows: int, num_classes: int, seed: int = 0) -> ClassLabels:
    """Classes in turn, so that neighbouring rows differ."""
    return ClassLabels((seed + torch.arange(rows)) % num_classes)


def example_values(rows: int, length: int, dim: int, seed: int = 0) -> Tokens:
    """Normal continuous tokens (rows, length, dim)."""
    return Tokens(torch.randn(rows, length, dim, generator=torch.Generator().manual_seed(seed)))


def example_codes(rows: int, length: int, num_codes: int, seed: int = 0) -> Tokens:
    """Codes (rows, length), all equally likely."""
    return Tokens(torch.randint(num_codes, (rows, length), generator=torch.Generator().manual_seed(seed)))


class ClassGenerator(Generator):
    """Base of generators of classes 0..num_classes - 1, whose class number ``num_classes`` is the null class.

    A family's config has ``num_classes`` and ``label_drop``.
    """

    Condition = ClassLabels

    def check_condition(self, condition: ClassLabels) -> None:
        condition.check(self.config.num_classes)

    def example_condition(self, rows: int, seed: int = 0) -> ClassLabels:
        return example_labels(rows, self.config.num_classes, seed)

    def null_labels(self, labels: Tensor) -> Tensor:
        """The null class for each of labels Long (B,)."""
        return torch.full_like(labels, self.config.num_classes)

    def drop_labels(self, labels: Tensor, noise: Noise) -> Tensor:
        """Labels Long (B,) of a training pass: a share of ``label_drop`` becomes the null class. No draw otherwise."""
        if not (self.training and self.config.label_drop):
            return labels
        dropped = noise.uniform(len(labels)).to(labels.device) < self.config.label_drop
        return torch.where(dropped, self.config.num_classes, labels)
