"""VAR: next-scale prediction of multi-scale codes.

Paper: arXiv 2404.02905. Official code: FoundationVision/VAR, MIT. Weights: under the licence of the code, none stated
apart; trained on ImageNet. The tokens are those of :class:`photophone.tokenizers.var_vq.model.VARTokenizer`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, KVCache, notify
from photophone.generators.base import LossOutput
from photophone.generators.classes import ClassGenerator, example_codes
from photophone.generators.conditions import ClassLabels
from photophone.generators.sampler import GuidedSampler, temperature_option, top_k_option, top_p_option
from photophone.heads.base import is_guided
from photophone.heads.categorical import CategoricalHead
from photophone.kernels.sampling import draw
from photophone.kernels.solver import combine_guidance
from photophone.layers.adaln import adaln_projection, modulated_norm
from photophone.layers.adaln_block import AdaLNBlock
from photophone.layers.transformer import FeedForward
from photophone.layers.var_attention import VARAttention
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys
from photophone.quantizers.multi_scale import MultiScaleVQ

if TYPE_CHECKING:
    from photophone.tokenizers.base import ImageTokenizer

KEYS = [(r"^word_embed\.", "token_in."), (r"^class_emb\.", "class_embedding."), (r"^pos_start$", "start_position"),
        (r"^pos_1LC$", "position"), (r"^lvl_embed\.", "level_embedding."),
        (r"^shared_ada_lin\.", "shared_modulation."), (r"^head_nm\.ada_lin\.", "head_modulation."),
        (r"^head\.", "token_head.linear."), (r"\.attn\.mat_qkv\.", ".attention.to_qkv."),
        (r"\.attn\.([qv]_bias)$", r".attention.\1"), (r"\.attn\.scale_mul_1H11$", ".attention.log_scale"),
        (r"\.attn\.proj\.", ".attention.to_out."), (r"\.ffn\.fc1\.", ".feed_forward.0."),
        (r"\.ffn\.fc2\.", ".feed_forward.2."), (r"\.ada_lin\.", ".modulation."), (r"\.ada_gss$", ".offset")]


@dataclass(frozen=True)
class VARSampler(GuidedSampler):
    """Options of :class:`VAR`.

    Published: guidance 2.5 (one more than the official ``cfg``), top_k 900, top_p 0.96. Linear guidance is none for the
    first scale and all of it for the last.
    """

    temperature: float = temperature_option()
    top_k: int = top_k_option()
    top_p: float = top_p_option()


class VAR(OriginalCheckpoint, ClassGenerator):
    """Classes to multi-scale codes Long (B, L): all codes of a scale at once, given all coarser scales.

    The model reads the sum of the coarser maps, which the quantizer of its tokenizer makes from codes: :meth:`connect`
    gives it the tokenizer.

    Args:
        scales: sides of the index maps.
        token_width, num_codes: of the tokenizer.
        num_classes: classes; one more row is the null class.
        width, depth, num_heads: sizes of the transformer.
        mlp_ratio: hidden width of the feed-forwards over the width.
        eps: of the layer normalisations.
        cosine: attention by cosine; see :class:`photophone.layers.var_attention.VARAttention`.
        shared_adaln: one modulation for all blocks (the 512 pixel model).
        label_drop: share of training labels replaced by the null class.
    """

    Sampler = VARSampler
    DROPPED_KEYS = ("lvl_1L", "attn_bias_for_masking", "blocks.*.attn.zero_k_bias")  # tables and zeros

    def __init__(self, scales: list[int] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16), token_width: int = 32,
                 num_codes: int = 4096, num_classes: int = 1000, width: int = 1024, depth: int = 16,
                 num_heads: int = 16, mlp_ratio: float = 4.0, eps: float = 1e-6, cosine: bool = True,
                 shared_adaln: bool = False, label_drop: float = 0.1) -> None:
        super().__init__()
        self.sizes = [scale**2 for scale in scales]
        self._tokenizer: tuple[ImageTokenizer, ...] = ()  # in a tuple, so that it is no part of the model's weights

        def block() -> AdaLNBlock:
            return AdaLNBlock(VARAttention(width, num_heads, cosine), FeedForward(width, mlp_ratio), width,
                              order="var", shared=shared_adaln, eps=eps)

        self.token_in = nn.Linear(token_width, width)
        self.class_embedding = nn.Embedding(num_classes + 1, width)
        self.start_position = nn.Parameter(torch.empty(1, self.sizes[0], width))
        self.position = nn.Parameter(torch.empty(1, sum(self.sizes), width))
        self.level_embedding = nn.Embedding(len(scales), width)
        self.shared_modulation = adaln_projection(width, 6) if shared_adaln else None
        self.blocks = nn.ModuleList(block() for _ in range(depth))
        self.head_norm = nn.LayerNorm(width, eps=eps, elementwise_affine=False)
        self.head_modulation = adaln_projection(width, 2)
        self.token_head = CategoricalHead(width, num_codes)
        for weight in (self.start_position, self.position, self.class_embedding.weight, self.level_embedding.weight):
            nn.init.trunc_normal_(weight, std=(1 / width / 3) ** 0.5)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours; the offsets of shared modulations (1, 1, 6, C) become flat."""
        return {key: value.flatten() if key.endswith(".offset") else value
                for key, value in rename_keys(state, KEYS).items()}

    def connect(self, tokenizer: ImageTokenizer) -> None:
        """Read the quantizer of this tokenizer from now on; it stays where it is and is not saved with the model.

        Raises:
            ValueError: a tokenizer of other scales, codes or width.
        """
        quantizer, config = tokenizer.bottleneck, self.config
        wanted = {"scales": tuple(config.scales), "num_codes": config.num_codes, "token_width": config.token_width}
        given = {"scales": tuple(tokenizer.config.get("scales", ())), "num_codes": quantizer.codebook_size,
                 "token_width": quantizer.dim}
        if given != wanted:
            raise ValueError(f"the model needs a tokenizer of {wanted}, {type(tokenizer).__name__} has {given}")
        self._tokenizer = (tokenizer,)

    @property
    def quantizer(self) -> MultiScaleVQ:
        """Of the tokenizer that :meth:`connect` was given.

        Raises:
            ValueError: it was given none.
        """
        if not self._tokenizer:
            raise ValueError("VAR reads the quantizer of its tokenizer; call connect(tokenizer) first")
        return self._tokenizer[0].bottleneck

    # backbone ---------------------------------------------------------------------------------------------------

    def levels(self) -> Tensor:
        """Long (L,): the scale of each code."""
        return torch.repeat_interleave(torch.tensor(self.sizes)).to(self.device)

    def attention_mask(self) -> Tensor:
        """Bool (L, L): codes see all scales up to their own."""
        levels = self.levels()
        return levels[:, None] >= levels

    def embed(self, values: Tensor | None, classes: Tensor, first: int, last: int) -> Tensor:
        """Inputs (B, n, C) of the scales from ``first`` to before ``last``.

        Args:
            values: (B, n', D): the coarser maps at the size of each scale; scale 0 has none.
            classes: class vectors (B, C), which scale 0 reads.
        """
        start, stop = sum(self.sizes[:first]), sum(self.sizes[:last])
        parts = [classes[:, None] + self.start_position] if first == 0 else []
        if values is not None:
            parts.append(self.token_in(values))
        level = self.level_embedding(self.levels()[start:stop])
        return torch.cat(parts, dim=1) + level + self.position[:, start:stop]

    def logits(self, x: Tensor, classes: Tensor, mask: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """Inputs of :meth:`embed` (B, n, C) to logits (B, n, V) in float32; see there for ``classes``."""
        condition = classes[:, None]
        modulation = condition if self.shared_modulation is None else self.shared_modulation(condition)
        for index, block in enumerate(self.blocks):
            x = block(x, modulation, mask, cache=None if cache is None else cache.layers[index])
        scale, shift = self.head_modulation(condition).chunk(2, dim=-1)
        return self.token_head.logits(modulated_norm(self.head_norm, x, shift, scale))

    def loss(self, tokens: Tokens, condition: ClassLabels, *, noise: Noise | None = None) -> LossOutput:
        """Cross-entropy in nats, mean over all codes Long (B, L).

        Raises:
            ValueError: the model knows no tokenizer.
        """
        codes, quantizer = tokens.values, self.quantizer
        labels = self.drop_labels(condition.labels, noise or GlobalNoise(codes.device))
        logits = self.teacher_logits(quantizer.generator_inputs(quantizer.split(codes)), labels)
        return LossOutput(nn.functional.cross_entropy(logits.flatten(0, 1), codes.flatten()))

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_codes(rows, sum(self.sizes), self.config.num_codes, seed)

    def teacher_logits(self, values: Tensor, labels: Tensor) -> Tensor:
        """Logits (B, L, V) of all scales in one pass; values (B, L - first, D) of ``generator_inputs``."""
        classes = self.class_embedding(labels)
        x = self.embed(values.to(self.dtype), classes, 0, len(self.sizes))
        return self.logits(x, classes, self.attention_mask())

    # sampling ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample_scales(self, labels: Tensor, noise: Noise, sampler: VARSampler) -> Iterator[tuple[Tensor, Tensor]]:
        """Sample scale by scale for labels Long (B,).

        Yields:
            Guided logits (B, n, V) before any filter, and the codes Long (B, n), of each scale.
        """
        quantizer, rows, last = self.quantizer, len(labels), len(self.sizes) - 1
        guided = is_guided(sampler.guidance_scale)
        if guided:
            labels = torch.cat([labels, self.null_labels(labels)])
        classes, heads = self.class_embedding(labels), self.config.num_heads
        cache = KVCache(len(self.blocks), len(labels), heads, sum(self.sizes), self.config.width // heads,
                        self.device, self.dtype)
        values, total = None, 0
        for scale in range(last + 1):
            out = self.logits(self.embed(values, classes, scale, scale + 1), classes, cache=cache)
            cond, uncond = out.chunk(2) if guided else (out, None)
            logits = combine_guidance(cond, uncond, sampler.guidance_at(scale / max(1, last)))
            codes = draw(logits, None, 1.0, noise, temperature=sampler.temperature, top_k=sampler.top_k,
                         top_p=sampler.top_p)
            yield logits, codes
            total = total + quantizer.enlarge(quantizer.look_up(codes), scale)
            if scale < last:
                coarser = quantizer.shrink(total, scale + 1).flatten(2).transpose(1, 2)  # (B, D, s, s) -> (B, ss, D)
                values = coarser.to(self.dtype).repeat(len(labels) // rows, 1, 1)

    def _generate(self, condition: ClassLabels, *, noise: Noise, sampler: VARSampler,
                  callback: Callback | None) -> Tokens:
        """Codes Long (B, L).

        Raises:
            ValueError: the model knows no tokenizer.
        """
        maps = []
        for _, codes in self.sample_scales(condition.labels, noise, sampler):
            maps.append(codes)
            notify(callback, len(maps), len(self.sizes))
        return Tokens(torch.cat(maps, dim=1))
