"""NAR's transformer: all codes of an anti-diagonal at once, from a class or a caption."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, KVCache, autoregress, collect
from photophone.generators.base import LossOutput
from photophone.generators.classes import PrefixGenerator, example_codes
from photophone.generators.conditions import CaptionFeatures, ClassLabels
from photophone.generators.nar.order import (
    all_codes,
    diagonal_order,
    diagonal_sizes,
    first_code,
    next_diagonal,
    proximity_mask,
)
from photophone.generators.sampler import (
    Sampler,
    guidance_option,
    option,
    temperature_option,
    top_k_option,
    top_p_option,
    top_p_rule_option,
)
from photophone.heads.base import is_guided
from photophone.heads.categorical import CategoricalHead
from photophone.kernels.sampling import draw
from photophone.layers.llama_block import META_KEYS, LlamaBlock, run_blocks
from photophone.layers.rotary import grid_rotary, with_condition_rows
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

KEYS = [(r"^cls_embedding\.embedding_table\.", "class_embedding."),
        (r"^cls_embedding\.cap_proj\.fc1\.", "caption_in.0."),
        (r"^cls_embedding\.cap_proj\.fc2\.", "caption_in.2."),
        (r"^cls_embedding\.uncond_embedding$", "null_caption"),
        (r"^tok_embeddings\.", "token_embedding."),
        (r"^norm\.", "right_norm."), (r"^output\.", "right_head.linear."),
        (r"^medusa_norm\.", "below_norm."), (r"^medusa_output\.", "below_head.linear."),
        (r"^layers\.", "blocks."), *META_KEYS]
"""Patterns of official keys and what stands for them here."""


@dataclass(frozen=True)
class NARSampler(Sampler):
    """How NAR samples; the published settings stand in the chains of its entries."""

    guidance_scale: float = guidance_option()
    guidance_interval: int | None = option(
        None, "guidance ends before the first anti-diagonal that more codes than this precede", low=0)
    temperature: float = temperature_option()
    top_k: int = top_k_option()
    top_p: float = top_p_option()
    top_p_rule: str = top_p_rule_option()

    def guidance_behind(self, made: int) -> float:
        """Guidance of an anti-diagonal that ``made`` codes precede, 1 where there is none."""
        ended = self.guidance_interval is not None and made > self.guidance_interval
        return 1.0 if ended else self.guidance_scale


class NAR(OriginalCheckpoint, PrefixGenerator):
    """Classes or captions to codes Long (B, N) of a square grid, in 2 n - 1 steps for n * n codes.

    A condition is :class:`ClassLabels`, or with ``caption_dim`` :class:`CaptionFeatures` of a text encoder
    (flan-t5-xl), padded on the left. Two heads predict the code on the right of each code and the one below it. The
    official training also drops out tokens and what attention and feed-forward add, which is left out here.

    Args:
        grid_size: n, codes per side.
        num_codes: of the tokenizer.
        num_classes: classes; one more row is the null class. Unused with ``caption_dim``.
        caption_dim: width of caption features; None for classes.
        caption_length: T, caption tokens.
        width, num_heads: sizes of the transformer.
        depth: blocks in front of both heads.
        below_depth: further blocks, which only the head for the code below reads.
        hidden_multiple: the hidden width of the feed-forwards is 8/3 of the width, raised to a multiple of this.
        hidden_factor: on that width before it is raised; None: 1.
        num_kv_heads: heads of keys and values that groups of heads share; None: as many as heads, as published.
        eps: of the RMS norms.
        rotary_base: of the rotary positions.
        condition_drop: share of training conditions replaced by the null one.
    """

    Sampler = NARSampler
    CONTAINERS = ("model", "module", "state_dict")

    def __init__(self, grid_size: int = 16, num_codes: int = 16384, num_classes: int = 1000,
                 caption_dim: int | None = None, caption_length: int = 120, width: int = 768, depth: int = 12,
                 below_depth: int = 1, num_heads: int = 12, hidden_multiple: int = 256,
                 hidden_factor: float | None = None, num_kv_heads: int | None = None, eps: float = 1e-5,
                 rotary_base: float = 10_000.0, condition_drop: float = 0.1) -> None:
        super().__init__()
        hidden = int((1 if hidden_factor is None else hidden_factor) * int(8 * width / 3))
        hidden = -(-hidden // hidden_multiple) * hidden_multiple
        self._build_prefix(num_classes, caption_dim, caption_length, width)
        self.token_embedding = nn.Embedding(num_codes, width)
        self.blocks = nn.ModuleList(LlamaBlock(width, num_heads, hidden, eps, num_kv_heads=num_kv_heads)
                                    for _ in range(depth + below_depth))
        self.right_norm, self.below_norm = nn.RMSNorm(width, eps=eps), nn.RMSNorm(width, eps=eps)
        self.right_head = CategoricalHead(width, num_codes, bias=False)
        self.below_head = CategoricalHead(width, num_codes, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.0 if name.startswith("right_head") else 0.02)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return rename_keys(state, KEYS)

    def rotary(self) -> Tensor:
        """The rotary table of condition tokens and codes, row by row."""
        config = self.config
        table = grid_rotary(config.grid_size, config.grid_size, config.width // config.num_heads, config.rotary_base)
        return with_condition_rows(table, self.prefix_length)

    def attention_mask(self, condition: ClassLabels | CaptionFeatures) -> Tensor:
        """Bool (B or 1, 1, M, M) over T + N positions, codes row by row.

        It is :func:`proximity_mask` without padded caption tokens, but all positions see themselves.
        """
        mask = proximity_mask(self.prefix_length, self.config.grid_size).to(self.device)[None]
        visible = self.visible(condition)
        if visible is not None:
            seen = F.pad(visible, (0, self.config.grid_size**2), value=True)
            mask = (mask & seen[:, None]) | torch.eye(mask.shape[1], dtype=torch.bool, device=self.device)
        return mask[:, None]

    def states(self, x: Tensor, mask: Tensor, rotary: Tensor, cache: KVCache | None = None) -> tuple[Tensor, Tensor]:
        """Embedded tokens (B, k, C) to the normalised states (B, k, C) that the right and the lower head read."""
        depth = self.config.depth
        shared, own = (None, None) if cache is None else (cache.layers[:depth], cache.layers[depth:])
        right = run_blocks(self.blocks[:depth], x, mask, rotary, shared)
        below = run_blocks(self.blocks[depth:], right, mask, rotary, own)
        return self.right_norm(right), self.below_norm(below)

    def both_logits(self, right: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
        """The two states to float32 logits (B, k, V) of the code on the right of each token, and of that below it."""
        return self.right_head.logits(right), self.below_head.logits(below)

    def teacher_logits(self, tokens: Tensor, condition: ClassLabels | CaptionFeatures) -> Tensor:
        """Logits (B, N, V) of all codes Long (B, N), row by row, in one pass."""
        x = torch.cat([self.prefix(condition), self.token_embedding(tokens)], dim=1)
        states = self.states(x, self.attention_mask(condition), self.rotary())
        last = self.prefix_length - 1
        return all_codes(*self.both_logits(*(state[:, last:] for state in states)), self.config.grid_size)

    def loss(self, tokens: Tokens, condition: ClassLabels | CaptionFeatures, *,
             noise: Noise | None = None) -> LossOutput:
        """Cross-entropy in nats, mean over codes.

        Args:
            tokens: Long (B, N), row by row.
            condition: B rows; in training some become the null condition.
            noise: random draws; torch's global state when None.
        """
        codes = tokens.values
        condition = self.drop_condition(condition, noise or GlobalNoise(codes.device))
        logits = self.teacher_logits(codes, condition)
        return LossOutput(F.cross_entropy(logits.flatten(0, 1), codes.flatten()))

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_codes(rows, self.config.grid_size**2, self.config.num_codes, seed)

    def _generate(self, condition: ClassLabels | CaptionFeatures, *, noise: Noise, sampler: NARSampler,
                  callback: Callback | None) -> Tokens:
        # In the cache, codes lie in the order in which they are made: what a step may see is all that is there.
        config, rows = self.config, len(condition)
        order = diagonal_order(config.grid_size).to(self.device)
        places = torch.cat([torch.arange(self.prefix_length, device=self.device), self.prefix_length + order])
        rotary = self.rotary().to(self.device)[places]
        mask = self.attention_mask(condition)[:, :, places][..., places]
        prefix = self.prefix(condition)
        copies = 1
        if is_guided(sampler.guidance_scale):
            prefix = torch.cat([prefix, self.prefix(self.null_condition(condition))])
            copies = 2
            mask = mask if len(mask) == 1 else mask.repeat(2, 1, 1, 1)
        cache = KVCache(len(self.blocks), len(prefix), config.num_kv_heads or config.num_heads, len(places),
                        config.width // config.num_heads, self.device, self.dtype)

        def step(index: int, previous: Tensor | None) -> Tensor:
            x = prefix if previous is None else self.token_embedding(previous).repeat(copies, 1, 1)
            start, stop = cache.length, cache.length + x.shape[1]
            states = self.states(x, mask[:, :, start:stop, :stop], rotary[start:stop], cache)
            if previous is None:
                logits = first_code(*self.both_logits(*(state[:, -1:] for state in states)))
            else:
                logits = next_diagonal(*self.both_logits(*states), config.grid_size, index)
            made = sum(diagonal_sizes(config.grid_size)[:index])
            guidance = sampler.guidance_behind(made)
            return draw(logits[:rows], logits[rows:] if is_guided(guidance) else None, guidance, noise,
                        temperature=sampler.temperature, top_k=sampler.top_k, top_p=sampler.top_p,
                        top_p_rule=sampler.top_p_rule)

        made, _ = collect(autoregress(step, 2 * config.grid_size - 1, callback=callback))
        return Tokens(made[:, order.argsort()])
