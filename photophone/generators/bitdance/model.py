"""BitDance: classes to tokens of signs, one or a square of them a step, by a binary diffusion head.

Paper: arXiv 2602.14041. Official code: shallowdream204/BitDance, Apache-2.0, as are the weights, trained on ImageNet.
The tokens are those of "bitdance-d16c32", whose weights lie in the same file.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from photophone.core.limits import MAX_INFERENCE_STEPS
from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, KVCache, autoregress, collect
from photophone.generators.base import LossOutput
from photophone.generators.bitdance.bits import GridBits
from photophone.generators.bitdance.head import BinaryDiffusionHead, convert_head_keys
from photophone.generators.classes import ClassGenerator
from photophone.generators.conditions import ClassLabels
from photophone.generators.sampler import GuidedSampler, option, temperature_option
from photophone.heads.base import is_guided
from photophone.layers.llama_block import GatedFeedForward, LlamaStack
from photophone.layers.rotary import axes_rotary
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

KEYS = [(r"^cls_embedding\.", "class_embedding."), (r"^proj_in\.w2\.", "token_in.out."), (r"^proj_in\.", "token_in."),
        (r"^emb_norm\.", "embedding_norm."), (r"^pos_for_diff\.weight$", "head_position"),
        (r"^query_token$", "queries"), (r"^norm\.", "backbone.norm."), (r"^layers\.", "backbone.blocks."),
        (r"\.attention\.wqkv\.", ".attention.to_qkv."), (r"\.attention\.wo\.", ".attention.to_out."),
        (r"\.attention_norm\.", ".norm1."), (r"\.ffn_norm\.", ".norm2."),
        (r"\.feed_forward\.w2\.", ".feed_forward.out."), (r"^head\.", "token_head.")]
EPS = 1e-6
HIDDEN_MULTIPLE = 256
FIRST_PLACE = 1.5
"""Row and column of the first token, as rotary positions count them."""
HEAD_WIDTH = 64
"""Channels of a head of the attention among the tokens of a step."""


@dataclass(frozen=True)
class BitDanceSampler(GuidedSampler):
    """Options of :class:`BitDance`.

    Published, with linear guidance: 3.2 (B, 1 token a step), 3.9 (4), 6.1 (16), 4.0 (L), 4.55 (H). It is none for the
    first step; then both branches of guidance draw first tokens of their own and go on from those, as in the official
    code.
    """

    num_inference_steps: int = option(100, "stochastic solver steps for each step's tokens", low=1,
                                      high=MAX_INFERENCE_STEPS)
    temperature: float = temperature_option()


class BitDance(OriginalCheckpoint, GridBits, ClassGenerator):
    """Classes to codes Long (B, Q, N) of a square grid of tokens of signs.

    Args:
        grid_size: tokens per side.
        token_dim, num_codebooks: of the tokenizer: bits of a token, and codes Q that they are packed in.
        num_classes: classes; one more row is the null class.
        class_tokens: tokens of a class in front of the others.
        step_side: tokens made together are a square of so many per side.
        raster: they are neighbours in raster order instead.
        width, depth, num_heads: sizes of the transformer.
        head_width, head_depth, head_modulations: see :class:`photophone.generators.bitdance.head.BitNetwork`.
        bit_flip: in training half of this share of the bits that the transformer reads is wrong, on average.
        label_drop: share of training labels replaced by the null class.
        time_distribution, time_mean, time_std, time_shift, batch_mul: see
            :class:`photophone.generators.bitdance.head.BinaryDiffusionHead`.

    Raises:
        ValueError: tokens that do not divide into steps.
    """

    Sampler = BitDanceSampler
    BACKBONE = "backbone.blocks.0"
    CONTAINERS = ("ema", "model")
    DROPPED_KEYS = ("vae.*",)  # the tokenizer

    def __init__(self, grid_size: int = 16, token_dim: int = 32, num_codebooks: int = 4, num_classes: int = 1000,
                 class_tokens: int = 64, step_side: int = 1, raster: bool = False, width: int = 768, depth: int = 24,
                 num_heads: int = 12, head_width: int = 768, head_depth: int = 6, head_modulations: int = 2,
                 bit_flip: float = 0.1, label_drop: float = 0.1, time_distribution: str = "logit_normal",
                 time_mean: float = -0.8, time_std: float = 0.8, time_shift: float = 1.0, batch_mul: int = 4) -> None:
        super().__init__()
        self._build_grid((grid_size, grid_size), step_side, token_dim, num_codebooks, raster=raster)
        hidden = -(-int(8 * width / 3) // HIDDEN_MULTIPLE) * HIDDEN_MULTIPLE
        self.class_embedding = nn.Embedding(num_classes + 1, class_tokens * width)
        self.queries = nn.Parameter(torch.randn(1, self.block - 1, width) * 0.02) if self.block > 1 else None
        self.token_in = BitProjection(token_dim, width)
        self.embedding_norm = nn.RMSNorm(width, eps=EPS)
        self.backbone = LlamaStack(width, num_heads, hidden, depth, EPS)
        self.head_position = nn.Parameter(torch.randn(grid_size**2, width) * 0.02)  # in the order of generation
        self.token_head = BinaryDiffusionHead(
            width, token_dim, block=self.block, width=head_width, depth=head_depth, modulations=head_modulations,
            num_heads=max(1, head_width // HEAD_WIDTH), time_distribution=time_distribution, time_mean=time_mean,
            time_std=time_std, time_shift=time_shift, batch_mul=batch_mul)
        nn.init.normal_(self.class_embedding.weight, std=0.02)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return rename_keys(convert_head_keys(state), KEYS)

    # bits and places ---------------------------------------------------------------------------------------------

    def rotary(self) -> Tensor:
        """The table of class tokens, queries and all tokens but the last block; the first two do not turn."""
        places, size = self.places()[:-self.block].cpu(), self.config.grid_size
        axes = [torch.cat([torch.zeros(self.prefix_length), axis + FIRST_PLACE])
                for axis in (places % size, places // size)]
        return axes_rotary(*axes, self.config.width // self.config.num_heads)

    @property
    def prefix_length(self) -> int:
        """Class tokens and queries in front of the tokens."""
        return self.config.class_tokens + self.block - 1

    def attention_mask(self) -> Tensor:
        """Bool (M, M) of class tokens, queries and all tokens but the last block: causal, and full inside a block.

        The last class token and the queries are the first block.
        """
        place = torch.arange(self.prefix_length + self.num_tokens - self.block, device=self.device)
        block = (place - self.config.class_tokens + 1).div(self.block, rounding_mode="floor")
        later = place >= self.config.class_tokens - 1
        return (place[:, None] >= place) | ((block[:, None] == block) & later[:, None] & later)

    def prefix(self, labels: Tensor) -> Tensor:
        """Embeddings (B, K + P - 1, C) of labels Long (B,) and of the queries of the first block."""
        classes = self.class_embedding(labels).unflatten(1, (self.config.class_tokens, -1))
        if self.queries is None:
            return classes
        return torch.cat([classes, self.queries.expand(len(labels), -1, -1)], dim=1)

    def states(self, x: Tensor, start: int, cache: KVCache | None = None) -> Tensor:
        """States (B, n, C) of embeddings (B, n, C) at places from ``start`` on."""
        stop = start + x.shape[1]
        return self.backbone(self.embedding_norm(x), self.attention_mask()[start:stop, :stop],
                             self.rotary()[start:stop].to(x.device), None if cache is None else cache.layers)

    def teacher_states(self, bits: Tensor, labels: Tensor) -> Tensor:
        """States (B, N, C) that predict the tokens of signs (B, N, D), in the order of generation, in one pass."""
        known = self.token_in(bits[:, :-self.block].to(self.dtype))
        return self.states(torch.cat([self.prefix(labels), known], dim=1), 0)[:, self.config.class_tokens - 1:]

    # training and sampling ----------------------------------------------------------------------------------------

    def loss(self, tokens: Tokens, condition: ClassLabels, *, noise: Noise | None = None) -> LossOutput:
        """The head's loss on codes Long (B, Q, N)."""
        noise = noise or GlobalNoise(tokens.values.device)
        bits = self.bits(tokens.values)
        read = self.flip_bits(bits, noise)
        states = self.teacher_states(read, self.drop_labels(condition.labels, noise))
        return LossOutput(self.token_head.loss(states + self.head_position, bits, noise=noise))

    def _generate(self, condition: ClassLabels, *, noise: Noise, sampler: BitDanceSampler,
                  callback: Callback | None) -> Tokens:
        """Codes Long (B, Q, N)."""
        config, rows, labels = self.config, len(condition), condition.labels
        if is_guided(sampler.guidance_scale):
            labels = torch.cat([labels, self.null_labels(labels)])
        total, length = self.num_tokens // self.block, self.prefix_length + self.num_tokens - self.block
        cache = KVCache(len(self.backbone.blocks), len(labels), config.num_heads, length,
                        config.width // config.num_heads, self.device, self.dtype)
        options = {"temperature": sampler.temperature, "num_steps": sampler.num_inference_steps}

        def step(index: int, previous: Tensor | None) -> Tensor:
            x = self.prefix(labels) if previous is None else self.token_in(previous.to(self.dtype))
            states = self.states(x, cache.length, cache)[:, -self.block:]
            states = states + self.head_position[index * self.block:(index + 1) * self.block]
            strength = sampler.guidance_at(index / total)
            if is_guided(strength):
                return self.token_head.sample(states, guidance=strength, noise=noise, **options).repeat(2, 1, 1)
            pairs = states.unflatten(0, (-1, rows)).transpose(0, 1).flatten(0, 1)  # branches of a row side by side
            made = self.token_head.sample(pairs, noise=noise.parts([len(labels) // rows] * rows), **options)
            return made.unflatten(0, (rows, -1)).transpose(0, 1).flatten(0, 1)

        bits, _ = collect(autoregress(step, total, callback=callback))
        return Tokens(self.codes(bits[:rows]))


class BitProjection(GatedFeedForward):
    """Signs (..., D) to embeddings (..., C), by a gated layer and one behind it."""

    def __init__(self, token_dim: int, width: int) -> None:
        super().__init__(width, int(1.5 * width), bias=True)
        self.gate = nn.Linear(token_dim, int(1.5 * width))
        self.value = nn.Linear(token_dim, int(1.5 * width))
