"""SEED's tokenizer: a causal Q-Former reads an image into 32 codes; codes become an image embedding of unCLIP.

Papers: arXiv 2307.08041 (SEED), 2310.01218 (SEED-LLaMA, this version). Official code: AILab-CVC/SEED, Apache-2.0; its
files carry BSD-3-Clause heads of LAVIS. The pixels are drawn by Stable unCLIP 2.1, which is no part of this.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.threads import fitting_threads
from photophone.core.tokens import Tokens
from photophone.data.image_reading import CLIP_READING
from photophone.layers.transformer import TransformerBlock
from photophone.layers.vit_keys import convert_vit_keys, drop_leading_axes
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys
from photophone.quantizers.model import QuantizedModel
from photophone.quantizers.vq import VectorQuantizer
from photophone.tokenizers.latent import grid_side
from photophone.tokenizers.seed.qformer import QFormer, convert_qformer_keys

NUM_TOKENS = 32
DECODE_HEADS = 12
DOWN = (256, 128, 32)
"""Widths of the layers that make a token narrower, before all are joined."""
EPS = 1e-6
KEYS = [(r"^visual_encoder\.patch_embed\.proj\.", "patches."), (r"^visual_encoder\.cls_token$", "class_token"),
        (r"^visual_encoder\.pos_embed$", "vision_position"), (r"^visual_encoder\.blocks\.", "vision_blocks."),
        (r"^ln_vision\.", "vision_norm."), (r"^query_tokens$", "encoder.queries"), (r"^Qformer\.", "encoder."),
        (r"^encode_task_layer\.", "to_code."), (r"^quantize\.embedding\.weight$", "bottleneck.codebook"),
        (r"^decode_task_layer\.", "from_code."), (r"^pos_embed$", "meaning_position"),
        (r"^blocks\.", "meaning_blocks."), (r"^pos_embed_image$", "image_position"),
        (r"^blocks_image\.", "image_blocks."), (r"^image_down\.", "down."),
        (r"^distill_image_proj\.", "embedding_out."),
        (r"^reverse_tokens$", "reverse.queries"), (r"^Reverse_Qformer\.", "reverse.")]


class SEEDTokenizer(OriginalCheckpoint, QuantizedModel):
    """Images (B, 3, H, W), normalised as CLIP's, to 32 codes Long (B, 32), and codes to embeddings (B, E).

    Args:
        image_size: pixels per side, a multiple of ``patch``.
        patch, vision_width, vision_depth, vision_heads, vision_hidden: of the image's transformer, EVA-CLIP.
        width, depth, num_heads, hidden: of the Q-Former.
        token_width, num_codes: of the codebook.
        decode_depth: blocks of each transformer behind the codes; they have 12 heads.
        embedding_dim: E.
        reverse_qformer: one query reads the embedding from the tokens, as the published training code has it; else they
            are made narrower and joined, as the published weights have it.

    Raises:
        ValueError: for sizes that do not fit.
    """

    DROPPED_KEYS = ("*.bert.embeddings.position_ids",)  # whole numbers in order
    reading = CLIP_READING

    def __init__(self, image_size: int = 224, patch: int = 14, vision_width: int = 1408, vision_depth: int = 39,
                 vision_heads: int = 16, vision_hidden: int = 6144, width: int = 768, depth: int = 12,
                 num_heads: int = 12, hidden: int = 3072, token_width: int = 32, num_codes: int = 8192,
                 decode_depth: int = 4, embedding_dim: int = 1024, reverse_qformer: bool = False) -> None:
        super().__init__()
        places = grid_side(image_size, patch) ** 2
        self.patches = nn.Conv2d(3, vision_width, patch, stride=patch)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, vision_width))
        self.vision_position = nn.Parameter(0.02 * torch.randn(1 + places, vision_width))

        def blocks(count: int, width: int, heads: int, ratio: float = 4.0) -> nn.ModuleList:
            return nn.ModuleList(TransformerBlock(width, heads, ratio, feed_forward="gelu", norm_eps=EPS)
                                 for _ in range(count))

        self.vision_blocks = blocks(vision_depth, vision_width, vision_heads, vision_hidden / vision_width)
        self.vision_norm = nn.LayerNorm(vision_width)
        self.encoder = QFormer(NUM_TOKENS, vision_width, width, depth, num_heads, hidden, causal=True)
        self.to_code = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, token_width))
        # the old order of VQGAN's weights: the small one is on the codebook
        self.bottleneck = VectorQuantizer(token_width, num_codes, beta=1.0, codebook_weight=0.25)
        self.from_code = nn.Sequential(nn.Linear(token_width, token_width), nn.Tanh(), nn.Linear(token_width, width))
        self.meaning_position = nn.Parameter(0.02 * torch.randn(NUM_TOKENS, width))
        self.meaning_blocks = blocks(decode_depth, width, DECODE_HEADS)
        self.image_position = nn.Parameter(0.02 * torch.randn(NUM_TOKENS, width))
        self.image_blocks = blocks(decode_depth, width, DECODE_HEADS)
        self.down, self.reverse = None, None
        if reverse_qformer:
            self.reverse = QFormer(1, width, width, depth, num_heads, hidden, causal=False)
            self.embedding_out = nn.Linear(width, embedding_dim)
        else:
            first, second, third = (nn.Linear(*pair, bias=False) for pair in zip((width, *DOWN), DOWN))
            self.down = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
            self.embedding_out = nn.Linear(NUM_TOKENS * DOWN[-1], embedding_dim)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        state = drop_leading_axes(state, ("cls_token", "pos_embed", "pos_embed_image", "query_tokens",
                                          "reverse_tokens"))
        return rename_keys(convert_vit_keys(convert_qformer_keys(state)), KEYS)

    @property
    def fixed_length(self) -> int:
        """32."""
        return NUM_TOKENS

    @property
    def image_size(self) -> int:
        """Height and width of the images, in pixels."""
        return self.config.image_size

    def see(self, images: Tensor) -> Tensor:
        """Features (B, 1 + N, W) of class token and patches, without a norm behind them."""
        cells = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(cells), 1, -1), cells], dim=1) + self.vision_position
        for block in self.vision_blocks:
            x = block(x)
        return x

    def understand(self, images: Tensor) -> Tensor:
        """States (B, 32, C) of the Q-Former."""
        return self.encoder(self.vision_norm(self.see(images)))

    def latents(self, images: Tensor) -> Tensor:
        """What the bottleneck reads, (B, 32, D)."""
        return self.to_code(self.understand(images))

    def meaning(self, values: Tensor) -> Tensor:
        """States (B, 32, C) of the Q-Former as values (B, 32, D) of the bottleneck give them back."""
        x = self.from_code(values) + self.meaning_position
        for block in self.meaning_blocks:
            x = block(x)
        return x

    def embed(self, values: Tensor) -> Tensor:
        """Image embeddings (B, E) of values (B, 32, D) of the bottleneck."""
        x = self.from_code(values) + self.image_position
        for block in self.image_blocks:
            x = block(x)
        x = self.reverse(x)[:, 0] if self.down is None else self.down(x).flatten(1)
        return self.embedding_out(x)

    def losses(self, images: Tensor, embeddings: Tensor) -> dict[str, Tensor]:
        """What the second stage of training adds up with weights 5, 0.5 and 2: vq, embedding and meaning, scalars.

        Args:
            images: (B, 3, H, W).
            embeddings: (B, E), of CLIP ViT-H.
        """
        states = self.understand(images)
        output = self.bottleneck(self.to_code(states))
        return {"vq": output.loss, "embedding": F.mse_loss(self.embed(output.values), embeddings),
                "meaning": self.meaning_loss(states, output.values)}

    def meaning_loss(self, states: Tensor, values: Tensor) -> Tensor:
        """One minus the cosine of states (B, 32, C) and what values (B, 32, D) give back of them, a scalar."""
        return (1 - F.cosine_similarity(states, self.meaning(values), dim=-1)).mean()

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tokens:
        """Images (B, 3, H, W), normalised by CLIP's mean and deviation, to codes Long (B, 32).

        Raises:
            ValueError: images of another shape, or not finite.
        """
        size = self.config.image_size
        if tuple(images.shape[1:]) != (3, size, size) or not bool(torch.isfinite(images).all()):
            raise ValueError(f"images must be finite (B, 3, {size}, {size}), got {tuple(images.shape)}")
        with fitting_threads(self, len(images) * len(self.vision_position)):
            return Tokens(self.bottleneck.encode(self.latents(images.to(self.device, self.dtype))),
                          model=self.published_name)

    @torch.no_grad()
    def decode(self, tokens: Tokens) -> Tensor:
        """Codes to image embeddings float32 (B, E).

        Raises:
            ValueError: tokens of another model, shape or range.
        """
        self.check_tokens(tokens)
        values = self.bottleneck.decode(tokens.to(self.device).values).to(self.dtype)
        return self.embed(values).float()
