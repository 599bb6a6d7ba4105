"""LlamaGen's GPT: codes of an image token by token, row by row, from a class or a caption.

Paper: arXiv 2406.06525. Official code: FoundationVision/LlamaGen, MIT. Weights: under the licence of the code, none
stated apart; the class-conditional ones were trained on ImageNet, the text-conditional ones on LAION-COCO and internal
pictures. The tokens are those of :class:`photophone.tokenizers.llamagen_vq.model.LlamaGenVQ`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.guidance import scheduled_guidance
from photophone.decoding.loop import Callback, KVCache, StaticCache, autoregress, collect
from photophone.generators.base import LossOutput
from photophone.generators.classes import PrefixGenerator, example_codes
from photophone.generators.conditions import CaptionFeatures, ClassLabels
from photophone.generators.sampler import (
    GuidedSampler,
    option,
    schedule_option,
    temperature_option,
    top_k_option,
    top_p_option,
    top_p_rule_option,
)
from photophone.heads.base import is_guided
from photophone.heads.categorical import CategoricalHead
from photophone.layers.llama_block import META_KEYS, LlamaBlock, run_blocks
from photophone.layers.rotary import grid_rotary, with_condition_rows
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

KEYS = [(r"^cls_embedding\.embedding_table\.", "class_embedding."),
        (r"^cls_embedding\.cap_proj\.fc1\.", "caption_in.0."),
        (r"^cls_embedding\.cap_proj\.fc2\.", "caption_in.2."), (r"^cls_embedding\.uncond_embedding$", "null_caption"),
        (r"^tok_embeddings\.", "token_embedding."), (r"^output\.", "token_head.linear."), (r"^layers\.", "blocks."),
        *META_KEYS]


@dataclass(frozen=True)
class LlamaGenSampler(GuidedSampler):
    """Options of :class:`LlamaGenGPT`.

    Published: guidance 2.0 for FID, 4.0 and top_k 2000 for looks; 7.5 and 1000 for captions. Linear guidance is none
    for the first code and all of it for the last.
    """

    guidance_schedule: str = schedule_option("constant")
    guidance_interval: int | None = option(None, "guidance ends after this many codes beside the first two; none "
                                                 "given: never", low=0)
    temperature: float = temperature_option()
    top_k: int = top_k_option()
    top_p: float = top_p_option()
    top_p_rule: str = top_p_rule_option()


class LlamaGenGPT(OriginalCheckpoint, PrefixGenerator):
    """Classes or captions to codes Long (B, N) of a square grid, row by row.

    A condition is :class:`photophone.ClassLabels`, or with ``caption_dim`` :class:`photophone.CaptionFeatures`
    (B, T, caption_dim) of flan-t5-xl; the null caption keeps the mask of its row.

    Args:
        grid_size: tokens per side.
        num_codes: of the tokenizer.
        num_classes: classes; one more row is the null class. Unused with ``caption_dim``.
        caption_dim: width of caption features; None for classes.
        caption_length: T, caption tokens.
        width, depth, num_heads: sizes of the transformer.
        num_kv_heads: heads of keys and values that groups of heads share; None: as many as heads, as published.
        hidden_multiple: the hidden width of the feed-forwards is 8/3 of the width, raised to a multiple of this.
        hidden_factor: on that width before it is raised; None: 1.
        eps: of the RMS norms.
        rotary_base: of the rotary positions.
        condition_drop: share of training conditions replaced by the null one.
    """

    Sampler = LlamaGenSampler
    CONTAINERS = ("model", "module", "state_dict")

    def __init__(self, grid_size: int = 16, num_codes: int = 16384, num_classes: int = 1000,
                 caption_dim: int | None = None, caption_length: int = 120, width: int = 768, depth: int = 12,
                 num_heads: int = 12, hidden_multiple: int = 256, eps: float = 1e-5, rotary_base: float = 10_000.0,
                 condition_drop: float = 0.1, num_kv_heads: int | None = None,
                 hidden_factor: float | None = None) -> None:
        super().__init__()
        hidden = int(8 * width / 3) if hidden_factor is None else int(hidden_factor * int(8 * width / 3))
        hidden = -(-hidden // hidden_multiple) * hidden_multiple
        self._build_prefix(num_classes, caption_dim, caption_length, width)
        self.token_embedding = nn.Embedding(num_codes, width)
        self.blocks = nn.ModuleList(LlamaBlock(width, num_heads, hidden, eps, num_kv_heads=num_kv_heads)
                                    for _ in range(depth))
        self.norm = nn.RMSNorm(width, eps=eps)
        self.token_head = CategoricalHead(width, num_codes, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.0 if name.startswith("token_head") else 0.02)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return rename_keys(state, KEYS)

    def rotary(self) -> Tensor:
        """The rotary table of condition tokens and codes."""
        config = self.config
        table = grid_rotary(config.grid_size, config.grid_size, config.width // config.num_heads, config.rotary_base)
        return with_condition_rows(table, self.prefix_length)

    def attention_mask(self, caption_mask: Tensor | None) -> Tensor:
        """Bool (B or 1, 1, M, M) over T + N positions: causal, without padded caption tokens, but all see themselves.

        Args:
            caption_mask: bool (B, T), True for caption tokens, or None.
        """
        total = self.prefix_length + self.config.grid_size**2
        mask = torch.ones(total, total, dtype=torch.bool, device=self.device).tril()[None]
        if caption_mask is not None:
            seen = torch.ones(len(caption_mask), 1, total, dtype=torch.bool, device=self.device)
            seen[:, 0, : self.prefix_length] = caption_mask
            mask = (mask & seen) | torch.eye(total, dtype=torch.bool, device=self.device)
        return mask[:, None]

    def hidden(self, x: Tensor, mask: Tensor, rotary: Tensor,
               cache: KVCache | StaticCache | None = None) -> Tensor:
        """Embedded tokens (B, n, C) to normalised states (B, n, C)."""
        return run_blocks(self.blocks, x, mask, rotary, None if cache is None else cache.layers, self.norm)

    def static_cache(self, rows: int, spare: int = 0) -> StaticCache:
        """An empty cache of ``rows`` rows for :meth:`decode_step`, ``spare`` longer than a condition and its codes."""
        config = self.config
        return StaticCache(len(self.blocks), rows, config.num_kv_heads or config.num_heads,
                           self.prefix_length + config.grid_size**2 + spare, config.width // config.num_heads,
                           self.device, self.dtype)

    def decode_step(self, x: Tensor, rotary: Tensor, cache: StaticCache) -> Tensor:
        """States (B, n, C) of the next n tokens of each row, by fixed shapes and without a look from the host.

        Args:
            x: embedded tokens or a prefix (B, n, C), from the places that the cache was given on.
            rotary: the whole table of :meth:`rotary` on the device.
        """
        places, mask = cache.mask(x.shape[1])
        return self.hidden(x, mask, rotary[places][:, None], cache)

    def guidance_at(self, index: int, scale: float, schedule: str = "constant", interval: int | None = None,
                    power: float = 3.0) -> float:
        """Guidance of code ``index``, 1 where there is none; see :class:`LlamaGenSampler`."""
        if not is_guided(scale) or (interval is not None and index - 1 > interval):
            return 1.0
        return scheduled_guidance(scale, schedule, index / max(1, self.config.grid_size**2 - 1), power)

    def teacher_logits(self, tokens: Tensor, condition: ClassLabels | CaptionFeatures) -> Tensor:
        """Logits (B, N, V) of all codes Long (B, N) in one pass."""
        x = torch.cat([self.prefix(condition), self.token_embedding(tokens[:, :-1])], dim=1)
        length = x.shape[1]
        mask = self.attention_mask(self.visible(condition))[:, :, :length, :length]
        hidden = self.hidden(x, mask, self.rotary()[:length])
        return self.token_head.logits(hidden[:, self.prefix_length - 1:])

    def loss(self, tokens: Tokens, condition: ClassLabels | CaptionFeatures, *,
             noise: Noise | None = None) -> LossOutput:
        """Cross-entropy in nats, mean over codes Long (B, N)."""
        codes = tokens.values
        condition = self.drop_condition(condition, noise or GlobalNoise(codes.device))
        logits = self.teacher_logits(codes, condition)
        return LossOutput(nn.functional.cross_entropy(logits.flatten(0, 1), codes.flatten()))

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_codes(rows, self.config.grid_size**2, self.config.num_codes, seed)

    def _generate(self, condition: ClassLabels | CaptionFeatures, *, noise: Noise, sampler: LlamaGenSampler,
                  callback: Callback | None) -> Tokens:
        """Codes Long (B, N)."""
        config, rows, guided = self.config, len(condition), is_guided(sampler.guidance_scale)
        copies = 2 if guided else 1
        prefix, visible = self.prefix(condition), self.visible(condition)
        if guided:
            prefix = torch.cat([prefix, self.prefix(self.null_condition(condition))])
        mask, rotary = self.attention_mask(None if visible is None else visible.repeat(copies, 1)), self.rotary()
        cache = KVCache(len(self.blocks), len(prefix), config.num_kv_heads or config.num_heads, len(rotary),
                        config.width // config.num_heads, self.device, self.dtype)

        def step(index: int, previous: Tensor | None) -> Tensor:
            x = prefix if previous is None else self.token_embedding(previous).repeat(copies, 1, 1)
            start, stop = cache.length, cache.length + x.shape[1]
            hidden = self.hidden(x, mask[:, :, start:stop, :stop], rotary[start:stop], cache)[:, -1:]
            strength = self.guidance_at(index, sampler.guidance_scale, sampler.guidance_schedule,
                                        sampler.guidance_interval, sampler.guidance_power)
            return self.token_head.sample(hidden if is_guided(strength) else hidden[:rows], noise=noise,
                                          guidance=strength, temperature=sampler.temperature, top_k=sampler.top_k,
                                          top_p=sampler.top_p, top_p_rule=sampler.top_p_rule)

        return Tokens(collect(autoregress(step, config.grid_size**2, callback=callback))[0])
