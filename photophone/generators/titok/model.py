"""TiTok's class-conditional generators: masked transformers over one-dimensional tokens.

Paper: arXiv 2406.07550. Official code: bytedance/1d-tokenizer, Apache-2.0. Weights: Apache-2.0 in the hub
repositories, trained on ImageNet and meant for research.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from photophone.core.limits import MAX_MASKED_TEMPERATURE
from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback
from photophone.decoding.masked import decode_masked
from photophone.generators.base import LossOutput
from photophone.generators.classes import ClassGenerator, example_codes
from photophone.generators.conditions import ClassLabels
from photophone.generators.masking import mask_tokens, masked_token_loss
from photophone.generators.sampler import (
    GuidedSampler,
    guidance_option,
    option,
    order_steps_option,
    temperature_option,
)
from photophone.layers.transformer import TransformerBlock
from photophone.layers.vit_keys import convert_vit_keys, drop_leading_axes
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys


@dataclass(frozen=True)
class MaskedImageSampler(GuidedSampler):
    """Options of :class:`ImageBert` and :class:`UViTBert`.

    Published: 8 steps, linear guidance 5.5 and temperature 9.5 (l32); 8, 4.0 and 11.0 (b64); 64 steps, power-cosine
    guidance 6.9 and temperature 2.8 (s128). Scales of "linear" and "constant" are one more than the official ones, for
    which 0 is none.
    """

    guidance_scale: float = guidance_option(5.5)
    num_order_steps: int = order_steps_option(8, "steps that each keep the surest tokens and mask the rest again")
    temperature: float = temperature_option(9.5, MAX_MASKED_TEMPERATURE)
    annealed: bool = option(False, "divide the logits by a number that falls from 1.3 to 0.5")


class MaskedImageGenerator(OriginalCheckpoint, ClassGenerator):
    """Tokens of an image from its class.

    The vocabulary holds the codes, then the mask, then the classes, then "no class". The sequence is the class, then
    the tokens. A family's config has ``num_tokens``, ``num_codes``, ``num_classes`` and ``label_drop``.
    """

    Sampler = MaskedImageSampler

    @property
    def mask_id(self) -> int:
        """The token that stands for "masked"."""
        return self.config.num_codes

    @abstractmethod
    def transform(self, ids: Tensor) -> Tensor:
        """Ids (B, 1 + N) of the vocabulary to logits (B, 1 + N, K)."""

    def logits(self, ids: Tensor, labels: Tensor) -> Tensor:
        """Logits (B, N, K) of partly masked ids (B, N); labels (B,) in 0..num_classes, the last for "no class"."""
        classes = labels + self.config.num_codes + 1
        return self.transform(torch.cat([classes[:, None], ids], dim=1))[:, 1:]

    def loss(self, tokens: Tokens, condition: ClassLabels, *, noise: Noise | None = None) -> LossOutput:
        """Cross-entropy of a random share of hidden tokens Long (B, N); visible ones count a tenth.

        ``metrics`` has ``right_codes``, the share of hidden tokens that are the likeliest.
        """
        noise = noise or GlobalNoise(tokens.values.device)
        ids, masked = mask_tokens(tokens.values, self.mask_id, noise)
        labels = self.drop_labels(condition.labels, noise)
        loss, right = masked_token_loss(self.logits(ids, labels), tokens.values, masked)
        return LossOutput(loss, {"right_codes": right})

    def places_at_once(self, rows: int) -> int:
        return rows * self.config.num_tokens

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_codes(rows, self.config.num_tokens, self.config.num_codes, seed)

    def _generate(self, condition: ClassLabels, *, noise: Noise, sampler: MaskedImageSampler,
                  callback: Callback | None) -> Tokens:
        """Codes Long (B, N)."""
        labels = condition.labels
        both = torch.cat([labels, self.null_labels(labels)])

        def logits(ids: Tensor, guided: bool) -> Tensor:
            return self.logits(ids.repeat(2, 1), both) if guided else self.logits(ids, labels)

        return Tokens(decode_masked(
            logits, len(labels), self.config.num_tokens, self.mask_id, noise=noise, num_steps=sampler.num_order_steps,
            guidance=sampler.guidance_at, temperature=sampler.temperature, annealed=sampler.annealed,
            callback=callback, device=self.device))


class ImageBert(MaskedImageGenerator):
    """BERT's encoder over image tokens: the generator of TiTok-L-32 and -B-64.

    Args:
        num_tokens, num_codes, num_classes: N, K and classes.
        width, depth, num_heads, hidden: of the transformer and its feed-forward.
        label_drop: share of training labels replaced by "no class".
    """

    def __init__(self, num_tokens: int = 32, num_codes: int = 4096, num_classes: int = 1000, width: int = 768,
                 depth: int = 24, num_heads: int = 16, hidden: int = 3072, label_drop: float = 0.1) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_codes + num_classes + 2, width)
        self.positions = nn.Parameter(0.02 * torch.randn(num_tokens + 1, width))
        self.token_type = nn.Parameter(torch.zeros(1, width))
        self.norm_in = nn.LayerNorm(width, eps=1e-12)
        self.blocks = nn.ModuleList(TransformerBlock(width, num_heads, hidden / width, feed_forward="gelu",
                                                     norm_eps=1e-12, post_norm=True) for _ in range(depth))
        self.to_logits = nn.Linear(width, num_codes)

    def transform(self, ids: Tensor) -> Tensor:
        x = self.norm_in(self.embedding(ids) + self.positions + self.token_type)
        for block in self.blocks:
            x = block(x)
        return self.to_logits(x)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours; of BERT's two token types only the first is ever used."""
        state = rename_keys(convert_vit_keys(state), [
            (r"^model\.embeddings\.word_embeddings\.", "embedding."),
            (r"^model\.embeddings\.position_embeddings\.weight$", "positions"),
            (r"^model\.embeddings\.token_type_embeddings\.weight$", "token_type"),
            (r"^model\.embeddings\.LayerNorm\.", "norm_in."), (r"^model\.encoder\.layer\.", "blocks."),
            (r"^model\.lm_head\.", "to_logits."),
        ])
        return {key: value[:1] if key == "token_type" else value for key, value in state.items()}


class UViTBert(MaskedImageGenerator):
    """U-ViT over image tokens (arXiv 2209.12152): the generator of TiTok-S-128.

    The second half of the blocks reads what the first half made, the last first, beside its own input.

    Args:
        num_tokens, num_codes, num_classes: N, K and classes.
        width, depth, num_heads, hidden: of the transformer and its feed-forward; depth even, without the middle block.
        label_drop: share of training labels replaced by "no class".

    Raises:
        ValueError: for an odd depth.
    """

    def __init__(self, num_tokens: int = 128, num_codes: int = 4096, num_classes: int = 1000, width: int = 1024,
                 depth: int = 20, num_heads: int = 16, hidden: int = 4096, label_drop: float = 0.1) -> None:
        super().__init__()
        if depth % 2:
            raise ValueError(f"depth must be even, got {depth}")

        def blocks(count: int) -> nn.ModuleList:
            return nn.ModuleList(TransformerBlock(width, num_heads, hidden / width, qkv_bias=False,
                                                  feed_forward="gelu") for _ in range(count))

        self.embedding = nn.Embedding(num_codes + num_classes + 2, width)
        self.positions = nn.Parameter(0.02 * torch.randn(num_tokens + 1, width))
        self.in_blocks, self.mid_block, self.out_blocks = blocks(depth // 2), blocks(1), blocks(depth // 2)
        self.skips = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth // 2))
        self.norm_out = nn.LayerNorm(width)
        self.to_logits = nn.Linear(width, num_codes)

    def transform(self, ids: Tensor) -> Tensor:
        x, kept = self.embedding(ids) + self.positions, []
        for block in self.in_blocks:
            x = block(x)
            kept.append(x)
        x = self.mid_block[0](x)
        for block, skip in zip(self.out_blocks, self.skips):
            x = block(skip(torch.cat([x, kept.pop()], dim=-1)))
        return self.to_logits(self.norm_out(x))

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return rename_keys(convert_vit_keys(drop_leading_axes(state, ("pos_embed",))), [
            (r"^embeddings\.", "embedding."), (r"^pos_embed$", "positions"), (r"^norm\.", "norm_out."),
            (r"^lm_head\.", "to_logits."), (r"^mid_block\.", "mid_block.0."),
            (r"^out_blocks\.(\d+)\.skip_linear\.", r"skips.\1."),
        ])
