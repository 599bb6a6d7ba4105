"""BAR's tokenizer: SigLIP 2 reads the image, each of its tokens becomes some bits, a ViT draws the pixels.

Paper: arXiv 2602.09024. Official code: amazon-far/BAR, Apache-2.0, as are the weights. The encoder started as SigLIP 2
so400m (arXiv 2502.14786, Apache-2.0).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.layers.transformer import TransformerBlock
from photophone.layers.vit_keys import convert_vit_keys
from photophone.loading.checkpoints import State, rename_keys
from photophone.quantizers.fsq import FSQ
from photophone.tokenizers.latent import LatentTokenizer, grid_side

PATCH = 16
BORDER = -math.atanh(0.5 / 0.5005)
"""Where a channel of FSQ turns from 0 to 1."""
SIGLIP_EPS, DECODER_EPS = 1e-6, 1e-5
KEYS = [(r"^encoder\.siglip\.embeddings\.patch_embedding\.", "encoder.patches."),
        (r"^encoder\.siglip\.embeddings\.position_embedding\.weight$", "encoder.position"),
        (r"^encoder\.trainable_encoder\.layers\.", "encoder.blocks."),
        (r"^encoder\.trainable_post_layernorm\.", "encoder.norm."),
        (r"^encoder\.frozen_encoder\.layers\.", "frozen_blocks."),
        (r"^encoder\.frozen_post_layernorm\.", "frozen_norm."),
        (r"^decoder\.clip_projector\.", "to_frozen."), (r"^quantize\.in_proj\.", "bottleneck.project_in."),
        (r"^quantize\.out_proj\.", "bottleneck.project_out."), (r"^decoder\.class_embedding$", "decoder.class_token"),
        (r"^decoder\.positional_embedding$", "decoder.position"), (r"^decoder\.ln_pre\.", "decoder.norm_in."),
        (r"^decoder\.ln_post\.", "decoder.norm_out."), (r"^decoder\.transformer\.", "decoder.blocks."),
        (r"^decoder\.ffn\.0\.", "decoder.to_pixels.")]


def patches_of(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) to patches (B, N, 16 * 16 * 3), row by row; each is (row, column, colour)."""
    cells = images.unflatten(3, (-1, PATCH)).unflatten(2, (-1, PATCH))  # (B, 3, h, p, w, p)
    return cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def siglip_blocks(width: int, depth: int, num_heads: int, hidden: int) -> nn.ModuleList:
    """The transformer of SigLIP."""
    return nn.ModuleList(TransformerBlock(width, num_heads, hidden / width, norm_eps=SIGLIP_EPS) for _ in range(depth))


class SiglipEncoder(nn.Module):
    """Images (B, 3, H, W) to normalised features (B, N, W) of their patches.

    Args:
        width, depth, num_heads, hidden: of SigLIP.
        positions: places of its square table of positions, which is resized to the image.
    """

    def __init__(self, width: int, depth: int, num_heads: int, hidden: int, positions: int) -> None:
        super().__init__()
        self.patches = nn.Linear(PATCH * PATCH * 3, width)
        self.position = nn.Parameter(0.02 * torch.randn(positions, width))
        self.blocks = siglip_blocks(width, depth, num_heads, hidden)
        self.norm = nn.LayerNorm(width, eps=SIGLIP_EPS)

    def embed(self, images: Tensor) -> Tensor:
        """Patches with their positions, (B, N, W)."""
        side = math.isqrt(len(self.position))
        table = self.position.float().unflatten(0, (side, side)).permute(2, 0, 1)[None]  # (1, W, side, side)
        size = [length // PATCH for length in images.shape[2:]]
        resized = F.interpolate(table, size=size, mode="bilinear", align_corners=False, antialias=True)
        return self.patches(patches_of(images)) + resized[0].flatten(1).t().to(self.position.dtype)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class PixelDecoder(nn.Module):
    """Tokens (B, N, W) of a square grid to images (B, 3, H, W).

    Args:
        num_tokens: N.
        width, depth, num_heads: of the transformer.
    """

    def __init__(self, num_tokens: int, width: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.class_token = nn.Parameter(width**-0.5 * torch.randn(1, width))
        self.position = nn.Parameter(width**-0.5 * torch.randn(1 + num_tokens, width))
        self.norm_in = nn.LayerNorm(width, eps=DECODER_EPS)
        self.blocks = nn.ModuleList(TransformerBlock(width, num_heads, feed_forward="gelu", norm_eps=DECODER_EPS)
                                    for _ in range(depth))
        self.norm_out = nn.LayerNorm(width, eps=DECODER_EPS)
        self.to_pixels = nn.Conv2d(width, PATCH * PATCH * 3, 1)
        self.conv_out = nn.Conv2d(3, 3, 3, padding=1)

    def states(self, tokens: Tensor, depth: int | None = None) -> Tensor:
        """Class token and tokens (B, 1 + N, W) behind the first ``depth`` blocks, or all."""
        x = torch.cat([self.class_token.expand(len(tokens), 1, -1), tokens], dim=1) + self.position
        x = self.norm_in(x)
        for block in self.blocks[:depth]:
            x = block(x)
        return x

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        x = self.norm_out(self.states(tokens)[:, 1:])
        side = math.isqrt(x.shape[1])
        cells = self.to_pixels(x.transpose(1, 2).unflatten(2, (side, side)))
        cells = cells.unflatten(1, (PATCH, PATCH, 3)).permute(0, 3, 4, 1, 5, 2)  # (B, 3, h, p, w, p)
        return self.conv_out(cells.flatten(4, 5).flatten(2, 3))


class BARTokenizer(LatentTokenizer):
    """Images to codes Long (B, N) of ``token_bits`` bits, the first bit lowest.

    Args:
        image_size: pixels per side, a multiple of 16.
        siglip_width, siglip_depth, siglip_heads, siglip_hidden, siglip_positions: of the encoder.
        token_bits: bits of a code.
        width, depth, num_heads: of the decoder.

    Raises:
        ValueError: for sizes that do not fit.
    """

    # of the teacher and of training, see AlignedBARTokenizer; layers of SigLIP that are stored again as frozen ones
    DROPPED_KEYS = ("encoder.siglip.encoder.*", "encoder.siglip.post_layernorm.*", "encoder.siglip.head.*",
                    "encoder.frozen_encoder.*", "encoder.frozen_post_layernorm.*", "decoder.clip_projector.*")

    def __init__(self, image_size: int = 256, siglip_width: int = 1152, siglip_depth: int = 27, siglip_heads: int = 16,
                 siglip_hidden: int = 4304, siglip_positions: int = 256, token_bits: int = 16, width: int = 1024,
                 depth: int = 24, num_heads: int = 16) -> None:
        super().__init__()
        side = grid_side(image_size, PATCH, "the patch")
        if math.isqrt(siglip_positions) ** 2 != siglip_positions:
            raise ValueError(f"siglip_positions must be a square number, got {siglip_positions}")
        self.encoder = SiglipEncoder(siglip_width, siglip_depth, siglip_heads, siglip_hidden, siglip_positions)
        self.bottleneck = FSQ([2] * token_bits, siglip_width, out_dim=width, signs=True)
        nn.init.constant_(self.bottleneck.project_in.bias, BORDER)  # a fresh encoder makes as many zeros as ones
        self.decoder = PixelDecoder(side**2, width, depth, num_heads)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return convert_vit_keys(rename_keys(state, KEYS))

    @property
    def num_tokens(self) -> int:
        return (self.config.image_size // PATCH) ** 2

    @property
    def values_dim(self) -> int:
        return self.config.width

    def latents(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def reconstruct(self, values: Tensor) -> Tensor:
        return self.decoder(values)


class AlignedBARTokenizer(BARTokenizer):
    """With what its training compares: features of the frozen SigLIP 2, and what the decoder's states say of them.

    Args:
        align_depth: blocks of the decoder behind which it is asked.
        projector_width: hidden width of the layers that lead from there to the features.
        sizes: those of :class:`BARTokenizer`.
    """

    DROPPED_KEYS = ("encoder.siglip.encoder.*", "encoder.siglip.post_layernorm.*", "encoder.siglip.head.*")

    def __init__(self, align_depth: int = 3, projector_width: int = 2048, image_size: int = 256,
                 siglip_width: int = 1152, siglip_depth: int = 27, siglip_heads: int = 16, siglip_hidden: int = 4304,
                 siglip_positions: int = 256, token_bits: int = 16, width: int = 1024, depth: int = 24,
                 num_heads: int = 16) -> None:
        super().__init__(image_size, siglip_width, siglip_depth, siglip_heads, siglip_hidden, siglip_positions,
                         token_bits, width, depth, num_heads)
        if not 1 <= align_depth <= depth:
            raise ValueError(f"align_depth must lie in 1..{depth}, got {align_depth}")
        frozen = siglip_blocks(siglip_width, siglip_depth, siglip_heads, siglip_hidden)
        self.frozen_blocks = frozen.requires_grad_(False)
        self.frozen_norm = nn.LayerNorm(siglip_width, eps=SIGLIP_EPS).requires_grad_(False)
        self.to_frozen = nn.Sequential(nn.Linear(width, projector_width), nn.SiLU(),
                                       nn.Linear(projector_width, projector_width), nn.SiLU(),
                                       nn.Linear(projector_width, siglip_width))

    @torch.no_grad()
    def frozen_features(self, images: Tensor) -> Tensor:
        """Features (B, N, W) of the frozen layers."""
        x = self.encoder.embed(images)
        for block in self.frozen_blocks:
            x = block(x)
        return self.frozen_norm(x)

    def guessed_features(self, values: Tensor) -> Tensor:
        """The same as the decoder's states guess them, of values (B, N, D) of the bottleneck."""
        return self.to_frozen(self.decoder.states(values, self.config.align_depth)[:, 1:])

    def alignment_loss(self, images: Tensor) -> Tensor:
        """Mean squared error of the guess, a scalar."""
        values = self.bottleneck(self.latents(images)).values
        return F.mse_loss(self.guessed_features(values), self.frozen_features(images))
