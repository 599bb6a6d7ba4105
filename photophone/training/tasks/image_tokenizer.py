"""Training of image tokenizers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from photophone.core.pictures import grid, to_pil
from photophone.core.token_model import Reconstruction
from photophone.data.images import ImageDataset
from photophone.evaluation.metrics.image import ssim_of
from photophone.text.caption_tokenizer import CaptionTokenizer
from photophone.text.captions import encode_captions
from photophone.text.plain_caption import normalize_caption
from photophone.tokenizers.base import ImageTokenizer
from photophone.training.loop.task import Task
from photophone.training.losses.adversary import Adversary
from photophone.training.losses.alignment import Alignment
from photophone.training.losses.image import PerceptualLoss, Ramp, WeightedSum, adaptive_weight, contrastive_loss
from photophone.training.tasks.image_conditions import EncodedCaptions


@dataclass
class ReconstructionWeights:
    """Weights of the loss terms. Those of type :class:`photophone.training.losses.image.Ramp` may be a number, or a
    mapping of ``weight``, ``start`` and ``warmup`` in steps.

    Args:
        l2, l1: mean squared and mean absolute error of pixels in [-1, 1].
        log_l2: mean over images of the natural logarithm of their squared error: every image counts by its PSNR, so
            that simple ones, whose error is small already, go on improving.
        ssim: one less the structural similarity, of images of at least 11x11: local contrast and edges.
        quantizer: the quantizer's own loss: codebook and commitment, entropy, or KL.
        perceptual: distance in a frozen network's features.
        adversarial: of the discriminators, which learn from its ``start`` on too.
        features: matching of the discriminators' features.
        alignment: of tokens with the features of a frozen network's patches.
        contrastive: of images and captions.
        adaptive: multiply the adversarial weight by the ratio of the gradients at the last layer (VQGAN).
        adaptive_least: lower limit of that ratio.
        flip: probability of mirroring an example.
        quantize_from: steps that train without quantizing; the codebook is then filled with latents of a batch, so
            that nearly all of its codes are used. None quantizes from the start with the codebook as it is made.
        crop: train on random squares of this many pixels, for convolutional tokenizers; None trains on whole images.
    """

    l2: float = 1.0
    l1: float = 0.2
    log_l2: float = 0.0
    ssim: float = 0.0
    quantizer: float = 1.0
    perceptual: Ramp = field(default_factory=Ramp)
    adversarial: Ramp = field(default_factory=Ramp)
    features: Ramp = field(default_factory=Ramp)
    alignment: Ramp = field(default_factory=Ramp)
    contrastive: Ramp = field(default_factory=Ramp)
    adaptive: bool = False
    adaptive_least: float = 0.0
    flip: float = 0.5
    quantize_from: int | None = None
    crop: int | None = None

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.type == "Ramp":
                setattr(self, setting.name, Ramp.read(value))
            elif setting.type == "float" and (not isinstance(value, int | float) or not math.isfinite(value)):
                raise ValueError(f"task.{setting.name} must be a finite number, got {value!r}")


def check_crop(model: ImageTokenizer, crop: int) -> None:
    """Refuse crops that the tokenizer cannot read.

    Raises:
        ValueError: a tokenizer that reads whole images only, or a crop that is no multiple of the stride.
    """
    stride = model.crop_stride
    if stride is None:
        raise ValueError(f"crop: {type(model).__name__} reads images of {model.image_size} pixels only; leave crop out")
    if not 0 < crop <= model.image_size or crop % stride:
        raise ValueError(f"crop must be a multiple of the stride {stride} up to {model.image_size}, got {crop}")


def random_crops(images: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """A square (B, 3, size, size) of each image (B, 3, H, W), at a place of its own."""
    places = rng.integers(0, np.array(images.shape[2:]) - size + 1, size=(len(images), 2))
    return torch.stack([image[:, top:top + size, left:left + size] for image, (top, left) in zip(images, places)])


class TokenizerInTraining(nn.Module):
    """A tokenizer with what is trained beside it: what the loop optimises, saves and averages."""

    def __init__(self, tokenizer: ImageTokenizer, adversary: Adversary | None, alignment: Alignment | None) -> None:
        super().__init__()
        self.tokenizer, self.adversary, self.alignment = tokenizer, adversary, alignment

    def forward(self, images: Tensor, features: Tensor | None = None, captions: Tensor | None = None,
                **read: Tensor) -> Reconstruction:
        """As the tokenizer's own forward; the metrics hold the losses ``alignment`` and ``contrastive`` too.

        Args:
            features: (B, L, C) of :meth:`photophone.training.losses.alignment.Alignment.teach`, or None.
            captions: Long (B, T), for tokenizers that are compared with captions, or None.
            read: what else the tokenizer reads, such as ``text_states``.
        """
        output = self.tokenizer(images, **read)
        extra: dict[str, Tensor] = {}
        if features is not None:
            extra["alignment"] = self.alignment(output.values, features)
        if captions is not None:
            extra["contrastive"] = contrastive_loss(*self.tokenizer.match_captions(output.values, captions))
        return replace(output, metrics={**output.metrics, **extra})


class ImageTokenizerTask(Task):
    """Reconstruction of images through their tokens.

    Args:
        model: a tokenizer.
        data: training images.
        validation: held-apart images for PSNR and previews, or None.
        weights: of the loss terms.
        freeze_encoder: train the decoder alone, for latents that a generator already depends on.
        perceptual: a :class:`photophone.training.losses.image.PerceptualLoss`, where it has a weight.
        adversary: discriminators, where they have a weight.
        alignment: see :class:`photophone.training.losses.alignment.Alignment`, where it has a weight.
        text_tokenizer: vocabulary of the captions for the contrastive loss; its last id, which the model's vocabulary
            must hold beside it, ends a caption.
        condition: captions as states of CLIP's text tower, which TA-TiTok's decoder reads.

    Raises:
        ValueError: a weight without the part it belongs to.
    """

    def __init__(self, model: ImageTokenizer, data: ImageDataset, validation: ImageDataset | None = None,
                 weights: ReconstructionWeights | None = None, freeze_encoder: bool = False, *,
                 perceptual: PerceptualLoss | WeightedSum | None = None, adversary: Adversary | None = None,
                 alignment: Alignment | None = None, text_tokenizer: CaptionTokenizer | None = None,
                 condition: EncodedCaptions | None = None) -> None:
        self.weights = weights or ReconstructionWeights()
        parts = {"perceptual": perceptual, "adversarial": adversary, "features": adversary, "alignment": alignment,
                 "contrastive": text_tokenizer}
        missing = [name for name, part in parts.items() if getattr(self.weights, name).weight and part is None]
        if missing:
            raise ValueError(f"the losses {', '.join(missing)} have a weight, but their networks are not given")
        if text_tokenizer is not None and not model.reads_captions:
            raise ValueError(f"contrastive: {type(model).__name__} reads no captions; use the family unitok-clip")
        if condition is not None and "text_states" not in model.decode_options:
            raise ValueError(f"condition: the decoder of {type(model).__name__} reads no captions; leave it out")
        if self.weights.quantize_from is not None and not model.bottleneck.has_codes:
            raise ValueError(f"quantize_from: {type(model).__name__} has continuous tokens; leave it out")
        if self.weights.crop is not None:
            check_crop(model, self.weights.crop)
        model.to(memory_format=torch.channels_last)
        extra = any(part is not None for part in (adversary, alignment, text_tokenizer))
        self.model = TokenizerInTraining(model, adversary, alignment) if extra else model
        self.tokenizer, self.adversary, self.alignment = model, adversary, alignment
        self.data, self.validation = data, validation
        self.perceptual, self.text_tokenizer, self.condition = perceptual, text_tokenizer, condition
        self.num_examples = len(data)
        if freeze_encoder:
            model.freeze_encoder()

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        images = self.data.batch(indices)
        flip = torch.from_numpy(rng.random(len(images)) < self.weights.flip)
        images[flip] = images[flip].flip(-1)
        if self.weights.crop is not None:
            images = random_crops(images, self.weights.crop, rng)
        batch = {"images": images, **self.read_beside(self.data, indices)}
        if self.text_tokenizer is not None:
            batch["captions"] = self.caption_ids([self.data.fields[i]["caption"] for i in indices])
        return batch

    def read_beside(self, data: ImageDataset, indices: np.ndarray) -> dict[str, Tensor]:
        """What the decoder reads beside tokens, by the name of its argument."""
        if self.condition is None:
            return {}
        return {"text_states": self.condition.plain([data.fields[i] for i in indices]).text_states}

    def caption_ids(self, captions: list[str]) -> Tensor:
        """Long (B, T): ids, then the end, which is the highest id, then padding."""
        length = self.tokenizer.caption_length - 1
        ids, mask, _ = encode_captions(self.text_tokenizer, [normalize_caption(text) for text in captions],
                                       truncate=True)
        ids, mask = (nn.functional.pad(part[:, :length], (0, 1)) for part in (ids, mask))
        return ids.scatter(1, mask.sum(dim=1, keepdim=True), len(self.text_tokenizer))

    def loss(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        images, weights = batch["images"], self.weights
        if weights.quantize_from is not None:
            self.start_quantizing(images, step)
        extra = {name: part for name, part in batch.items() if name != "images"}
        if self.alignment is not None:
            extra["features"] = self.alignment.teach(images)
        output = model(images, **extra)
        made, metrics = output.media.float(), output.metrics
        error = made - images
        squared = error.square().mean(dim=(1, 2, 3))  # (B,)
        terms = {"l2_loss": squared.mean(), "l1_loss": error.abs().mean()}
        fit = weights.l2 * terms["l2_loss"] + weights.l1 * terms["l1_loss"]
        if weights.log_l2:
            fit = fit + weights.log_l2 * squared.clamp(min=1e-6).log().mean()
        if weights.ssim:
            with torch.autocast(made.device.type, enabled=False):  # variances are differences of like numbers
                terms["ssim"] = ssim_of(made, images).mean()
            fit = fit + weights.ssim * (1 - terms["ssim"])
        if self.perceptual is not None and weights.perceptual.at(step):
            terms["perceptual"] = self.perceptual(made, images)
            fit = fit + weights.perceptual.at(step) * terms["perceptual"]
        loss = fit + weights.quantizer * output.loss
        for name in ("alignment", "contrastive"):
            if name in metrics:
                loss = loss + getattr(weights, name).at(step) * metrics[name]
        if self.adversary is not None:
            game_loss, game = self.play(self.adversary, made, images, fit, step)
            loss, terms = loss + game_loss, {**terms, **game}
        return loss, {**terms, **metrics}

    def start_quantizing(self, images: Tensor, step: int) -> None:
        """Hand latents through up to the step ``quantize_from``, and fill the codebook with latents there; see
        :meth:`photophone.quantizers.base.Quantizer.start_codebook`."""
        bottleneck, start = self.tokenizer.bottleneck, self.weights.quantize_from
        bottleneck.bypassed = step < start
        if step == start:
            with torch.no_grad():
                bottleneck.start_codebook(self.tokenizer.latents(images))

    def play(self, adversary: Adversary, made: Tensor, images: Tensor, fit: Tensor,
             step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Adversarial losses, and what to log of them.

        Args:
            made, images: (B, 3, H, W).
            fit: the other losses of the reconstruction, for the adaptive weight.
            step: optimizer steps done.
        """
        weights = self.weights
        if step < min(weights.adversarial.start, weights.features.start or weights.adversarial.start):
            return sum(0 * weight.sum() for weight in adversary.parameters()), {}  # the same graph in all processes
        game = adversary(made, images)
        scale = torch.ones((), device=made.device)
        if weights.adaptive:
            scale = adaptive_weight(fit, game["adversarial"], self.tokenizer.last_layer, least=weights.adaptive_least)
            game["adaptive_weight"] = scale
        loss = (game["discriminator"] + weights.adversarial.at(step) * scale * game["adversarial"]
                + weights.features.at(step) * game["features"])
        return loss, game

    def views(self) -> dict[str, tuple[dict, dict]]:
        """Ways to use the tokenizer that validation tells apart: options of ``encode`` and of ``decode``, by the end of
        the metrics' names."""
        tokenizer = self.tokenizer
        found: dict[str, tuple[dict, dict]] = {"": ({}, {})}
        found |= {f"_{count}_tokens": ({"num_tokens": count}, {}) for count in tokenizer.token_counts[:-1]}
        if "residual" in tokenizer.decode_options:
            found["_codes_alone"] = ({}, {"residual": False})
        if self.condition is not None:
            found["_without_captions"] = ({}, {"text_states": None})
        return found

    def made_of(self, indices: np.ndarray, encode: dict, decode: dict) -> tuple[Tensor, Tensor]:
        """Held-apart images (B, 3, H, W), and what the tokenizer makes of them with options of both directions."""
        images = self.validation.batch(indices)
        read = {**self.read_beside(self.validation, indices), **decode}
        return images, self.tokenizer.decode(self.tokenizer.encode(images, **encode), **read).cpu()

    def validate(self, model: nn.Module) -> dict[str, float]:
        """PSNR in dB: the mean over images, and that of the mean error; for each of :meth:`views`."""
        if self.validation is None:
            return {}
        found = {}
        for ending, options in self.views().items():
            errors = []
            for start in range(0, len(self.validation), 64):
                images, made = self.made_of(np.arange(start, min(start + 64, len(self.validation))), *options)
                errors.append((made - images).square().mean(dim=(1, 2, 3)))
            mse = torch.cat(errors) / 4  # of pixels in [0, 1]
            found[f"validation_psnr{ending}"] = float((-10 * mse.clamp(min=1e-10).log10()).mean())
            found[f"validation_psnr{ending}_of_mean"] = float(-10 * mse.mean().log10())
        return found

    def preview(self, model: nn.Module) -> Image.Image | None:
        if self.validation is None:
            return None
        images, made = self.made_of(np.arange(min(32, len(self.validation))), {}, {})
        return grid([image for pair in zip(to_pil(images), to_pil(made)) for image in pair], columns=8)

    def export(self, model: nn.Module, folder: Path) -> None:
        self.tokenizer.fit_statistics(self.data.batch(np.arange(min(256, len(self.data)))))
        self.tokenizer.save_pretrained(folder)
