"""How the contract tests call the generators of each family: condition, sampling, loss, shape of a row's tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

OPTIONS = {"guidance_scale": 2.0, "temperature": 0.9, "num_inference_steps": 3}


@dataclass(frozen=True)
class Family:
    """One family; a condition is a tuple of tensors, the first of which has the rows on its first axis."""

    condition: Callable[..., tuple]
    loss: Callable[[Any, int], torch.Tensor]
    shape: Callable[[Any], tuple[int, ...]]
    options: dict[str, Any] = field(default_factory=dict)
    extra: Callable[[Any], dict[str, Any]] = lambda model: {}

    def generate(self, model, condition, noise, **options):
        return model.generate(*condition, noise=noise, **self.options, **self.extra(model), **options)


def take(condition, rows):
    """Rows of all tensors but those that have no row axis (the null caption)."""
    total = len(condition[0])
    return tuple(part[rows] if part.ndim > 1 or len(part) == total else part for part in condition)


def text_condition(model, rows=8, length=None):
    """Captions of different lengths, and the null caption."""
    length = length or model.config.max_text_length
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(3, model.config.vocab_size, (rows, length), generator=generator)
    mask = torch.arange(length) < torch.tensor([[1 + (5 * row) % 9] for row in range(rows)])
    null = torch.zeros(length, dtype=torch.long)
    null[0] = 1
    return ids.masked_fill(~mask, 0), mask, null


def class_condition(model, rows=8):
    """Different classes."""
    return (torch.arange(rows) % model.config.num_classes,)


def continuous_shape(model):
    length = model.config.grid_size**2 if "grid_size" in model.config else model.config.num_tokens
    return length, model.config.token_dim


def random_tokens(model, rows):
    return torch.randn(rows, *continuous_shape(model))


def flow_ar_loss(model, rows):
    ids, mask, null = text_condition(model, rows)
    return model(ids, mask, random_tokens(model, rows), null)


def continuous_loss(model, rows):
    return model(random_tokens(model, rows), *class_condition(model, rows))


FLOW_AR_FAMILY = Family(text_condition, flow_ar_loss, continuous_shape, OPTIONS)
FAMILIES = {
    "FlowARGenerator": FLOW_AR_FAMILY,
    "MAR": Family(class_condition, continuous_loss, continuous_shape, {**OPTIONS, "num_inference_steps": "ddim8"}),
    "XAR": Family(class_condition, continuous_loss, continuous_shape, OPTIONS),
}


def family_of(model) -> Family:
    """The family of a model; a new class of generators needs an entry in FAMILIES."""
    return FAMILIES[type(model).__name__]
