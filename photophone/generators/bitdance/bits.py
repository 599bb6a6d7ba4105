"""What BitDance's generators share: tokens of a grid as codes and as signs, in the order in which they are made."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.generators.base import Generator
from photophone.layers.cells import cell_order, check_cells
from photophone.quantizers.binary import GFQ


class GridBits(Generator):
    """Base of generators of tokens of signs; the config has ``bit_flip``.

    Attributes:
        grid: rows and columns of tokens.
        cell: tokens that are made together are a square of so many per side; 1: they follow in raster order.
        block: tokens that are made together.
        packing: signs to codes and back.
    """

    def _build_grid(self, grid: Sequence[int], step_side: int, token_dim: int, num_codebooks: int, *,
                    raster: bool = False) -> None:
        check_cells(*grid, step_side)
        self.grid, self.cell, self.block = tuple(grid), 1 if raster else step_side, step_side**2
        self.packing = GFQ(token_dim, num_codebooks)

    @property
    def num_tokens(self) -> int:
        """N."""
        return math.prod(self.grid)

    def places(self) -> Tensor:
        """Long (N,): the raster place of each token in the order of generation."""
        return cell_order(*self.grid, self.cell).to(self.device)

    def bits(self, codes: Tensor) -> Tensor:
        """Codes Long (B, Q, N) or (B, N), in raster order, to signs float (B, N, D) in the order of generation."""
        return self.packing.decode(codes)[:, self.places()]

    def codes(self, bits: Tensor) -> Tensor:
        """The inverse of :meth:`bits`."""
        return self.packing.encode(bits[:, self.places().argsort()])

    def flip_bits(self, bits: Tensor, noise: Noise) -> Tensor:
        """In training, signs of which half the share ``bit_flip`` is wrong on average; no draw otherwise."""
        if not (self.training and self.config.bit_flip):
            return bits
        wrong = noise.uniform(*bits.shape) < self.config.bit_flip * noise.uniform(*bits.shape)
        return torch.where(wrong, -bits, bits)

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        books = (self.packing.num_codebooks,) if self.packing.num_codebooks > 1 else ()
        generator = torch.Generator().manual_seed(seed)
        return Tokens(torch.randint(self.packing.codebook_size, (rows, *books, self.num_tokens), generator=generator))
