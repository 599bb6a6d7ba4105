"""The contract of image tokenizers."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.core.threads import fitting_threads
from photophone.core.token_model import Reconstruction
from photophone.core.tokens import Tokens
from photophone.data.image_reading import ImageReading
from photophone.quantizers.model import QuantizedModel


class ImageTokenizer(QuantizedModel):
    """Images float ``(B, 3, H, W)`` in [-1, 1] to :class:`Tokens` and back.

    A family has an ``image_size`` in its config and a quantizer ``bottleneck``, and implements :attr:`num_tokens`,
    :meth:`latents` and :meth:`reconstruct`; one that puts more between images and tokens overrides :meth:`_encode` and
    :meth:`_decode`. :meth:`encode` and :meth:`decode` check what they are given, move it to the model and switch
    gradients off, and are the same for all. Saving, loading and hub download come from
    :class:`photophone.core.model.Model`.
    """

    ENCODER_PARTS: ClassVar[tuple[str, ...]] = ("encoder", "to_latent", "bottleneck")
    """Beginnings of the names of all weights that tokens depend on."""
    LAST_LAYER: ClassVar[str] = "decoder.conv_out"
    """Name of the layer that draws the pixels."""
    reads_captions: ClassVar[bool] = False
    """True where the model compares images with captions: it has ``caption_length`` and :meth:`match_captions`."""

    reading: ClassVar[ImageReading] = ImageReading()
    """How pictures become the images that :meth:`encode` takes."""

    @property
    def image_size(self) -> int:
        """Height and width of the images, in pixels."""
        return self.config.image_size

    @property
    @abstractmethod
    def num_tokens(self) -> int:
        """Tokens per image."""

    @property
    def fixed_length(self) -> int:
        """:attr:`num_tokens`."""
        return self.num_tokens

    @property
    def token_counts(self) -> tuple[int, ...]:
        """Numbers of tokens that an image can have, rising; one where that is fixed, else :meth:`encode` takes it as
        ``num_tokens``."""
        return (self.num_tokens,)

    @torch.no_grad()
    def encode(self, images: Tensor, noise: Noise | None = None, **options: Any) -> Tokens:
        """Images to tokens.

        Args:
            images: (B, 3, H, W) in [-1, 1], on any device.
            noise: makes Gaussian tokens draws from their distributions, a row for each image; None: their means.
                Other tokens have nothing to draw.
            options: those of the family, see ``encode_options`` and its ``_encode``.

        Raises:
            ValueError: images that :meth:`check_images` refuses.
            TypeError: options of another family.
        """
        self.check_options(options, self.encode_options)
        self.check_images(images)
        with fitting_threads(self, len(images) * self.num_tokens, gives_way=True):
            tokens = self._encode(images.to(self.device, self.dtype), noise, **options)
        return replace(tokens, model=self.published_name)

    @torch.no_grad()
    def decode(self, tokens: Tokens, **options: Any) -> Tensor:
        """Tokens, on any device, to images (B, 3, H, W) in [-1, 1], clamped.

        Raises:
            ValueError: tokens that :meth:`check_tokens` refuses.
            TypeError: options of another family, see ``decode_options``.
        """
        self.check_options(options, self.decode_options)
        self.check_tokens(tokens)
        with fitting_threads(self, len(tokens) * tokens.num_tokens, gives_way=True):
            return self._decode(tokens.to(self.device), **options).clamp(-1, 1)

    @abstractmethod
    def latents(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to what the bottleneck reads, (B, N, D), with gradients."""

    @abstractmethod
    def reconstruct(self, values: Tensor) -> Tensor:
        """Values of the bottleneck (B, N, D) to images (B, 3, H, W), not clamped, with gradients."""

    def forward(self, images: Tensor, noise: Noise | None = None) -> Reconstruction:
        """One training pass of images (B, 3, H, W) in [-1, 1]."""
        output = self.bottleneck(self.latents(images), noise=noise)
        return Reconstruction(self.reconstruct(output.values), output.loss, output.metrics, output.values)

    def _encode(self, images: Tensor, noise: Noise | None) -> Tokens:
        """:meth:`encode` of the family: images are checked and on the model's device, in its dtype."""
        latents = self.latents(images)
        if noise is not None and self.token_format.is_continuous:
            return Tokens(self.bottleneck(latents, noise=noise).values)
        return Tokens(self.bottleneck.encode(latents))

    def _decode(self, tokens: Tokens) -> Tensor:
        """:meth:`decode` of the family: tokens are checked and on the model's device; the base clamps."""
        return self.reconstruct(self.bottleneck.decode(tokens.values).to(self.dtype))

    # for training -----------------------------------------------------------------------------------------------

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the layer that draws the pixels, where losses are weighed against each other (arXiv 2012.09841)."""
        return self.get_submodule(self.LAST_LAYER).weight

    @property
    def values_dim(self) -> int:
        """Channels D of :meth:`reconstruct`'s input."""
        return self.bottleneck.dim if self.token_dim is None else self.token_dim

    @property
    def crop_stride(self) -> int | None:
        """Pixels that the sides of a training crop must be a multiple of; None: only whole images can be read."""
        return None

    def freeze_encoder(self) -> None:
        """Let training change the decoder alone, so that tokens stay as they are."""
        for name, weight in self.named_parameters():
            weight.requires_grad_(not name.startswith(self.ENCODER_PARTS))

    def fit_statistics(self, images: Tensor) -> None:
        """Set what follows from the tokens of these images (B, 3, H, W) and is not learned: called when training ends.
        Most families have nothing to set."""

    def check_images(self, images: Tensor) -> None:
        """Refuse what :meth:`encode` cannot read.

        Raises:
            ValueError: wrong shape, size, dtype, or values that are not finite or not in [-1, 1].
        """
        size = self.image_size
        if images.dim() != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise ValueError(f"images must have shape (B, 3, {size}, {size}), got {tuple(images.shape)}; "
                             f"resize them to {size}x{size} RGB first")
        if not images.is_floating_point():
            raise ValueError(f"images must be float in [-1, 1], got {images.dtype}; use images / 127.5 - 1")
        if images.numel():
            low, high = torch.aminmax(images.detach())
            if not (low >= -1.001 and high <= 1.001):  # also false for NaN
                raise ValueError(f"images must lie in [-1, 1], got values from {low:.4g} to {high:.4g}")
