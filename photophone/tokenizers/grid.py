"""What convolutional tokenizers share: one token for each cell of a grid, row by row."""

from __future__ import annotations

import math

from torch import Tensor, nn

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
    :meth:`encode_grid` and :meth:`decode_grid` take any.
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

    @property
    def crop_stride(self) -> int | None:
        return self.stride

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

    def encode_grid(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to the grid (B, D, h, w) that the bottleneck reads as a sequence."""
        return self.to_latent(self.encoder(images))

    def decode_grid(self, values: Tensor) -> Tensor:
        """A grid of values of the bottleneck (B, C, h, w) to images (B, 3, H, W), not clamped."""
        return self.decoder(self.from_latent(values))

    def latents(self, images: Tensor) -> Tensor:
        return to_sequence(self.encode_grid(images))

    def reconstruct(self, values: Tensor) -> Tensor:
        """Values (B, hw, C) of a square grid to images, not clamped."""
        side = math.isqrt(values.shape[1])
        return self.decode_grid(to_grid(values, (side, side)))
