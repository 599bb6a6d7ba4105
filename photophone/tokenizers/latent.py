"""What tokenizers with latent tokens share: a transformer reads the image into N tokens that lie on no grid."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.loading.checkpoints import OriginalCheckpoint
from photophone.tokenizers.base import ImageTokenizer


def grid_side(image_size: int, patch: int, name: str = "patch") -> int:
    """Patches per side of an image.

    Raises:
        ValueError: the patch does not divide the image.
    """
    if patch < 1 or image_size < patch or image_size % patch:
        raise ValueError(f"image_size must be a positive multiple of {name}, got image_size={image_size} and "
                         f"{name}={patch}")
    return image_size // patch


class LatentTokenizer(OriginalCheckpoint, ImageTokenizer):
    """Encoder to a sequence of latents, bottleneck, decoder.

    A family's config has ``image_size`` and ``num_tokens``; its constructor builds ``bottleneck``, and it implements
    :meth:`latents` and :meth:`reconstruct`.
    """

    @property
    def num_tokens(self) -> int:
        return self.config.num_tokens

    @abstractmethod
    def latents(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to what the bottleneck reads, (B, N, D)."""

    @abstractmethod
    def reconstruct(self, values: Tensor) -> Tensor:
        """Values of the bottleneck (B, N, D) to images (B, 3, H, W), not clamped."""

    def forward(self, images: Tensor, noise: Noise | None = None) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """One training pass: images (B, 3, H, W) in [-1, 1] to (reconstruction, bottleneck loss, metrics)."""
        output = self.bottleneck(self.latents(images), noise=noise)
        return self.reconstruct(output.values), output.loss, output.metrics

    @torch.no_grad()
    def encode(self, images: Tensor, noise: Noise | None = None) -> Tokens:
        """Images (B, 3, H, W) in [-1, 1] to tokens; ``noise`` makes a Gaussian bottleneck draw, else it is the mean."""
        self.check_images(images)
        latents = self.latents(images.to(self.device, self.dtype))
        if noise is not None and self.codebook_size is None:
            return Tokens(self.bottleneck(latents, noise=noise).values, model=self.published_name)
        return Tokens(self.bottleneck.encode(latents), model=self.published_name)

    @torch.no_grad()
    def decode(self, tokens: Tokens) -> Tensor:
        self.check_tokens(tokens)
        values = self.bottleneck.decode(tokens.values.to(self.device)).to(self.dtype)
        return self.reconstruct(values).clamp(-1, 1)
