"""MaskGen-VQ: captions to TA-TiTok's codes by masked decoding.

Paper, code and licences: see :mod:`photophone.generators.maskgen.base`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from photophone.core.limits import MAX_MASKED_TEMPERATURE
from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback
from photophone.decoding.masked import decode_masked, mask_counts, masked_share
from photophone.generators.base import LossOutput
from photophone.generators.classes import example_codes
from photophone.generators.conditions import CaptionStates
from photophone.generators.maskgen.base import MaskGenerator, official_sizes, score_option
from photophone.generators.maskgen.blocks import convert_joint_keys
from photophone.generators.masking import mask_tokens, masked_token_loss
from photophone.generators.sampler import (
    GuidedSampler,
    guidance_option,
    option,
    order_steps_option,
    temperature_option,
)
from photophone.heads.base import is_guided
from photophone.layers.embeddings import sinusoidal_embedding
from photophone.loading.checkpoints import State, rename_keys

SCHEDULES = ("constant", "linear", "power-cosine", "flipped-cosine")
SCORE_PERIOD = 1_000.0
TIED = "lm_head.weight"
"""Official key of the table of embeddings under its second name."""


@dataclass(frozen=True)
class MaskGenVQSampler(GuidedSampler):
    """Options of :class:`MaskGenVQ`.

    Published: 16 steps, guidance 13 (one more than the official scale, for which 0 is none) that rises from 2 along
    half a cosine, temperature 2, score 6.5.
    """

    guidance_scale: float = guidance_option(13.0)
    guidance_schedule: str = option("power-cosine", "how guidance changes from 2: at once, on a line, along half a "
                                                    "cosine, or along one that falls", choices=SCHEDULES)
    guidance_power: float = option(1.0, "of the progress within a cosine; larger values guide later", low=0, high=100)
    num_order_steps: int = order_steps_option(16, "steps that each keep the surest tokens and mask the rest again")
    temperature: float = temperature_option(2.0, MAX_MASKED_TEMPERATURE)
    annealed: bool = option(True, "divide the logits by a number that falls from 1.3 to 0.5")
    noisy_order: bool = option(True, "the surest tokens are kept by chance, else exactly they")
    aesthetic_score: float = score_option()

    def guidance_at(self, progress: float) -> float:
        """Strength of guidance at ``progress`` in 0..1; 1 is none. The official scale starts at 1, which is 2 here."""
        if not is_guided(self.guidance_scale) or self.guidance_schedule == "constant":
            return self.guidance_scale
        angle = math.pi * progress**self.guidance_power
        share = {"linear": progress, "power-cosine": (1 - math.cos(angle)) / 2,
                 "flipped-cosine": math.cos(angle) / 2}[self.guidance_schedule]
        return 2 + (self.guidance_scale - 2) * share


class MaskGenVQ(MaskGenerator):
    """Captions to codes Long (B, N).

    The table of embeddings holds the codes, the mask, and rows of ``num_classes`` classes and "no class" that nothing
    reads: they lie in the published weights.

    Args:
        num_tokens, num_codes: of the tokenizer.
        width, depth, num_heads, text_dim, text_length, aesthetic_dim, condition_drop: see :class:`MaskGenerator`.
        num_classes: see above.
        tied: logits are products with the embeddings; else a layer of its own makes them.
        mask_schedule: how the share of masked tokens falls; see :func:`photophone.decoding.masked.masked_share`.
    """

    Sampler = MaskGenVQSampler

    def __init__(self, num_tokens: int = 128, num_codes: int = 8192, width: int = 1024, depth: int = 16,
                 num_heads: int = 16, text_dim: int = 768, text_length: int = 77, aesthetic_dim: int | None = 256,
                 num_classes: int = 1000, tied: bool = True, mask_schedule: str = "arccos",
                 condition_drop: float = 0.1) -> None:
        super().__init__()
        masked_share(torch.zeros(1), mask_schedule)  # refuses an unknown one
        self._build(width, depth, num_heads, text_dim, aesthetic_dim)
        self.embedding = nn.Embedding(num_codes + num_classes + 2, width)
        self.positions = nn.Parameter(0.02 * torch.randn(num_tokens, width))
        self.to_logits = None if tied else nn.Linear(width, num_codes)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=0.02)

    @property
    def mask_id(self) -> int:
        """The token that stands for "masked"."""
        return self.config.num_codes

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the class from the official ``config.json``; see :func:`official_sizes`."""
        own = official["model"]["maskgen"]
        return {**official_sizes(official), "num_codes": official["model"]["vq_model"]["codebook_size"],
                "num_classes": own.get("condition_num_classes", 1000), "tied": own.get("weight_tying", True),
                "mask_schedule": own.get("mask_schedule_strategy", "arccos")}

    @classmethod
    def prepare_state_dict(cls, state: State, config: Mapping[str, Any]) -> State:
        """Official tensors to ours; tied weights may lie in the file under either name or both."""
        if config.get("tied", True) and TIED in state:
            state = {"embeddings.weight": state[TIED], **{key: value for key, value in state.items() if key != TIED}}
        return cls.convert_state_dict(state)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        state = rename_keys(convert_joint_keys(state), [
            (r"^text_embed_proj\.", "text_in."), (r"^cond_pooled_proj\.", "pooled_in."),
            (r"^embeddings\.", "embedding."), (r"^pos_embed$", "positions"), (r"^norm\.linear\.", "modulation_out.1."),
            (r"^lm_head\.", "to_logits.")])
        return {key: value.flatten(0, -2) if key == "positions" else value for key, value in state.items()}

    @staticmethod
    def score_waves(scores: Tensor, dim: int) -> Tensor:
        cosines, sines = sinusoidal_embedding(scores, dim, SCORE_PERIOD).chunk(2, dim=-1)
        return torch.cat([sines, cosines], dim=-1)

    def logits(self, ids: Tensor, states: Tensor, pooled: Tensor) -> Tensor:
        """Logits (B, N, K) of partly masked ids Long (B, N); the rest as in :meth:`transform`."""
        x = self.transform(self.embedding(ids) + self.positions, states, pooled)
        if self.to_logits is not None:
            return self.to_logits(x)
        return nn.functional.linear(x, self.embedding.weight[:self.config.num_codes])

    def loss(self, tokens: Tokens, condition: CaptionStates, *, noise: Noise | None = None) -> LossOutput:
        """Cross-entropy of a random share of hidden tokens Long (B, N); visible ones count a tenth.

        ``metrics`` has ``right_codes``, the share of hidden tokens that are the likeliest.
        """
        noise = noise or GlobalNoise(tokens.values.device)
        condition = self.drop_condition(condition, noise)
        ids, masked = mask_tokens(tokens.values, self.mask_id, noise, self.config.mask_schedule)
        logits = self.logits(ids, condition.states, self.pooled(condition.pooled, self.scores_of(condition)))
        loss, right = masked_token_loss(logits, tokens.values, masked)
        return LossOutput(loss, {"right_codes": right})

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_codes(rows, self.config.num_tokens, self.config.num_codes, seed)

    def _generate(self, condition: CaptionStates, *, noise: Noise, sampler: MaskGenVQSampler,
                  callback: Callback | None) -> Tokens:
        config, rows, steps = self.config, len(condition), sampler.num_order_steps
        states, pooled = self.read(condition, sampler.aesthetic_score, is_guided(sampler.guidance_scale))

        def logits(ids: Tensor, guided: bool) -> Tensor:
            copies = 2 if guided else 1
            return self.logits(ids.repeat(copies, 1), states[:copies * rows], pooled[:copies * rows])

        def share(progress: float) -> float:  # in float32, whose rounding decides at whole numbers of tokens
            return masked_share(torch.tensor(progress), config.mask_schedule).item()

        return Tokens(decode_masked(
            logits, rows, config.num_tokens, self.mask_id, noise=noise, num_steps=steps,
            guidance=lambda progress: sampler.guidance_at(min(progress + 1 / steps, 1.0)),
            temperature=sampler.temperature, annealed=sampler.annealed, noisy_order=sampler.noisy_order,
            counts=mask_counts(config.num_tokens, steps, share), callback=callback, device=self.device))
