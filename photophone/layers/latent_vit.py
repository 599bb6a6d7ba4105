"""Vision transformers that read an image into a few latent tokens, and write it from them.

The pair of TiTok (arXiv 2406.07550) and of all that follow it: the grid's tokens come first, after a class token, and
the latents are appended. What differs between the families are flags.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.layers.rope2d import MixedRope2d
from photophone.layers.transformer import TransformerBlock


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """Patches (B, hw, p p C) of a square grid, the channel fastest, to an image (B, C, h p, w p)."""
    rows, places, _ = patches.shape
    side = round(places**0.5)
    x = patches.view(rows, side, side, patch, patch, -1)  # (B, h, w, p, p, C)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(rows, x.shape[-1], side * patch, side * patch)


def start_seeing(*networks: LatentViT) -> None:
    """Ours: larger first weights of the blocks, which behind a norm in front would hardly see the image else."""
    for network in networks:
        for block in network.blocks.modules():
            if isinstance(block, nn.Linear):
                nn.init.xavier_uniform_(block.weight)


class LatentViT(nn.Module):
    """What the encoder and the decoder share: the sequence [class, grid, latents] through the blocks.

    Args:
        width, depth, num_heads: of the transformer.
        grid: tokens per side of the grid.
        num_latents: latent tokens N.
        class_token: a learned token in front.
        grid_positions: learned positions of the class token and the grid.
        norm_in: a layer normalisation before the blocks.
        norm_eps: of all layer normalisations.
        rope_theta: adds mixed rotary embedding of the grid's tokens; see :class:`MixedRope2d`.
        latent_positions: learned positions of the latents; without, the latents are a set.
        block: further arguments of :class:`photophone.layers.transformer.TransformerBlock`.
    """

    def __init__(self, width: int, depth: int, num_heads: int, *, grid: int, num_latents: int,
                 class_token: bool = True, grid_positions: bool = True, norm_in: bool = False, norm_eps: float = 1e-5,
                 rope_theta: float | None = None, latent_positions: bool = True, **block) -> None:
        super().__init__()
        self.grid = grid
        before = int(class_token)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, width)) if class_token else None
        self.positions = nn.Parameter(0.02 * torch.randn(before + grid**2, width)) if grid_positions else None
        self.latent_positions = nn.Parameter(0.02 * torch.randn(num_latents, width)) if latent_positions else None
        self.norm_in = nn.LayerNorm(width, eps=norm_eps) if norm_in else nn.Identity()
        self.rope = None
        if rope_theta is not None:
            self.rope = MixedRope2d(depth, num_heads, width // num_heads, grid, before, rope_theta)
        self.blocks = nn.ModuleList(TransformerBlock(width, num_heads, norm_eps=norm_eps, **block)
                                    for _ in range(depth))
        self.norm_out = nn.LayerNorm(width, eps=norm_eps)

    def place(self, latents: Tensor) -> Tensor:
        """Latents (..., N, W) with the first N positions, where they have some."""
        return latents if self.latent_positions is None else latents + self.latent_positions[:latents.shape[-2]]

    def run(self, cells: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Grid (B, hw, W) and latents (B, N, W) through the blocks: normalised grid and latents."""
        if self.class_token is not None:
            cells = torch.cat([self.class_token.expand(len(cells), 1, -1), cells], dim=1)
        if self.positions is not None:
            cells = cells + self.positions
        end = cells.shape[1]
        before = end - self.grid**2  # places of the class token
        x = torch.cat([cells, latents], dim=1)  # (B, 1 + hw + N, W)
        x = self.norm_in(x)
        for index, block in enumerate(self.blocks):
            x = block(x, rotate=None if self.rope is None else self.rope.rotation(index))
        return self.norm_out(x[:, before:end]), self.norm_out(x[:, end:])


class LatentEncoder(LatentViT):
    """Images (B, 3, H, W) to latent tokens (B, N, W).

    Args:
        patch: pixels per side of a patch.
        mask_token: a learned token that replaces dropped patches.
        sizes: see :class:`LatentViT`.
    """

    def __init__(self, *sizes: int, patch: int, num_latents: int, mask_token: bool = False, **options) -> None:
        super().__init__(*sizes, num_latents=num_latents, **options)
        width = sizes[0]
        self.patch_embed = nn.Conv2d(3, width, patch, stride=patch)
        self.latent_tokens = nn.Parameter(width**-0.5 * torch.randn(num_latents, width))
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, width)) if mask_token else None

    def forward(self, images: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Normalised latents; ``dropped`` (B, hw) is True where a patch is hidden from the encoder."""
        cells = self.patch_embed(images).flatten(2).transpose(1, 2)  # (B, W, h, w) -> (B, hw, W)
        if dropped is not None:
            cells = torch.where(dropped[..., None], self.mask_token.to(cells.dtype), cells)
        latents = self.place(self.latent_tokens).expand(len(cells), -1, -1)
        return self.run(cells, latents)[1]


class LatentDecoder(LatentViT):
    """Latents (B, N, W) to tokens of the grid (B, hw, W); the arguments are those of :class:`LatentViT`."""

    def __init__(self, *sizes: int, **options) -> None:
        super().__init__(*sizes, **options)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, sizes[0]))

    def forward(self, latents: Tensor, beside: Tensor | None = None) -> Tensor:
        """Normalised tokens of the grid (B, hw, W) of latents (B, N, W); ``beside`` (B, T, W) are further tokens, such
        as those of a caption, which are read as they are."""
        cells = self.mask_token.expand(len(latents), self.grid**2, -1)
        latents = self.place(latents)
        return self.run(cells, latents if beside is None else torch.cat([latents, beside], dim=1))[0]
