"""What families of generators share beside their contract: random examples, and classes as conditions."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.generators.base import Generator
from photophone.generators.conditions import CaptionFeatures, ClassLabels


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


class PrefixGenerator(Generator):
    """Base of causal generators whose condition is one class, or a caption's features, in front of the codes.

    A family calls :meth:`_build_prefix`; its config has ``num_classes``, ``caption_dim``, ``caption_length`` and
    ``condition_drop``. The null class is class number ``num_classes``; the null caption keeps the mask of its row.
    """

    Condition = ClassLabels | CaptionFeatures

    def _build_prefix(self, num_classes: int, caption_dim: int | None, caption_length: int, width: int) -> None:
        """The layers of the condition; with ``caption_dim`` None it is a class."""
        self.Condition = ClassLabels if caption_dim is None else CaptionFeatures
        if caption_dim is None:
            self.class_embedding = nn.Embedding(num_classes + 1, width)
            return
        self.caption_in = nn.Sequential(nn.Linear(caption_dim, width, bias=False), nn.GELU(approximate="tanh"),
                                        nn.Linear(width, width, bias=False))
        self.register_buffer("null_caption", torch.randn(caption_length, caption_dim) / caption_dim**0.5)

    @property
    def prefix_length(self) -> int:
        """Condition tokens in front of the codes."""
        return 1 if self.config.caption_dim is None else self.config.caption_length

    def check_condition(self, condition: ClassLabels | CaptionFeatures) -> None:
        config = self.config
        if config.caption_dim is None:
            condition.check(config.num_classes)
        elif tuple(condition.features.shape[1:]) != (config.caption_length, config.caption_dim):
            raise ValueError(f"captions must be (B, {config.caption_length}, {config.caption_dim}), got "
                             f"{tuple(condition.features.shape)}")
        elif condition.mask is not None and condition.mask.shape != condition.features.shape[:2]:
            raise ValueError(f"the mask of captions must be (B, {config.caption_length}), got "
                             f"{tuple(condition.mask.shape)}")

    def prefix(self, condition: ClassLabels | CaptionFeatures) -> Tensor:
        """A condition, which may hold the null class, to its tokens (B, T, C)."""
        if self.config.caption_dim is None:
            return self.class_embedding(condition.labels)[:, None]
        return self.caption_in(condition.features.to(self.dtype))

    def visible(self, condition: ClassLabels | CaptionFeatures) -> Tensor | None:
        """Bool (B, T), False for padding among the tokens of :meth:`prefix`; None where there is none."""
        if self.config.caption_dim is None or condition.mask is None:
            return None
        return condition.mask.bool()

    def null_condition(self, condition: ClassLabels | CaptionFeatures) -> ClassLabels | CaptionFeatures:
        """The null class or caption for each row of a condition."""
        if self.config.caption_dim is None:
            return ClassLabels(torch.full_like(condition.labels, self.config.num_classes))
        return replace(condition, features=self.null_caption.to(condition.features).expand_as(condition.features))

    def drop_condition(self, condition: ClassLabels | CaptionFeatures, noise: Noise) -> ClassLabels | CaptionFeatures:
        """A condition of a training pass: a share of ``condition_drop`` becomes the null one. No draw otherwise."""
        if not (self.training and self.config.condition_drop):
            return condition
        null = self.null_condition(condition)
        drop = noise.uniform(len(condition)) < self.config.condition_drop
        if self.config.caption_dim is None:
            return ClassLabels(torch.where(drop, null.labels, condition.labels))
        return replace(condition, features=torch.where(drop[:, None, None], null.features, condition.features))

    def example_condition(self, rows: int, seed: int = 0) -> ClassLabels | CaptionFeatures:
        length, dim = self.config.caption_length, self.config.caption_dim
        if dim is None:
            return example_labels(rows, self.config.num_classes, seed)
        mask = torch.arange(length) >= torch.tensor([[row % length] for row in range(rows)])
        features = torch.randn(rows, length, dim, generator=torch.Generator().manual_seed(seed))
        return CaptionFeatures(features * mask[..., None], mask)
