"""UniTok: one discrete tokenizer for drawing and for understanding, trained on reconstruction and on captions.

Paper: arXiv 2502.20321. Official code: FoundationVision/UniTok, MIT. Weights: under the licence of the code, none
stated apart; trained on DataComp-1B.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.layers.transformer import Attention, TransformerBlock
from photophone.layers.vit_keys import convert_vit_keys
from photophone.loading.checkpoints import State, rename_keys
from photophone.quantizers.multi_codebook import MultiCodebookVQ
from photophone.tokenizers.grid import to_grid, to_sequence
from photophone.tokenizers.latent import LatentTokenizer, grid_side
from photophone.tokenizers.unitok.geglu import NormedGEGLU
from photophone.tokenizers.unitok.vitamin import ConvStem, ConvTail

STRIDE = 16
MOST_SCALE = 100
"""Limit of CLIP's learned scale."""
USAGE_WARM_UP = 100
"""Batches after which averages of the codes' use move ten times slower."""


def update_usage(usage: Tensor, shares: Tensor, batches: int) -> Tensor:
    """Moving average of the share of each code (Q, K) after one more batch; ``batches`` came before it."""
    if batches == 0:
        return shares
    return torch.lerp(usage, shares, 0.1 if batches < USAGE_WARM_UP else 0.01)


def code_shares(indices: Tensor, num_codes: int) -> Tensor:
    """Share of each code among the indices (B, Q, N): (Q, K), rows sum to 1."""
    books = indices.transpose(0, 1).flatten(1)  # (Q, B N)
    return F.one_hot(books, num_codes).float().mean(dim=1)


class HeadMeanAttention(Attention):
    """Attention whose output is the mean of the heads, so it is narrower than the input: (B, N, C) -> (B, N, out).

    Args:
        dim, num_heads: see :class:`Attention`.
        out_dim: width of the output; heads of another width are pooled to it.
    """

    def __init__(self, dim: int, num_heads: int, out_dim: int) -> None:
        super().__init__(dim, num_heads, out_dim=out_dim)
        self.to_out = nn.Linear(out_dim, out_dim)

    def merge(self, heads: Tensor) -> Tensor:
        mean = heads.mean(dim=1)  # (B, N, C/H)
        out_dim = self.to_out.in_features
        return mean if mean.shape[-1] == out_dim else F.adaptive_avg_pool1d(mean, out_dim)


class AttentionProjection(nn.Module):
    """From one width to another with attention: (B, N, in_dim) -> (B, N, out_dim).

    Narrower outputs are the mean of the heads, wider ones the heads side by side.
    """

    def __init__(self, in_dim: int, out_dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(in_dim), nn.LayerNorm(out_dim), nn.LayerNorm(in_dim)
        self.attention = HeadMeanAttention(in_dim, num_heads, out_dim) if in_dim > out_dim else \
            Attention(in_dim, num_heads, inner_dim=out_dim, out_dim=out_dim)
        self.proj = nn.Linear(in_dim, out_dim)
        self.feed_forward = NormedGEGLU(out_dim, 2 * out_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(self.norm3(x)) + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


def vitamin_blocks(width: int, depth: int, num_heads: int) -> nn.Sequential:
    """The transformer of ViTamin: each feed-forward has a norm inside, behind the block's own."""
    return nn.Sequential(*(TransformerBlock(width, num_heads, 2.0, feed_forward=NormedGEGLU, norm_eps=1e-6)
                           for _ in range(depth)))


class UniTok(LatentTokenizer):
    """Images to a grid of tokens of Q codes each: Long (B, Q, N).

    Args:
        image_size: pixels per side, a multiple of 16.
        widths: channels of the stem's two stages, and of the transformers.
        stem_width: channels of the stem's first convolutions.
        conv_depths: blocks of the stem's stages.
        depth, num_heads: of the encoder's and of the decoder's transformer.
        decoder_widths, decoder_depths: channels (the first is the transformer's) and blocks of the decoder's stages.
        token_width: width of all codes of a token together.
        num_codebooks, num_codes: Q, and codes of each codebook.
        commitment: of the loss.

    Raises:
        ValueError: for sizes that do not fit each other.
    """

    ENCODER_PARTS = (*LatentTokenizer.ENCODER_PARTS, "stem")
    LAST_LAYER = "tail.conv2"
    CONTAINERS = ("trainer.unitok", "unitok")
    DROPPED_KEYS = ("*.zero_k_bias",  # zeros
                    "quantizer.codebooks.*.vocab_usage",  # how often training used the codes; a fresh count starts at 0
                    "text_encoder.*", "fc_norm.*", "projection.*", "logit_scale")  # of UniTokCLIP

    def __init__(self, image_size: int = 256, widths: Sequence[int] = (160, 320, 1024), stem_width: int = 160,
                 conv_depths: Sequence[int] = (2, 4), depth: int = 31, num_heads: int = 16,
                 decoder_widths: Sequence[int] = (1024, 320, 160), decoder_depths: Sequence[int] = (4, 2),
                 token_width: int = 64, num_codebooks: int = 8, num_codes: int = 4096,
                 commitment: float = 0.25) -> None:
        super().__init__()
        self.grid = grid_side(image_size, STRIDE, "the stride")
        width = widths[-1]
        if decoder_widths[0] != width or width % token_width:
            raise ValueError(f"the transformers' width must be decoder_widths[0] and a multiple of token_width, got "
                             f"{width}, {decoder_widths[0]} and {token_width}")
        self.stem = ConvStem(widths, conv_depths, stem_width)
        # One vector for all places, which official training keeps at its start; a buffer, so that it stays there.
        self.register_buffer("shared_position", torch.zeros(1, width))
        self.encoder_blocks = vitamin_blocks(width, depth, num_heads)
        self.encoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.to_latent = AttentionProjection(width, token_width, width // token_width)
        self.bottleneck = MultiCodebookVQ(token_width, num_codes, num_codebooks, l2_norm=True, beta=commitment)
        self.from_latent = AttentionProjection(token_width, width, width // token_width)
        self.decoder_blocks = vitamin_blocks(width, depth, num_heads)
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.tail = ConvTail(decoder_widths, decoder_depths)

    @property
    def num_tokens(self) -> int:
        return self.grid**2

    def features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to the encoder's output (B, N, W)."""
        x = to_sequence(self.stem(images)) + self.shared_position
        return self.encoder_norm(self.encoder_blocks(x))

    def latents(self, images: Tensor) -> Tensor:
        return self.to_latent(self.features(images))

    def draw(self, hidden: Tensor) -> Tensor:
        """What :attr:`from_latent` made (B, N, W) to images (B, 3, H, W), not clamped."""
        x = self.decoder_norm(self.decoder_blocks(hidden))
        return self.tail(to_grid(x, (self.grid, self.grid)))

    def reconstruct(self, values: Tensor) -> Tensor:
        return self.draw(self.from_latent(values))

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        text = ("text_encoder.transformer.resblocks.", "text_blocks.")
        state = {key.replace(*text): value for key, value in state.items()}
        stem = r"^encoder\.patch_embed\.backbone\."
        state = rename_keys(convert_vit_keys(state), [
            (stem + r"stem\.", "stem."), (stem + r"stages\.", "stem.stages."),
            (stem + r"pool\.norm\.", "stem.pool_norm."), (stem + r"pool\.proj\.", "stem.pool."),
            (r"^encoder\.pos_embed$", "shared_position"),
            (r"^(encoder|decoder)\.(blocks|norm)\.", r"\1_\2."),
            (r"^decoder\.up_conv4\.conv1\.", "tail.up_conv4."), (r"^decoder\.up_conv4\.", "tail."),
            (r"^decoder\.(up_conv\d)\.", r"tail.\1."),
            (r"^quant_proj\.", "to_latent."), (r"^post_quant_proj\.", "from_latent."),
            (r"^quantizer\.codebooks\.(\d+)\.codebook\.weight$", r"bottleneck.codebooks.\1.codebook"),
            (r"^fc_norm\.", "image_norm."), (r"^projection\.", "image_projection."),
            (r"^text_encoder\.token_embedding\.", "text_embedding."),
            (r"^text_encoder\.positional_embedding$", "text_positions"), (r"^text_encoder\.ln_final\.", "text_norm."),
            (r"^text_encoder\.text_projection$", "text_projection"),
        ])
        if "shared_position" in state:
            state["shared_position"] = state["shared_position"].flatten(0, -2)
        return state


class UniTokCLIP(UniTok):
    """UniTok with the head of its contrastive training: images and captions as vectors of one space.

    Args:
        text_width, text_heads, text_layers: of the caption's transformer.
        text_vocab_size, text_length: of the captions; ids are those of CLIP's tokenizer.
        embed_dim: width of the space.
        tokenizer: the arguments of :class:`UniTok`.
    """

    DROPPED_KEYS = UniTok.DROPPED_KEYS[:2]
    reads_captions = True

    def __init__(self, text_width: int = 768, text_heads: int = 12, text_layers: int = 12,
                 text_vocab_size: int = 49408, text_length: int = 77, embed_dim: int = 768, image_size: int = 256,
                 widths: Sequence[int] = (160, 320, 1024), stem_width: int = 160, conv_depths: Sequence[int] = (2, 4),
                 depth: int = 31, num_heads: int = 16, decoder_widths: Sequence[int] = (1024, 320, 160),
                 decoder_depths: Sequence[int] = (4, 2), token_width: int = 64, num_codebooks: int = 8,
                 num_codes: int = 4096, commitment: float = 0.25) -> None:
        super().__init__(image_size, widths, stem_width, conv_depths, depth, num_heads, decoder_widths, decoder_depths,
                         token_width, num_codebooks, num_codes, commitment)
        self.image_norm = nn.LayerNorm(widths[-1], eps=1e-6)
        self.image_projection = nn.Linear(widths[-1], embed_dim)
        self.text_embedding = nn.Embedding(text_vocab_size, text_width)
        self.text_positions = nn.Parameter(0.01 * torch.randn(text_length, text_width))
        self.text_blocks = nn.ModuleList(TransformerBlock(text_width, text_heads, feed_forward="gelu")
                                         for _ in range(text_layers))
        self.text_norm = nn.LayerNorm(text_width)
        self.text_projection = nn.Parameter(text_width**-0.5 * torch.randn(text_width, embed_dim))
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def pool(self, hidden: Tensor) -> Tensor:
        """What :attr:`from_latent` made (B, N, W) to vectors (B, embed_dim), not normalised."""
        return self.image_projection(self.image_norm(hidden.mean(dim=1)))

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to vectors (B, embed_dim), from their quantized tokens."""
        vectors = self.pool(self.from_latent(self.bottleneck(self.latents(images)).values))
        return F.normalize(vectors, dim=-1) if normalize else vectors

    def encode_text(self, ids: Tensor, normalize: bool = False) -> Tensor:
        """Captions Long (B, L) to vectors (B, embed_dim): the place of the largest id, which ends a caption.

        Raises:
            ValueError: captions longer than ``text_length``.
        """
        length = ids.shape[1]
        if length > len(self.text_positions):
            raise ValueError(f"captions have at most {len(self.text_positions)} ids, got {length}")
        x = self.text_embedding(ids) + self.text_positions[:length]
        causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
        for block in self.text_blocks:
            x = block(x, causal)
        x = self.text_norm(x)[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)]
        vectors = x @ self.text_projection
        return F.normalize(vectors, dim=-1) if normalize else vectors

    @property
    def caption_length(self) -> int:
        """Most ids of a caption."""
        return self.config.text_length

    def match_captions(self, values: Tensor, captions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What CLIP's loss compares.

        Args:
            values: of the bottleneck (B, N, D).
            captions: Long (B, L), see :meth:`encode_text`.

        Returns:
            Unit vectors of images and of captions, float32 (B, embed_dim), and the scale of their products.
        """
        images, texts = self.pool(self.from_latent(values)), self.encode_text(captions)
        scale = self.logit_scale.clamp(0, math.log(MOST_SCALE)).exp()
        return F.normalize(images.float(), dim=-1), F.normalize(texts.float(), dim=-1), scale
