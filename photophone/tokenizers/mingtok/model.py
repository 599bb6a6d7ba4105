"""MingTok: a low-level encoder, a causal semantic decoder and a pixel decoder around continuous tokens.

Paper: arXiv 2510.06590. Official code and weights: inclusionAI/Ming-UniVision and MingTok-Vision, MIT; the blocks are
DINOv2's (Apache-2.0). The last token belongs to the class token of the encoder: it draws nothing.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.heads.branched import swiglu_width
from photophone.layers.llama_block import GatedFeedForward
from photophone.layers.transformer import LayerCache, TransformerBlock
from photophone.layers.vit_keys import convert_vit_keys, drop_leading_axes, split_swiglu_keys
from photophone.loading.checkpoints import State, rename_keys
from photophone.quantizers.gaussian import NoQuantizer
from photophone.tokenizers.latent import LatentTokenizer, grid_side

HEAD_WIDTH = 64
EPS = 1e-6
KEYS = [(r"^low_level_encoder\.", "encoder."), (r"^semantic_decoder\.", "semantic."),
        (r"^pixel_decoder\.", "decoder."), (r"\bblocks\.0\.(?=\d)", "blocks."), (r"\bcls_token$", "class_token"),
        (r"\bpos_embed$", "position"), (r"\bpatch_embed\.proj\.", "patches."),
        (r"^decoder\.head\.", "decoder.to_pixels.")]


def ming_blocks(width: int, depth: int, gated: bool) -> nn.ModuleList:
    """Blocks with heads of 64 channels, and SwiGLU or an exact GELU."""
    feed_forward = (lambda dim, _: GatedFeedForward(dim, swiglu_width(dim), bias=True)) if gated else "gelu"
    return nn.ModuleList(TransformerBlock(width, width // HEAD_WIDTH, feed_forward=feed_forward, norm_eps=EPS)
                         for _ in range(depth))


class LowLevelEncoder(nn.Module):
    """Images (B, 3, H, W) to raw tokens (B, N + 1, D), that of the class token last."""

    def __init__(self, side: int, patch: int, width: int, depth: int, token_dim: int) -> None:
        super().__init__()
        self.token_dim = token_dim
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, width))
        self.position = nn.Parameter(0.02 * torch.randn(side**2 + 1, width))
        self.blocks = ming_blocks(width, depth, gated=True)
        self.out_norm = nn.LayerNorm(width, eps=EPS)
        self.out_proj = nn.Linear(width, token_dim)

    def forward(self, images: Tensor) -> Tensor:
        """See the class; the mean of each group of channels is added to what the last layers make."""
        cells = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([cells, self.class_token.expand(len(cells), 1, -1)], dim=1) + self.position
        for block in self.blocks:
            x = block(x)
        return x.unflatten(-1, (self.token_dim, -1)).mean(dim=-1) + self.out_proj(F.gelu(self.out_norm(x)))


class SemanticDecoder(nn.Module):
    """Raw tokens (B, N, D) to features (B, N, W), each of the tokens up to its own."""

    def __init__(self, token_dim: int, width: int, depth: int) -> None:
        super().__init__()
        self.width = width
        self.in_proj = nn.Linear(token_dim, width)
        self.blocks = ming_blocks(width, depth, gated=True)
        self.norm = nn.LayerNorm(width, eps=EPS)

    def embed(self, tokens: Tensor) -> Tensor:
        """What the first block reads: each channel of a token is added to a group of channels."""
        return self.in_proj(tokens) + tokens.repeat_interleave(self.width // tokens.shape[-1], dim=-1)

    def forward(self, tokens: Tensor, caches: list[LayerCache] | None = None) -> Tensor:
        """See the class; with caches, features of the next tokens."""
        x = self.embed(tokens)
        start = caches[0].length if caches else 0
        total = start + x.shape[1]
        mask = torch.ones(total, total, dtype=torch.bool, device=x.device).tril()[start:]
        for index, block in enumerate(self.blocks):
            x = block(x, mask, cache=None if caches is None else caches[index])
        return self.norm(x)

    def caches(self, rows: int, length: int) -> list[LayerCache]:
        """An empty cache for each block."""
        weight, heads = self.in_proj.weight, self.width // HEAD_WIDTH
        return [LayerCache(rows, heads, length, HEAD_WIDTH, weight.device, weight.dtype) for _ in self.blocks]


class PixelDecoder(nn.Module):
    """Tokens (B, N, W) of a square grid to images (B, 3, H, W)."""

    def __init__(self, width: int, depth: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.blocks = ming_blocks(width, depth, gated=False)
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.to_pixels = nn.Linear(width, 3 * patch * patch)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        for block in self.blocks:
            x = block(x)
        side = math.isqrt(x.shape[1])
        cells = self.to_pixels(self.norm(x)).unflatten(1, (side, side)).unflatten(3, (self.patch, self.patch, 3))
        return cells.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)  # (B, h, w, p, q, 3) -> (B, 3, hp, wq)

    def patchify(self, images: Tensor) -> Tensor:
        """The inverse of the last step: images to (B, N, 3 p p)."""
        cells = images.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))  # (B, 3, h, p, w, q)
        return cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


class MingTok(LatentTokenizer):
    """Images to continuous tokens (B, N + 1, D): one a patch, row by row, and one more.

    Args:
        image_size, patch: pixels per side of an image and of a token.
        token_dim: D, which divides the widths.
        encoder_width, encoder_depth: of the low-level encoder; widths are multiples of 64.
        semantic_width, semantic_depth: of the causal decoder, whose features a language model may read.
        pixel_width, pixel_depth, pixel_patch: of the pixel decoder, which works on smaller patches.
        token_mean, token_scale: what raw tokens are less, and then divided by.

    Raises:
        ValueError: for sizes that do not fit.
    """

    LAST_LAYER = "decoder.to_pixels"

    def __init__(self, image_size: int = 512, patch: int = 32, token_dim: int = 32, encoder_width: int = 768,
                 encoder_depth: int = 12, semantic_width: int = 1024, semantic_depth: int = 24,
                 pixel_width: int = 1024, pixel_depth: int = 24, pixel_patch: int = 16,
                 token_mean: float = 1.46817409, token_scale: float = 8.09449291) -> None:
        super().__init__()
        side, self.split = grid_side(image_size, patch), grid_side(patch, pixel_patch, "pixel_patch")
        for name, width in (("encoder_width", encoder_width), ("semantic_width", semantic_width)):
            if width % token_dim or width % HEAD_WIDTH:
                raise ValueError(f"{name} must be a multiple of {HEAD_WIDTH} and of token_dim {token_dim}, got {width}")
        if pixel_width % HEAD_WIDTH or not token_scale > 0:
            raise ValueError(f"pixel_width must be a multiple of {HEAD_WIDTH} and token_scale above 0, got "
                             f"{pixel_width} and {token_scale}")
        self.encoder = LowLevelEncoder(side, patch, encoder_width, encoder_depth, token_dim)
        self.bottleneck = NoQuantizer(token_dim)
        self.semantic = SemanticDecoder(token_dim, semantic_width, semantic_depth)
        self.sem_to_pix = nn.Linear(semantic_width, pixel_width * self.split**2)
        self.decoder = PixelDecoder(pixel_width, pixel_depth, pixel_patch)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        state = split_swiglu_keys(drop_leading_axes(state, ("cls_token", "pos_embed")))
        return rename_keys(convert_vit_keys(state), KEYS)

    @property
    def num_tokens(self) -> int:
        return (self.config.image_size // self.config.patch) ** 2 + 1

    def latents(self, images: Tensor) -> Tensor:
        return (self.encoder(images) - self.config.token_mean) / self.config.token_scale

    def raw(self, tokens: Tensor) -> Tensor:
        """Tokens (B, n, D) as the encoder makes them, neither centred nor scaled."""
        return tokens * self.config.token_scale + self.config.token_mean

    def semantics(self, tokens: Tensor, caches: list[LayerCache] | None = None) -> Tensor:
        """Features (B, n, W) of tokens (B, n, D), each of the tokens up to its own; with caches, of the next ones."""
        return self.semantic(self.raw(tokens), caches)

    def draw(self, features: Tensor) -> Tensor:
        """Features (B, N, W) of the patches to images (B, 3, H, W), not clamped."""
        side, split = math.isqrt(features.shape[1]), self.split
        cells = self.sem_to_pix(features).unflatten(1, (side, side)).unflatten(3, (split, split, -1))
        return self.decoder(cells.transpose(2, 3).flatten(1, 4))  # (B, h, w, x, y, c) -> (B, h x w y, c)

    def reconstruct(self, values: Tensor) -> Tensor:
        return self.draw(self.semantics(values)[:, :-1])
