"""Training of image generators on precomputed tokens."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from photophone.core.noise import SeededNoise
from photophone.core.pictures import grid, to_pil
from photophone.core.tokens import Tokens
from photophone.data.images import ImageDataset
from photophone.generators.base import Generator
from photophone.generators.conditions import Condition
from photophone.quantizers.binary import GFQ
from photophone.quantizers.multi_scale import HybridMultiScaleVQ
from photophone.tokenizers.base import ImageTokenizer
from photophone.training.loop.task import Task
from photophone.training.tasks.image_conditions import TrainingCondition

PREVIEW = {"guidance_scale": 3.0, "num_inference_steps": 20}
"""Options of previews, where the generator has them."""


def token_sizes(tokenizer: ImageTokenizer, model_class: type[Generator]) -> dict[str, Any]:
    """Arguments of a generator that follow from the tokenizer: numbers of tokens, codes and bits, widths, scales.

    Raises:
        ValueError: tokens of several codebooks for a generator that reads one, or codes for one that reads signs.
    """
    quantizer, keys = tokenizer.bottleneck, model_class.config_keys()
    signs = {"num_codebooks", "token_dim"} <= keys
    if signs and not isinstance(quantizer, GFQ):
        raise ValueError(f"{model_class.__name__} reads signs, those of a BitDanceTokenizer; "
                         f"{type(tokenizer).__name__} makes none")
    if "num_codebooks" not in keys and tokenizer.num_codebooks > 1 and tokenizer.codebook_size is not None:
        raise ValueError(f"{type(tokenizer).__name__} makes {tokenizer.num_codebooks} codes a token, "
                         f"{model_class.__name__} reads one")
    sizes: dict[str, Any] = {"num_tokens": tokenizer.num_tokens}
    if math.isqrt(tokenizer.num_tokens) ** 2 == tokenizer.num_tokens:
        sizes["grid_size"] = math.isqrt(tokenizer.num_tokens)
    if signs:
        return {**sizes, "token_dim": quantizer.dim, "num_codebooks": quantizer.num_codebooks}
    if "scales" in tokenizer.config:
        sizes["scales"] = list(tokenizer.config.scales)
    if not quantizer.has_codes:
        return {**sizes, "token_dim": tokenizer.token_dim}
    books = quantizer.codes if isinstance(quantizer, HybridMultiScaleVQ) else quantizer
    return sizes | {"num_codes": books.codebook_size, "token_width": quantizer.dim}


class ImageGeneratorTask(Task):
    """Conditions to tokens.

    Args:
        model: a generator.
        condition: captions, classes or features of captions.
        data: the training images, of which the fields are used.
        tokens: of the same images: M rows, or a multiple of M where each image has several views (all plain ones
            first, then all mirrored ones), of which training takes one at random.
        image_tokenizer: for previews, and for generators that read it (VAR); or None. It moves to the device of the
            model with the first batch.
        validation: held-apart images, or None; ``image_tokenizer`` is then needed. Images whose class no training image
            has are left out.
        preview_options: options of the model's sampler for previews.

    Raises:
        ValueError: tokens of other images, a tokenizer that does not fit, or options that the sampler does not have.
    """

    def __init__(self, model: Generator, condition: TrainingCondition, data: ImageDataset, tokens: Tokens, *,
                 image_tokenizer: ImageTokenizer | None = None, validation: ImageDataset | None = None,
                 preview_options: dict | None = None) -> None:
        if not len(tokens) or len(tokens) % len(data):
            raise ValueError(f"{len(tokens)} token rows for {len(data)} images; tokenize the same file again")
        self.model, self.condition, self.data, self.tokens = model, condition, data, tokens
        self.image_tokenizer, self.validation = image_tokenizer, validation
        defaults = {name: value for name, value in PREVIEW.items() if name in model.Sampler.options()}
        self.preview_sampler = model.Sampler.from_settings({**defaults, **(preview_options or {})},
                                                           f"preview_options: {type(model).__name__}")
        if image_tokenizer is not None:
            model.connect(image_tokenizer)
        self.num_examples = len(data)
        self.held_apart: list[int] = []
        if validation is not None and image_tokenizer is not None:
            self.held_apart = [i for i, fields in enumerate(validation.fields) if condition.knows(fields)]
        if self.held_apart:
            parts = [image_tokenizer.encode(validation.batch(np.asarray(part))).values for part in self._parts()]
            self.validation_tokens = torch.cat(parts)

    def _parts(self) -> list[list[int]]:
        return [self.held_apart[start:start + 64] for start in range(0, len(self.held_apart), 64)]

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Tokens | Condition]:
        views = len(self.tokens) // len(self.data)
        rows = indices if views == 1 else indices + len(self.data) * rng.integers(views, size=len(indices))
        return {"tokens": self.tokens[torch.from_numpy(rows)],
                "condition": self.condition.train([self.data.fields[i] for i in indices], rng)}

    def loss(self, model: nn.Module, batch: dict[str, Tokens | Condition],
             step: int) -> tuple[Tensor, dict[str, Tensor]]:
        self.place_tokenizer(batch["tokens"].values.device)
        output = model(batch["tokens"], batch["condition"])
        return output.loss, output.metrics

    def place_tokenizer(self, device: torch.device) -> None:
        """Move the whole tokenizer to a device, where it reads and writes what the model does."""
        if self.image_tokenizer is not None and self.image_tokenizer.device != device:
            self.image_tokenizer.to(device)

    def validate(self, model: Generator) -> dict[str, float]:
        """Loss and metrics on held-apart images with the same draws each time."""
        if not self.held_apart:
            return {}
        totals: dict[str, float] = {}
        self.place_tokenizer(model.device)
        start = 0
        for number, part in enumerate(self._parts()):
            tokens = Tokens(self.validation_tokens[start:start + len(part)]).to(model.device)
            condition = self.condition.plain([self.validation.fields[i] for i in part]).to(model.device)
            start += len(part)
            with torch.random.fork_rng():
                torch.manual_seed(number)
                output = model(tokens, condition)
            for name, value in {"loss": output.loss, **output.metrics}.items():
                totals[name] = totals.get(name, 0.0) + float(value.detach()) * len(part)
        return {f"validation_{name}": total / start for name, total in totals.items()}

    def preview(self, model: Generator) -> Image.Image | None:
        """Held-apart images beside what the generator makes of their conditions."""
        if not self.held_apart:
            return None
        chosen = self.held_apart[:32]
        made = to_pil(self.generate(model, [self.validation.fields[i] for i in chosen]))
        real = to_pil(self.validation.batch(np.asarray(chosen)))
        return grid([image for pair in zip(real, made) for image in pair], columns=8)

    def generate(self, model: Generator, rows: list[dict[str, str]]) -> Tensor:
        """Images (B, 3, H, W) for the conditions of these fields, row i with seed i."""
        self.place_tokenizer(model.device)
        noise = SeededNoise.from_seeds(range(len(rows)), model.device)
        condition = self.condition.plain(rows)
        tokens = model.generate(condition, noise=noise, sampler=self.preview_sampler)
        return self.image_tokenizer.decode(tokens, **condition.read_by(self.image_tokenizer.decode_options))

    def export(self, model: Generator, folder: Path) -> None:
        """The generator and its condition; a whole pipeline where classes and a tokenizer make one."""
        self.condition.export(model, self.image_tokenizer, folder)
