"""Training of text-conditioned image generators on precomputed tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from photophone.data.images import ImageDataset
from photophone.noise import SeededNoise
from photophone.pictures import grid, to_pil
from photophone.text.captions import encode_captions, vary_caption
from photophone.tokenizers.base import ImageTokenizer
from photophone.tokens import Tokens


class ImageGeneratorTask:
    """Captions to tokens.

    Args:
        model: a generator whose forward returns the loss, see :class:`photophone.generators.flow_ar.FlowARGenerator`.
        text_tokenizer: of the captions.
        data: the captions; ``tokens`` are of the same images.
        tokens: continuous tokens (M, N, D) of the training images.
        keep_caption: share of captions used as they stand, see :func:`photophone.text.captions.vary_caption`.
        image_tokenizer: for previews, or None.
        validation: held-apart captions and images, or None; ``image_tokenizer`` is then needed.
        preview_options: arguments of ``generate`` for previews.
    """

    def __init__(self, model: nn.Module, text_tokenizer: PreTrainedTokenizerFast, data: ImageDataset, tokens: Tokens, *,
                 keep_caption: float = 0.6, image_tokenizer: ImageTokenizer | None = None,
                 validation: ImageDataset | None = None, preview_options: dict | None = None) -> None:
        if len(tokens) != len(data):
            raise ValueError(f"{len(tokens)} token rows for {len(data)} captions; tokenize the same file again")
        self.model, self.text_tokenizer, self.data, self.tokens = model, text_tokenizer, data, tokens
        self.keep_caption, self.image_tokenizer, self.validation = keep_caption, image_tokenizer, validation
        self.preview_options = {"guidance_scale": 3.0, "num_inference_steps": 20, **(preview_options or {})}
        self.num_examples = len(data)
        self.validation_tokens = None
        if validation is not None and image_tokenizer is not None:
            self.validation_tokens = image_tokenizer.encode(validation.batch(np.arange(len(validation)))).values

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        captions = [vary_caption(self.data.fields[i], rng, self.keep_caption) for i in indices]
        ids, mask, null = encode_captions(self.text_tokenizer, captions, truncate=True, trim=True)
        return {"text_ids": ids, "text_mask": mask, "null_ids": null,
                "tokens": self.tokens.values[torch.from_numpy(indices)]}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return model(**batch), {}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss on held-apart images with the same draws each time."""
        if self.validation_tokens is None:
            return {}
        captions = [fields["caption"] for fields in self.validation.fields]
        ids, mask, _ = encode_captions(self.text_tokenizer, captions, truncate=True)
        noise = SeededNoise.from_seeds(range(len(captions)), model.device)
        loss = model(ids.to(model.device), mask.to(model.device), self.validation_tokens.to(model.device), noise=noise)
        return {"validation_loss": float(loss)}

    def preview(self, model: nn.Module) -> Image.Image | None:
        if self.validation_tokens is None:
            return None
        rows = min(32, len(self.validation))
        captions = [fields["caption"] for fields in self.validation.fields[:rows]]
        ids, mask, null = (t.to(model.device) for t in encode_captions(self.text_tokenizer, captions, truncate=True))
        noise = SeededNoise.from_seeds(range(rows), model.device)
        tokens = model.generate(ids, mask, null, noise=noise, **self.preview_options)
        made = to_pil(self.image_tokenizer.decode(tokens.to(self.image_tokenizer.device)))
        real = to_pil(self.validation.batch(np.arange(rows)))
        return grid([image for pair in zip(real, made) for image in pair], columns=8)

    def export(self, model: nn.Module, folder: Path) -> None:
        model.save_pretrained(folder / "token_generator")
        self.text_tokenizer.save_pretrained(folder / "text_tokenizer")
