"""BAR: classes to tokens of bits, one or a square of them a step, by a masked bit head.

Paper: arXiv 2602.09024. Official code: amazon-far/BAR, Apache-2.0, as are the weights, trained on ImageNet. The
transformer knows the place of each token and of the next one, so that it can be trained in random orders.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, KVCache, autoregress, collect
from photophone.generators.bar.head import MASK, MaskedBitHead, bit_width, gated
from photophone.generators.base import LossOutput
from photophone.generators.classes import ClassGenerator, example_codes
from photophone.generators.conditions import ClassLabels
from photophone.generators.sampler import GuidedSampler, option, temperature_option
from photophone.heads.base import is_guided
from photophone.kernels.pack import pack_levels
from photophone.layers.adaln_block import AdaLNBlock
from photophone.layers.cells import cell_order, check_cells
from photophone.layers.rotary import axes_rotary
from photophone.layers.self_attention import SelfAttention
from photophone.layers.vit_keys import split_swiglu_keys
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys
from photophone.quantizers.fsq import unpack_levels

SPARE_POSITIONS, SPARE_TIMES = 128, 100
"""Rows that the official tables of positions and times have beside one for each step."""
EPS = 1e-6
KEYS = [(r"^lm_head\.input_embed\.", "token_head.bit_embedding."), (r"^lm_head\.input_proj\.", "token_head.bits_in."),
        (r"^lm_head\.ln_pre\.", "token_head.norm_in."), (r"^lm_head\.output_embed\.", "token_head.out."),
        (r"^lm_head\.t_embedder\.W$", "token_head.ratio_embed.frequencies"),
        (r"^lm_head\.t_embedder\.", "token_head.ratio_embed."), (r"^lm_head\.transformer\.", "token_head.blocks."),
        (r"^lm_head\.adaln_before_head\.norm_final\.", "token_head.norm_out."),
        (r"^lm_head\.adaln_before_head\.adaLN_modulation\.", "token_head.modulation."),
        (r"^latent_condition_proj\.", "token_head.condition_in."), (r"^embeddings\.", "class_embedding."),
        (r"^input_embeddings\.", "bit_embedding."), (r"^input_merge\.", "token_in."),
        (r"^pos_embed$", "position"), (r"^target_aware_pos_embed$", "target_position"),
        (r"^timesteps_embeddings$", "time"), (r"^(blocks\.\d+\.)attn\.qkv\.", r"\1attention.to_qkv."),
        (r"^(blocks\.\d+\.)attn\.proj\.", r"\1attention.to_out."), (r"^(blocks\.\d+\.)attn\.", r"\1attention."),
        (r"^(blocks\.\d+\.)adaLN_modulation\.", r"\1modulation.")]
HEAD_MLP = [(r"^(lm_head\.transformer\.\d+\.)feed_forward\.", r"\1mlp.")]


@dataclass(frozen=True)
class BARSampler(GuidedSampler):
    """Options of :class:`BAR`.

    Published: guidance 5.0 and temperature 2.5 (B), 5.5 and 2.0 (B/2), 9.6 and 1.4 (B/4), 5.3 and 3.0 (L), with the
    steps of their entries. Guidance is none for the first step.
    """

    temperature: float = temperature_option(1.0, high=10)
    bit_steps: str = option("", 'bits that each step of the head reveals, such as "2,2,5,7"; empty: about as many in '
                                "each of four")
    random_order: bool = option(False, "tokens are made in a random order instead of row by row")

    @property
    def allocation(self) -> list[int] | None:
        """``bit_steps`` as numbers; None where it is empty."""
        try:
            return [int(part) for part in self.bit_steps.split(",")] if self.bit_steps.strip() else None
        except ValueError:
            raise ValueError(f'bit_steps must be whole numbers with commas between, such as "2,2,5,7", got '
                             f"{self.bit_steps!r}") from None


class BAR(OriginalCheckpoint, ClassGenerator):
    """Classes to codes Long (B, N) of a square grid, the first bit of a code lowest.

    Args:
        grid_size: tokens per side.
        token_bits: bits of a token.
        step_side: tokens made together are a square of so many per side.
        num_classes: classes; one more row is the null class.
        class_repeats: how often the class stands in front of the tokens, behind a token of its own.
        width, depth, num_heads: sizes of the transformer; heads must be even.
        head_width, head_depth: of the head.
        label_drop: share of training labels replaced by the null class.
        random_share: share of training rows in random orders; the published training goes from 1 to 0.

    Raises:
        ValueError: tokens that do not divide into steps, or odd heads.
    """

    Sampler = BARSampler
    DROPPED_KEYS = ("*.attn.rope.*",)  # tables that follow from the sizes

    def __init__(self, grid_size: int = 16, token_bits: int = 16, step_side: int = 1, num_classes: int = 1000,
                 class_repeats: int = 32, width: int = 768, depth: int = 24, num_heads: int = 12,
                 head_width: int = 2048, head_depth: int = 3, label_drop: float = 0.1,
                 random_share: float = 0.0) -> None:
        super().__init__()
        if num_heads % 2:
            raise ValueError(f"half the heads look at the next place, so heads must be even, got {num_heads}")
        check_cells(grid_size, grid_size, step_side)
        self.step_bits = token_bits * step_side**2
        self.num_steps, self.prefix_length = (grid_size // step_side) ** 2, 1 + class_repeats
        part = bit_width(width, self.step_bits)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.class_embedding = nn.Embedding(MASK + 1 + num_classes + 1, width)  # the first rows are those of bits
        self.bit_embedding = nn.Embedding(MASK + 1, part)
        self.token_in = nn.Linear(self.step_bits * part, width)
        self.position = nn.Parameter(torch.randn(1, self.num_steps + SPARE_POSITIONS, width) * 0.02)
        self.target_position = nn.Parameter(torch.randn(1, self.num_steps + SPARE_POSITIONS, width) * 0.02)
        self.time = nn.Parameter(torch.randn(1, self.num_steps + SPARE_TIMES, width) * 0.02)

        def block() -> AdaLNBlock:
            attention = SelfAttention(width, num_heads, qk_norm=lambda heads, dim: nn.RMSNorm(dim, eps=EPS))
            return AdaLNBlock(attention, gated(width), width, rms=True, eps=EPS, affine=True)

        self.blocks = nn.ModuleList(block() for _ in range(depth))
        self.norm = nn.RMSNorm(width, eps=EPS)
        self.token_head = MaskedBitHead(width, self.step_bits, head_width, head_depth)
        nn.init.normal_(self.class_embedding.weight, std=0.02)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours; the joint first layers of the feed-forwards become two."""
        return rename_keys(split_swiglu_keys(state), [*HEAD_MLP, *KEYS])

    # bits and places ---------------------------------------------------------------------------------------------

    def bits(self, codes: Tensor) -> Tensor:
        """Codes Long (B, N) in raster order to bits Long (B, steps, S), step by step in raster order."""
        bits = unpack_levels(codes, [2] * self.config.token_bits)[:, self.token_order()]
        return bits.flatten(1).unflatten(1, (self.num_steps, self.step_bits))

    def codes(self, bits: Tensor) -> Tensor:
        """The inverse of :meth:`bits`."""
        tokens = bits.flatten(1).unflatten(1, (-1, self.config.token_bits))
        return pack_levels(tokens[:, self.token_order().argsort()], [2] * self.config.token_bits)

    def token_order(self) -> Tensor:
        """Long (N,): the raster place of each token when they are read step by step."""
        return cell_order(self.config.grid_size, self.config.grid_size, self.config.step_side).to(self.device)

    def raster(self, rows: int) -> Tensor:
        """The order of steps row by row, Long (rows, steps)."""
        return torch.arange(self.num_steps, device=self.device).expand(rows, -1)

    def draw_orders(self, rows: int, share: float, noise: Noise) -> Tensor:
        """Orders of steps Long (rows, steps), of which a ``share`` is random and the others go row by row."""
        random = noise.uniform(rows, self.num_steps).argsort(dim=1).to(self.device)
        return torch.where((noise.uniform(rows, 1) < share).to(self.device), random, self.raster(rows))

    def rotary(self) -> Tensor:
        """The table of the prefix, which does not turn, and of all steps row by row."""
        side = round(self.num_steps**0.5)
        place = torch.arange(self.num_steps)
        table = axes_rotary(place // side, place % side, self.config.width // self.config.num_heads)
        still = torch.stack([torch.ones(table.shape[1]), torch.zeros(table.shape[1])], dim=-1)
        return torch.cat([still.expand(self.prefix_length, -1, -1), table]).to(self.device)

    def places(self, orders: Tensor) -> tuple[Tensor, Tensor]:
        """Rows Long (B, T) of the tables of positions: of each place of a sequence, and of what it predicts."""
        rows = len(orders)
        prefix = torch.arange(self.prefix_length, device=orders.device).expand(rows, -1)
        steps = orders + self.prefix_length
        return torch.cat([prefix, steps], dim=1), torch.cat([steps[:, :1].expand_as(prefix[:, 1:]), steps,
                                                             steps[:, -1:]], dim=1)

    # states -------------------------------------------------------------------------------------------------------

    def embed_labels(self, labels: Tensor) -> Tensor:
        """Embeddings (B, C) of labels Long (B,)."""
        return self.class_embedding(labels + MASK + 1)

    def embed_bits(self, bits: Tensor) -> Tensor:
        """Embeddings (B, n, C) of bits Long (B, n, S)."""
        return self.token_in(self.bit_embedding(bits).flatten(2))

    def prefix(self, classes: Tensor) -> Tensor:
        """What stands before the tokens, (B, T, C), of embeddings (B, C) of classes."""
        repeated = classes[:, None].expand(-1, self.config.class_repeats, -1)
        return torch.cat([self.cls_token.expand(len(classes), -1, -1), repeated], dim=1)

    def states(self, x: Tensor, classes: Tensor, orders: Tensor, cache: KVCache | None = None) -> Tensor:
        """Normalised states (B, n, C) of embeddings (B, n, C) behind those of the cache.

        Args:
            classes: embeddings (B, C) of the classes.
            orders: of the steps, Long (B, steps).
            cache: rows as x.
        """
        start = 0 if cache is None else cache.length
        stop = start + x.shape[1]
        own, target = (rows[:, start:stop] for rows in self.places(orders))
        x = x + self.position[0, own] + self.target_position[0, target]
        condition = classes[:, None] + self.time[:, start:stop]
        table = self.rotary()
        mask = torch.ones(stop, stop, dtype=torch.bool, device=x.device).tril()[start:]
        for index, block in enumerate(self.blocks):
            layer = None if cache is None else cache.layers[index]
            x = block(x, condition, mask, table[own][:, None], layer, table[target][:, None])
        return self.norm(x)

    def teacher_states(self, bits: Tensor, labels: Tensor, orders: Tensor) -> Tensor:
        """States (B, n + 1, C) that predict the bits of each step, and of one more; bits Long (B, n, S) in order."""
        classes = self.embed_labels(labels)
        x = torch.cat([self.prefix(classes), self.embed_bits(bits)], dim=1)
        return self.states(x, classes, orders)[:, self.prefix_length - 1:]

    def order_loss(self, bits: Tensor, labels: Tensor, orders: Tensor, noise: Noise) -> Tensor:
        """The head's loss of bits Long (B, steps, S), row by row, read in the given orders Long (B, steps)."""
        bits = bits.gather(1, orders[..., None].expand_as(bits))
        states = self.teacher_states(bits, labels, orders)[:, :-1]
        return self.token_head.loss(states, bits.transpose(1, 2), noise=noise.parts([self.num_steps] * len(bits)))

    def loss(self, tokens: Tokens, condition: ClassLabels, *, noise: Noise | None = None) -> LossOutput:
        """The head's loss on codes Long (B, N)."""
        noise, rows = noise or GlobalNoise(tokens.values.device), len(tokens)
        labels = self.drop_labels(condition.labels, noise)
        orders = self.raster(rows)
        if self.training and self.config.random_share:
            orders = self.draw_orders(rows, self.config.random_share, noise)
        return LossOutput(self.order_loss(self.bits(tokens.values), labels, orders, noise))

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_codes(rows, self.config.grid_size**2, 2**self.config.token_bits, seed)

    def _generate(self, condition: ClassLabels, *, noise: Noise, sampler: BARSampler,
                  callback: Callback | None) -> Tokens:
        """Codes Long (B, N)."""
        config, rows, labels = self.config, len(condition), condition.labels
        orders = self.draw_orders(rows, 1.0, noise) if sampler.random_order else self.raster(rows)
        copies = 2 if is_guided(sampler.guidance_scale) else 1
        if copies == 2:
            labels = torch.cat([labels, self.null_labels(labels)])
        classes, all_orders = self.embed_labels(labels), orders.repeat(copies, 1)
        cache = KVCache(config.depth, len(labels), config.num_heads, self.prefix_length + self.num_steps - 1,
                        config.width // config.num_heads, self.device, self.dtype)

        def step(index: int, previous: Tensor | None) -> Tensor:
            x = self.prefix(classes) if previous is None else self.embed_bits(previous).repeat(copies, 1, 1)
            states = self.states(x, classes, all_orders, cache)[:, -1:]
            strength = sampler.guidance_at(index / self.num_steps)
            made = self.token_head.sample(states if is_guided(strength) else states[:rows], guidance=strength,
                                          temperature=sampler.temperature, noise=noise, allocation=sampler.allocation)
            return made.transpose(1, 2)

        bits, _ = collect(autoregress(step, self.num_steps, callback=callback))
        back = orders.argsort(dim=1)[..., None].expand_as(bits)
        return Tokens(self.codes(bits.gather(1, back)))
