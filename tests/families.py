"""How the contract tests call the generators of each family: condition, sampling, loss, shape of a row's tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from photophone.quantizers.multi_scale import MultiScaleVQ

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


def quantizer_of(model):
    """A quantizer as a VAR's tokenizer has it."""
    config = model.config
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(7)
        quantizer = MultiScaleVQ(config.token_width, config.num_codes, config.scales)
        quantizer.codebook.normal_()
    return quantizer


def random_codes(model, rows):
    return torch.randint(0, model.config.num_codes, (rows, *discrete_shape(model)))


def discrete_shape(model):
    if "scales" in model.config:
        return (sum(scale**2 for scale in model.config.scales),)
    return (model.config.grid_size**2,)


def caption_or_class(model, rows=8):
    """Caption features padded on the left with their masks, or classes."""
    length, dim = model.config.caption_length, model.config.caption_dim
    if dim is None:
        return class_condition(model, rows)
    mask = torch.arange(length) >= torch.tensor([[row % length] for row in range(rows)])
    return torch.randn(rows, length, dim, generator=torch.Generator().manual_seed(2)) * mask[..., None], mask


def var_loss(model, rows):
    return model(random_codes(model, rows), *class_condition(model, rows), quantizer_of(model))


def llamagen_loss(model, rows):
    return model(random_codes(model, rows), *caption_or_class(model, rows))


LOGITS = {"guidance_scale": 2.0, "temperature": 0.1, "top_k": 40, "top_p": 0.95}
"""Cold: fresh heads are close to zero, and what they predict must not drown in noise."""
FLOW_AR_FAMILY = Family(text_condition, flow_ar_loss, continuous_shape, OPTIONS)
FAMILIES = {
    "FlowARGenerator": FLOW_AR_FAMILY,
    "MAR": Family(class_condition, continuous_loss, continuous_shape, {**OPTIONS, "head_steps": "ddim8"}),
    "SpeculativeMAR": Family(lambda model, rows=8: class_condition(model.target, rows),
                             lambda model, rows: model(random_tokens(model.target, rows),
                                                       *class_condition(model.target, rows)),
                             lambda model: continuous_shape(model.target),
                             {**OPTIONS, "head_steps": "ddim8", "num_draft_steps": 2}),
    "XAR": Family(class_condition, continuous_loss, continuous_shape, OPTIONS),
    "VAR": Family(class_condition, var_loss, discrete_shape, LOGITS, lambda model: {"quantizer": quantizer_of(model)}),
    "LlamaGenGPT": Family(caption_or_class, llamagen_loss, discrete_shape, LOGITS),
}


def family_of(model) -> Family:
    """The family of a model; a new class of generators needs an entry in FAMILIES."""
    return FAMILIES[type(model).__name__]
