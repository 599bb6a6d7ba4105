"""HART: next-scale prediction of codes, and a small diffusion model for what the codes of the last scale leave over.

Paper: arXiv 2410.10812. Official code: mit-han-lab/hart, MIT. Weights: under the licence of the code, none stated
apart; trained on JourneyDB and synthetic data. The tokens are those of
:class:`photophone.tokenizers.var_vq.hybrid.HARTTokenizer`; prompts are read as states of a language model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.continuous import take_places
from photophone.decoding.loop import Callback, KVCache
from photophone.decoding.next_scale import RESIDUAL_SCALE, NextScaleDecoding
from photophone.generators.base import Generator, LossOutput
from photophone.generators.conditions import CaptionFeatures
from photophone.generators.hart.block import HARTBlock
from photophone.generators.hart.keys import KEYS, convert_config
from photophone.generators.hart.positions import cell_angles, cell_places, rotation, word_angles
from photophone.generators.sampler import (
    GuidedSampler,
    guidance_option,
    option,
    order_steps_option,
    steps_option,
    temperature_option,
    top_p_option,
)
from photophone.heads import DiffusionHead
from photophone.heads.base import is_guided
from photophone.heads.categorical import CategoricalHead
from photophone.kernels.sampling import draw
from photophone.layers.adaln import adaln_projection, modulated_norm
from photophone.layers.embeddings import TimestepEmbedding
from photophone.layers.normal import truncated_normal
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys
from photophone.quantizers.multi_scale import HybridMultiScaleVQ

if TYPE_CHECKING:
    from photophone.tokenizers.base import ImageTokenizer

TRAINING_TOP_K, TRAINING_TOP_P = 600, 0.96
COARSE_SCALES, COARSE_TOP_K, FINE_TOP_K = 7, 600, 300
"""The first scales draw from more codes, where users do not choose."""
MASK_RATIO_STD, LEAST_MASK_RATIO, LEAST_KEPT = 0.25, 0.5, 32
"""Training sees a part of the last scale, at least so many cells."""


@dataclass(frozen=True)
class HARTSampler(GuidedSampler):
    """Options of :class:`HART`.

    Published: guidance 5.5 (one more than the official ``cfg``), smooth. Linear guidance is none for the first scale;
    the last one keeps that of the scale before it.
    """

    guidance_scale: float = guidance_option(5.5)
    temperature: float = temperature_option()
    top_k: int | None = option(None, "draws come from this many likeliest codes; 0 keeps all; none given: 600 for the "
                                     "first seven scales, then 300", low=0)
    top_p: float = top_p_option()
    smooth: bool = option(False, "the next scales read a mixture of likely codes instead of the code that was drawn")
    residual: bool = option(True, "add what diffusion makes of the rest of the last scale")
    num_order_steps: int = order_steps_option(1, "steps in which the cells of the last scale are made, in random order")
    num_inference_steps: int | None = steps_option(None, "diffusion steps of the rest; none given: those of the config")

    def top_k_at(self, scale: int) -> int:
        """Codes that a scale draws from."""
        return self.top_k if self.top_k is not None else COARSE_TOP_K if scale < COARSE_SCALES else FINE_TOP_K


class HART(OriginalCheckpoint, Generator):
    """Prompts to tokens (B, L, D): vectors of the codes of all scales, and at the last the rest with them.

    The sequence is the prompt, whose last word predicts the code of the first scale, then the other scales.
    :meth:`connect` gives the model its tokenizer.

    Args:
        scales: sides of the index maps; the first is 1.
        token_width, num_codes: of the tokenizer.
        context_length, context_dim: T places and width of the prompts' states, padded on the right.
        width, depth, num_heads, mlp_ratio, eps: sizes of the transformer.
        cosine, gated, rotary, modulation: see :class:`photophone.generators.hart.block.HARTBlock`; without ``rotary``
            norms are plain and positions are learned.
        pooling: of a prompt for the modulation of blocks: "max", over all places, or "avg", over its words.
        level_waves: scales are embedded as numbers; else by a table.
        context_norm: an RMS norm of prompts.
        head_width, head_depth, respacing, diffusion_batch_mul: of the diffusion head.
        condition_drop: share of training prompts replaced by zeros. (The official code draws normal numbers where it
            compares with a share, so that its 0.1 drops 54 %.)

    Raises:
        ValueError: for settings that do not fit.
    """

    Condition = CaptionFeatures
    Sampler = HARTSampler
    DROPPED_KEYS = ("lvl_1L", "attn_bias_for_masking", "blocks.*.attn.zero_k_bias")  # tables and zeros

    def __init__(self, scales: list[int] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16), token_width: int = 32,
                 num_codes: int = 4096, context_length: int = 77, context_dim: int = 768, width: int = 1024,
                 depth: int = 16, num_heads: int = 16, mlp_ratio: float = 4.0, eps: float = 1e-6, cosine: bool = False,
                 gated: bool = True, rotary: bool = True, modulation: str = "blocks", pooling: str = "max",
                 level_waves: bool = True, context_norm: bool = False, head_width: int = 1024, head_depth: int = 6,
                 respacing: str = "8", diffusion_batch_mul: int = 4, condition_drop: float = 0.1) -> None:
        super().__init__()
        if len(scales) < 2 or scales[0] != 1 or pooling not in ("max", "avg"):
            raise ValueError("need a first scale of 1 and others, and pooling 'max' or 'avg'; got "
                             f"{list(scales)} and {pooling!r}")
        self.sizes = [scale**2 for scale in scales]
        self._tokenizer: tuple[ImageTokenizer, ...] = ()  # in a tuple, so that it is no part of the model's weights
        total = context_length + sum(self.sizes) - 1
        self.context_norm = nn.RMSNorm(context_dim, eps=eps) if context_norm else nn.Identity()
        self.context_in = nn.Linear(context_dim, width)
        self.token_in = nn.Linear(token_width, width)
        self.level_embedding = TimestepEmbedding(width) if level_waves else nn.Embedding(len(scales), width)
        self.start_positions = None if rotary else nn.Parameter(torch.randn(context_length, width) * width**-0.5)
        self.positions = None if rotary else nn.Parameter(torch.randn(total, width) * width**-0.5)
        self.blocks = nn.ModuleList(HARTBlock(width, num_heads, mlp_ratio, cosine=cosine, gated=gated, rms=rotary,
                                              modulation=modulation, eps=eps) for _ in range(depth))
        self.head_norm = nn.RMSNorm(width, eps=eps) if rotary else \
            nn.LayerNorm(width, eps=eps, elementwise_affine=False)
        self.head_modulation = adaln_projection(width, 2)
        self.token_head = CategoricalHead(width, num_codes)
        self.rest_norm = (nn.RMSNorm if rotary else nn.LayerNorm)(width, eps=eps)
        self.diffusion_head = DiffusionHead(width, token_width, head_width, head_depth, respacing=respacing,
                                            clip_denoised=True, diffusion_batch_mul=diffusion_batch_mul)

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the class from the official ``config.json``; see
        :func:`photophone.generators.hart.keys.convert_config`."""
        return convert_config(official)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours; tables of modulations and positions lose axes."""
        made = rename_keys(state, KEYS)
        rows = ("positions", "start_positions")
        return {key: value.flatten() if key.endswith(".offset") else value.flatten(0, -2) if key in rows else value
                for key, value in made.items()}

    def connect(self, tokenizer: ImageTokenizer) -> None:
        """Read the codebook of this tokenizer from now on; it stays where it is and is not saved with the model.

        Raises:
            ValueError: a tokenizer of another kind, or of other scales, codes or width.
        """
        quantizer, config = tokenizer.bottleneck, self.config
        wanted = (list(config.scales), config.num_codes, config.token_width)
        if not isinstance(quantizer, HybridMultiScaleVQ):
            raise ValueError(f"the model needs a HARTTokenizer, got a {type(tokenizer).__name__}")
        given = (list(quantizer.codes.scales), quantizer.codes.codebook_size, quantizer.dim)
        if given != wanted:
            raise ValueError(f"the model needs a tokenizer of scales, codes and width {wanted}, got {given}")
        self._tokenizer = (tokenizer,)

    @property
    def quantizer(self) -> HybridMultiScaleVQ:
        """Of the tokenizer that :meth:`connect` was given.

        Raises:
            ValueError: it was given none.
        """
        if not self._tokenizer:
            raise ValueError("HART reads the codebook of its tokenizer; call connect(tokenizer) first")
        return self._tokenizer[0].bottleneck

    # backbone ---------------------------------------------------------------------------------------------------

    def levels(self) -> Tensor:
        """Long (T + L - 1,): the scale of each place; the prompt stands for the first."""
        sizes = torch.tensor([self.config.context_length, *self.sizes[1:]])
        return torch.repeat_interleave(sizes).to(self.device)

    def level_vectors(self) -> Tensor:
        """What places are told of their scale, and of their position without ``rotary``: (T + L - 1, C)."""
        vectors = self.level_embedding(self.levels())
        return vectors if self.positions is None else vectors + self.positions

    def context(self, condition: CaptionFeatures) -> Tensor:
        """Prompts to (B, T, C)."""
        return self.context_in(self.context_norm(condition.features.to(self.dtype)))

    def pool(self, context: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What modulates the blocks and what modulates the head, (B, 1, C) each, of :meth:`context` and the mask of
        its words."""
        most = context.amax(dim=1, keepdim=True)
        if self.config.modulation == "blocks" and self.config.pooling == "max":
            return most, most
        words = mask[..., None].to(context)
        return (context * (words / words.sum(dim=1, keepdim=True).clamp(min=1))).sum(dim=1, keepdim=True), most

    def angles(self, mask: Tensor) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Angles of the words (B, T, d) and of all cells behind the first (B, L - 1, d); None without ``rotary``.

        Args:
            mask: bool (B, T), True for words. Cells count from the last place of the prompt on both axes.
        """
        if not self.config.rotary:
            return None, None
        head_dim, scales = self.config.width // self.config.num_heads, self.config.scales
        places = mask.long().cumsum(dim=1) - 1
        cells = cell_places(scales[1:], scales[-1]).to(mask.device) + places[:, -1:, None]
        return word_angles(places, head_dim), cell_angles(cells, head_dim)

    def transform(self, x: Tensor, pooled: Tensor, angles: Tensor | None, mask: Tensor | None = None,
                  cache: KVCache | None = None) -> Tensor:
        """Embedded places (B, n, C) to states (B, n, C); angles are those of :meth:`angles`."""
        turn = None if angles is None else rotation(angles)
        for index, block in enumerate(self.blocks):
            x = block(x, pooled, mask=mask, cache=None if cache is None else cache.layers[index], rotate=turn)
        return x

    def logits(self, x: Tensor, most: Tensor) -> Tensor:
        """States (B, n, C) to logits (B, n, V) in float32; ``most`` is the second of :meth:`pool`."""
        scale, shift = self.head_modulation(most).chunk(2, dim=-1)
        return self.token_head.logits(modulated_norm(self.head_norm, x, shift, scale))

    def rest_condition(self, states: Tensor, vectors: Tensor) -> Tensor:
        """What the diffusion head reads: states (B, n, C) and the vectors (B, n, D) of the codes drawn from them."""
        return self.rest_norm(states + self.token_in(vectors.to(self.dtype)))

    # training ---------------------------------------------------------------------------------------------------

    def loss(self, tokens: Tokens, condition: CaptionFeatures, *, noise: Noise | None = None) -> LossOutput:
        """Cross-entropy of all codes in nats, plus the diffusion loss of the rest, of tokens (B, L, D).

        Raises:
            ValueError: the model knows no tokenizer.
        """
        noise = noise or GlobalNoise(tokens.values.device)
        if self.training and self.config.condition_drop:
            kept = noise.uniform(len(condition)).to(condition.features.device) >= self.config.condition_drop
            condition = replace(condition, features=condition.features * kept[:, None, None])
        logits, rest, kept = self.teacher(tokens.values, condition, noise)
        codes = self.quantizer.indices(tokens.values)
        last = codes[:, -self.sizes[-1]:].gather(1, kept)
        codes = torch.cat([codes[:, :-self.sizes[-1]], last], dim=1)
        cross_entropy = nn.functional.cross_entropy(logits.flatten(0, 1), codes.flatten())
        return LossOutput(cross_entropy + rest, {"cross_entropy": cross_entropy.detach(), "rest": rest.detach()})

    def teacher(self, values: Tensor, condition: CaptionFeatures, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, L - n + k, V) of all codes but those of hidden cells of the last scale, n to k; the diffusion loss
        of the rest; and the visible places of that scale, Long (B, k), rising."""
        quantizer, (rows, length), count = self.quantizer, values.shape[:2], self.config.context_length
        codes, last = quantizer.indices(values), self.sizes[-1]
        order = noise.permutation(rows, last).to(values.device)
        ratio = truncated_normal(noise.uniform(1, dtype=torch.float64), 1.0, MASK_RATIO_STD, LEAST_MASK_RATIO, 1.0)
        hidden = max(0, min(math.ceil(last * ratio.item()), last - LEAST_KEPT))
        kept = order[:, hidden:].sort(dim=1).values
        coarse = length - 1 - last
        places = torch.cat([torch.arange(coarse, device=kept.device).expand(rows, -1), coarse + kept], dim=1)
        inputs = quantizer.codes.generator_inputs(quantizer.codes.split(codes)).to(self.dtype)
        context, mask = self.context(condition), self.words(condition)
        level = self.level_vectors()
        start = context if self.start_positions is None else context + self.start_positions
        x = torch.cat([start, take_places(self.token_in(inputs), places)], dim=1)
        x = x + level[:x.shape[1]]  # the official code gives visible cells the positions of the first ones
        words, cells = self.angles(mask)
        angles = None if words is None else torch.cat([words, take_places(cells, places)], dim=1)
        levels = self.levels()[:x.shape[1]]
        pooled, most = self.pool(context, mask)
        states = self.transform(x, pooled, angles, levels[:, None] >= levels)
        logits = self.logits(states, most)[:, count - 1:]
        shown = kept.shape[1]
        drawn = draw(logits[:, -shown:].detach(), None, 1.0, noise, top_k=TRAINING_TOP_K, top_p=TRAINING_TOP_P)
        vectors = nn.functional.embedding(drawn, quantizer.codes.codebook).detach()
        target = (take_places(values[:, -last:], kept) - vectors) / RESIDUAL_SCALE
        rest = self.diffusion_head.loss(self.rest_condition(states[:, -shown:], vectors), target, noise=noise)
        return logits, rest, kept

    def words(self, condition: CaptionFeatures) -> Tensor:
        """Bool (B, T), True for words."""
        shape = condition.features.shape[:2]
        mask = condition.mask
        return torch.ones(shape, dtype=torch.bool, device=self.device) if mask is None else mask.bool()

    def places_at_once(self, rows: int) -> int:
        return rows * self.sizes[-1]

    def check_condition(self, condition: CaptionFeatures) -> None:
        wanted, given = (self.config.context_length, self.config.context_dim), tuple(condition.features.shape)
        if given[1:] != wanted:
            raise ValueError(f"prompts must be (B, {wanted[0]}, {wanted[1]}), got {given}")
        if condition.mask is not None and tuple(condition.mask.shape) != given[:2]:
            raise ValueError(f"the mask of prompts must be {given[:2]}, got {tuple(condition.mask.shape)}")

    def example_condition(self, rows: int, seed: int = 0) -> CaptionFeatures:
        length, dim = self.config.context_length, self.config.context_dim
        mask = torch.arange(length) <= torch.tensor([[row % length] for row in range(rows)])
        return CaptionFeatures(torch.randn(rows, length, dim, generator=torch.Generator().manual_seed(seed)), mask)

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        generator = torch.Generator().manual_seed(seed)
        return Tokens(torch.randn(rows, sum(self.sizes), self.config.token_width, generator=generator))

    # sampling ---------------------------------------------------------------------------------------------------

    def _generate(self, condition: CaptionFeatures, *, noise: Noise, sampler: HARTSampler,
                  callback: Callback | None) -> Tokens:
        """Tokens float32 (B, L, D).

        Raises:
            ValueError: the model knows no tokenizer.
        """
        features, mask = condition.features, self.words(condition)
        if is_guided(sampler.guidance_scale):  # the null prompt is zeros, of one word
            features = torch.cat([features, torch.zeros_like(features)])
            mask = torch.cat([mask, (torch.arange(mask.shape[1], device=mask.device) == 0).expand_as(mask)])
        context = self.context(CaptionFeatures(features))
        return Tokens(NextScaleDecoding(self, context, mask, len(condition), noise, sampler, callback).run())
