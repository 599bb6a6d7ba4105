"""ALIT's encoder: one transformer that runs several times over the image, each time with more latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.layers.latent_vit import LatentViT


class RecurrentEncoder(LatentViT):
    """The sequence [class, grid, latents], which each pass refines and the next one gets further latents behind.

    Args:
        iterations: passes that have embeddings of their own.
        sizes, options: see :class:`photophone.layers.latent_vit.LatentViT`; ``num_latents`` are those that each pass
            adds.
    """

    def __init__(self, *sizes: int, num_latents: int, iterations: int, norm_eps: float = 1e-5, **options) -> None:
        super().__init__(*sizes, num_latents=num_latents, norm_in=True, norm_eps=norm_eps, **options)
        width = sizes[0]
        self.latent_tokens = nn.Parameter(width**-0.5 * torch.randn(num_latents, width))
        self.times = nn.Parameter(0.02 * torch.randn(iterations, num_latents, width))
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, width))
        self.norm_again = nn.LayerNorm(width, eps=norm_eps)

    def fresh(self, rows: int, iteration: int) -> Tensor:
        """The latents (B, N, W) that a pass adds."""
        return (self.place(self.latent_tokens) + self.times[iteration]).expand(rows, -1, -1)

    def begin(self, cells: Tensor) -> Tensor:
        """What the first pass reads of the grid (B, hw, W)."""
        rows = len(cells)
        cells = torch.cat([self.class_token.expand(rows, 1, -1), cells], dim=1) + self.positions
        return self.norm_in(torch.cat([cells, self.fresh(rows, 0)], dim=1))

    def advance(self, x: Tensor) -> Tensor:
        """One pass of the sequence (B, 1 + hw + n, W)."""
        for block in self.blocks:
            x = block(x)
        return x

    def latents_of(self, x: Tensor) -> Tensor:
        """The latents (B, n, W) of a sequence, not normalised."""
        return x[:, len(self.positions):]

    def hide(self, x: Tensor, masked: Tensor) -> Tensor:
        """The sequence with mask tokens in the place of cells where ``masked``, bool (B, hw), is True."""
        end = len(self.positions)
        cells = torch.where(masked[..., None], self.mask_token + self.positions[1:], x[:, 1:end])
        return torch.cat([x[:, :1], cells, x[:, end:]], dim=1)

    def grow(self, x: Tensor, iteration: int) -> Tensor:
        """What pass number ``iteration``, from 1, reads of the sequence behind the one before."""
        return self.norm_again(torch.cat([x, self.fresh(len(x), iteration)], dim=1))
