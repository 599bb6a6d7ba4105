"""Stage 1 of TiTok (arXiv 2406.07550): the decoder predicts the codes that a trained VQGAN gives the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from photophone.core.pictures import grid, to_pil
from photophone.core.tokens import Tokens
from photophone.data.images import ImageDataset
from photophone.tokenizers.maskgit_vqgan.model import MaskGITVQGAN
from photophone.tokenizers.titok.model import TiTok
from photophone.training.loop.task import Task


class StageOne(nn.Module):
    """A stage-1 model whose forward is its training loss."""

    def __init__(self, tokenizer: TiTok) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, images: Tensor, codes: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """See :meth:`photophone.tokenizers.titok.model.TiTok.proxy_loss`."""
        return self.tokenizer.proxy_loss(images, codes)


class StageOneTask(Task):
    """Images to the teacher's codes of them, through the tokens.

    Args:
        model: with ``proxy_codes`` and without ``proxy_decoder``.
        teacher: a trained :class:`photophone.tokenizers.maskgit_vqgan.model.MaskGITVQGAN`, which stays as it is.
        data: training images.
        validation: held-apart images, or None.
        flip: probability of mirroring an example.

    Raises:
        ValueError: a model that predicts no codes, or a teacher with other codes or another grid.
    """

    def __init__(self, model: TiTok, teacher: MaskGITVQGAN, data: ImageDataset,
                 validation: ImageDataset | None = None, flip: float = 0.5) -> None:
        own = (model.config.proxy_codes, model.decoder.grid**2, model.image_size)
        theirs = (teacher.codebook_size, teacher.num_tokens, teacher.image_size)
        if own != theirs or model.config.proxy_decoder is not None:
            raise ValueError(f"stage 1 needs proxy_decoder=None and the teacher's codes, cells and pixels {theirs}, "
                             f"got {own} and proxy_decoder={model.config.proxy_decoder}")
        self.model, self.teacher = StageOne(model), teacher.eval().requires_grad_(False)
        self.data, self.validation, self.flip = data, validation, flip
        self.num_examples = len(data)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        images = self.data.batch(indices)
        flip = torch.from_numpy(rng.random(len(images)) < self.flip)
        images[flip] = images[flip].flip(-1)
        return {"images": images}

    def loss(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        codes = self.teacher.to(batch["images"].device).encode(batch["images"]).values
        logits, loss, metrics = model(batch["images"], codes)
        return loss, {"right_codes": (logits.argmax(dim=-1) == codes).float().mean(), **metrics}

    def predict(self, model: StageOne, images: Tensor) -> Tensor:
        """The likeliest codes Long (B, hw)."""
        tokenizer = model.tokenizer
        values = tokenizer.bottleneck.decode(tokenizer.encode(images).values)
        return tokenizer.proxy_logits(values).argmax(dim=-1)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Share of the teacher's codes that are predicted."""
        if self.validation is None:
            return {}
        right = []
        for start in range(0, len(self.validation), 64):
            images = self.validation.batch(np.arange(start, min(start + 64, len(self.validation))))
            images = images.to(model.tokenizer.device)
            right.append((self.predict(model, images) == self.teacher.encode(images).values).float().flatten())
        return {"validation_right_codes": float(torch.cat(right).mean())}

    def preview(self, model: nn.Module) -> Image.Image | None:
        """Held-apart images beside what the teacher draws of the predicted codes."""
        if self.validation is None:
            return None
        images = self.validation.batch(np.arange(min(32, len(self.validation))))
        made = self.teacher.decode(Tokens(self.predict(model, images.to(model.tokenizer.device))))
        return grid([image for pair in zip(to_pil(images), to_pil(made)) for image in pair], columns=8)

    def export(self, model: nn.Module, folder: Path) -> None:
        model.tokenizer.save_pretrained(folder)
