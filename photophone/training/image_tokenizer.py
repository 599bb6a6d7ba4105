"""Training of image tokenizers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from photophone.data.images import ImageDataset
from photophone.pictures import grid, to_pil


@dataclass
class ReconstructionWeights:
    """Weights of the loss terms.

    Args:
        l2, l1: mean squared and mean absolute error of pixels in [-1, 1].
        log_l2: mean over images of the natural logarithm of their squared error: every image counts by its PSNR, so
            that simple ones, whose error is small already, go on improving.
        quantizer: the quantizer's own loss.
        flip: probability of mirroring an example.
    """

    l2: float = 1.0
    l1: float = 0.2
    log_l2: float = 0.0
    quantizer: float = 1.0
    flip: float = 0.5


class ImageTokenizerTask:
    """Reconstruction of images through their tokens.

    Args:
        model: a tokenizer whose forward returns (reconstruction, quantizer loss, metrics).
        data: training images.
        validation: held-apart images for PSNR and previews, or None.
        weights: of the loss terms.
        freeze_encoder: train the decoder alone, for latents that a generator already depends on.
    """

    def __init__(self, model: nn.Module, data: ImageDataset, validation: ImageDataset | None = None,
                 weights: ReconstructionWeights | None = None, freeze_encoder: bool = False) -> None:
        self.model = model.to(memory_format=torch.channels_last)
        self.data, self.validation = data, validation
        self.weights = weights or ReconstructionWeights()
        self.num_examples = len(data)
        if freeze_encoder:
            model.freeze_encoder()

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        images = self.data.batch(indices)
        flip = torch.from_numpy(rng.random(len(images)) < self.weights.flip)
        images[flip] = images[flip].flip(-1)
        return {"images": images}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        images, weights = batch["images"], self.weights
        reconstruction, quantizer_loss, metrics = model(images)
        error = reconstruction.float() - images
        squared = error.square().mean(dim=(1, 2, 3))  # (B,)
        l2, l1 = squared.mean(), error.abs().mean()
        loss = weights.l2 * l2 + weights.l1 * l1 + weights.quantizer * quantizer_loss
        if weights.log_l2:
            loss = loss + weights.log_l2 * squared.clamp(min=1e-6).log().mean()
        return loss, {"l2_loss": l2, "l1_loss": l1, **metrics}

    def validate(self, model: nn.Module) -> dict[str, float]:
        if self.validation is None:
            return {}
        errors = []
        for start in range(0, len(self.validation), 64):
            images = self.validation.batch(np.arange(start, min(start + 64, len(self.validation))))
            error = model.decode(model.encode(images)).cpu() - images
            errors.append(error.square().mean(dim=(1, 2, 3)))
        mse = torch.cat(errors) / 4  # of pixels in [0, 1]
        return {"validation_psnr": float((-10 * mse.clamp(min=1e-10).log10()).mean()),
                "validation_psnr_of_mean": float(-10 * mse.mean().log10())}

    def preview(self, model: nn.Module) -> Image.Image | None:
        if self.validation is None:
            return None
        images = self.validation.batch(np.arange(min(32, len(self.validation))))
        pairs = zip(to_pil(images), to_pil(model.decode(model.encode(images))))
        return grid([image for pair in pairs for image in pair], columns=8)

    def export(self, model: nn.Module, folder: Path) -> None:
        model.save_pretrained(folder)
