"""Training of image generators on precomputed tokens."""

from __future__ import annotations

import inspect
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
from photophone.pipelines.class_to_image import ClassToImagePipeline
from photophone.tokenizers.base import ImageTokenizer
from photophone.training.loop.task import Task
from photophone.training.tasks.image_conditions import Classes, Condition

PREVIEW = {"guidance_scale": 3.0, "num_inference_steps": 20}
"""Options of previews, where the generator has them."""


def token_sizes(tokenizer: ImageTokenizer) -> dict[str, Any]:
    """Arguments of generators that follow from the tokenizer: numbers of tokens and codes, widths, scales.

    Raises:
        ValueError: tokens of several codebooks, which no image generator here reads.
    """
    if tokenizer.num_codebooks > 1 and tokenizer.codebook_size is not None:
        raise ValueError(f"{type(tokenizer).__name__} makes {tokenizer.num_codebooks} codes a token; the generators "
                         "here read one")
    sizes: dict[str, Any] = {"num_tokens": tokenizer.num_tokens}
    if math.isqrt(tokenizer.num_tokens) ** 2 == tokenizer.num_tokens:
        sizes["grid_size"] = math.isqrt(tokenizer.num_tokens)
    if tokenizer.codebook_size is None:
        return {**sizes, "token_dim": tokenizer.token_dim}
    sizes |= {"num_codes": tokenizer.codebook_size, "token_width": tokenizer.bottleneck.dim}
    scales = getattr(tokenizer.bottleneck, "scales", None)
    return sizes if scales is None else {**sizes, "scales": list(scales)}


class ImageGeneratorTask(Task):
    """Conditions to tokens.

    Args:
        model: a generator whose forward returns the loss.
        condition: captions, classes or features of captions.
        data: the training images, of which the fields are used.
        tokens: of the same images: M rows, or a multiple of M where each image has several views (all plain ones
            first, then all mirrored ones), of which training takes one at random.
        image_tokenizer: for previews, and for generators that read its quantizer (VAR); or None.
        validation: held-apart images, or None; ``image_tokenizer`` is then needed. Images whose class no training image
            has are left out.
        preview_options: arguments of ``generate`` for previews.

    Raises:
        ValueError: tokens of other images, or a tokenizer that is needed and missing.
    """

    def __init__(self, model: nn.Module, condition: Condition, data: ImageDataset, tokens: Tokens, *,
                 image_tokenizer: ImageTokenizer | None = None, validation: ImageDataset | None = None,
                 preview_options: dict | None = None) -> None:
        if not len(tokens) or len(tokens) % len(data):
            raise ValueError(f"{len(tokens)} token rows for {len(data)} images; tokenize the same file again")
        self.model, self.condition, self.data, self.tokens = model, condition, data, tokens
        self.image_tokenizer, self.validation = image_tokenizer, validation
        known = inspect.signature(type(model).generate).parameters
        self.preview_options = {name: value for name, value in PREVIEW.items() if name in known}
        self.preview_options |= preview_options or {}
        self.needs_quantizer = "quantizer" in inspect.signature(type(model).forward).parameters
        if self.needs_quantizer and image_tokenizer is None:
            raise ValueError(f"{type(model).__name__} reads its tokenizer's quantizer; give image_tokenizer")
        self.num_examples = len(data)
        self.held_apart: list[int] = []
        if validation is not None and image_tokenizer is not None:
            self.held_apart = [i for i, fields in enumerate(validation.fields) if condition.knows(fields)]
        if self.held_apart:
            parts = [image_tokenizer.encode(validation.batch(np.asarray(part))).values for part in self._parts()]
            self.validation_tokens = torch.cat(parts)

    def _parts(self) -> list[list[int]]:
        return [self.held_apart[start:start + 64] for start in range(0, len(self.held_apart), 64)]

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        views = len(self.tokens) // len(self.data)
        rows = indices if views == 1 else indices + len(self.data) * rng.integers(views, size=len(indices))
        arguments = self.condition.train([self.data.fields[i] for i in indices], rng)
        return {**arguments, "tokens": self.tokens.values[torch.from_numpy(rows)]}

    def loss(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        return model(**batch, **self.shared(batch["tokens"].device)), {}

    def shared(self, device: torch.device) -> dict[str, Any]:
        """What the generator reads beside condition and tokens."""
        return {"quantizer": self.image_tokenizer.bottleneck.to(device)} if self.needs_quantizer else {}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss on held-apart images with the same draws each time."""
        if not self.held_apart:
            return {}
        total, start = 0.0, 0
        for number, part in enumerate(self._parts()):
            batch = {**self.condition.plain([self.validation.fields[i] for i in part]),
                     "tokens": self.validation_tokens[start:start + len(part)]}
            start += len(part)
            with torch.random.fork_rng():
                torch.manual_seed(number)
                batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
                total += float(model(**batch, **self.shared(model.device))) * len(part)
        return {"validation_loss": total / start}

    def preview(self, model: nn.Module) -> Image.Image | None:
        """Held-apart images beside what the generator makes of their conditions."""
        if not self.held_apart:
            return None
        chosen = self.held_apart[:32]
        made = to_pil(self.generate(model, [self.validation.fields[i] for i in chosen]))
        real = to_pil(self.validation.batch(np.asarray(chosen)))
        return grid([image for pair in zip(real, made) for image in pair], columns=8)

    def generate(self, model: nn.Module, rows: list[dict[str, str]]) -> Tensor:
        """Images (B, 3, H, W) for the conditions of these fields, row i with seed i."""
        condition = tuple(part.to(model.device) for part in self.condition.sampling(rows))
        noise = SeededNoise.from_seeds(range(len(rows)), model.device)
        tokens = model.generate(*condition, noise=noise, **self.shared(model.device), **self.preview_options)
        return self.image_tokenizer.decode(tokens.to(self.image_tokenizer.device))

    def export(self, model: nn.Module, folder: Path) -> None:
        """The generator and its condition; a whole pipeline where classes and a tokenizer make one."""
        if isinstance(self.condition, Classes) and self.image_tokenizer is not None:
            ClassToImagePipeline(model, self.image_tokenizer).save_pretrained(folder)
        else:
            model.save_pretrained(folder / "token_generator")
        self.condition.save(folder)
