"""What convolutional tokenizers share: one token for each cell of a grid, row by row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.layers.vqgan_keys import convert_vqgan_keys
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys
from photophone.quantizers.base import Quantizer
from photophone.tokenizers.base import ImageTokenizer


def to_sequence(grid: Tensor) -> Tensor:
    """(B, C, h, w) to (B, hw, C), row by row."""
    return grid.flatten(2).transpose(1, 2)


def to_grid(sequence: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, hw, C) to (B, C, h, w)."""
    return sequence.transpose(1, 2).unflatten(2, size)


class GridTokenizer(OriginalCheckpoint, ImageTokenizer):
    """Encoder, bottleneck and decoder around a grid of latents.

    A family's constructor builds the five modules below and calls :meth:`check_image_size`; its config has
    ``image_size`` and ``multipliers``. :meth:`encode` and :meth:`decode` keep to the one size of the config;
    :meth:`latents` and :meth:`reconstruct` take any.
    """

    encoder: nn.Module
    to_latent: nn.Module
    bottleneck: Quantizer
    from_latent: nn.Module
    decoder: nn.Module

    @property
    def stride(self) -> int:
        """Pixels per side of a cell."""
        return 2 ** (len(self.config.multipliers) - 1)

    @property
    def grid_size(self) -> int:
        """Cells per side."""
        return self.config.image_size // self.stride

    @property
    def num_tokens(self) -> int:
        return self.grid_size**2

    def check_image_size(self) -> None:
        """Refuse a config whose images do not divide into cells.

        Raises:
            ValueError: image_size is not a positive multiple of the stride.
        """
        size = self.config.image_size
        if size < self.stride or size % self.stride:
            raise ValueError(f"image_size must be a multiple of the stride {self.stride}, got {size}")

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours, for all layouts of :mod:`photophone.layers.vqgan_keys`."""
        return rename_keys(convert_vqgan_keys(state), [
            (r"^quantize\.embedding\.weight$", "bottleneck.codebook"),
            (r"^quant_conv\.", "to_latent."),
            (r"^post_quant_conv\.", "from_latent."),
        ])

    def latents(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to what the bottleneck reads, (B, D, h, w)."""
        return self.to_latent(self.encoder(images))

    def reconstruct(self, values: Tensor) -> Tensor:
        """Values of the bottleneck (B, C, h, w) to images (B, 3, H, W), not clamped."""
        return self.decoder(self.from_latent(values))

    def forward(self, images: Tensor, noise: Noise | None = None) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """One training pass: images (B, 3, H, W) in [-1, 1] to (reconstruction, bottleneck loss, metrics)."""
        latents = self.latents(images)
        output = self.bottleneck(to_sequence(latents), noise=noise)
        return self.reconstruct(to_grid(output.values, latents.shape[2:])), output.loss, output.metrics

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tokens:
        self.check_images(images)
        latents = self.latents(images.to(self.device, self.dtype))
        return Tokens(self.bottleneck.encode(to_sequence(latents)), model=self.published_name)

    @torch.no_grad()
    def decode(self, tokens: Tokens) -> Tensor:
        self.check_tokens(tokens)
        values = self.bottleneck.decode(tokens.values.to(self.device)).to(self.dtype)
        return self.reconstruct(to_grid(values, (self.grid_size, self.grid_size))).clamp(-1, 1)
