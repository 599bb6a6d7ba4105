"""MaskGen-KL: captions to TA-TiTok's Gaussian tokens, masked and in random order, each drawn by a diffusion head.

Paper, code and licences: see :mod:`photophone.generators.maskgen.base`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.continuous import decode_values, guidance_progress
from photophone.decoding.loop import Callback, cosine_reveal_counts
from photophone.decoding.masked import masked_share
from photophone.generators.base import LossOutput
from photophone.generators.classes import example_values
from photophone.generators.conditions import CaptionStates
from photophone.generators.maskgen.base import MaskGenerator, official_sizes, score_option
from photophone.generators.maskgen.blocks import convert_joint_keys
from photophone.generators.sampler import (
    GuidedSampler,
    guidance_option,
    order_steps_option,
    steps_option,
    temperature_option,
)
from photophone.heads import DiffusionHead
from photophone.heads.base import is_guided
from photophone.loading.checkpoints import State, rename_keys

KEYS = [(r"^text_emb\.", "text_in."), (r"^text_pooled_emb\.", "pooled_in."), (r"^decoder_blocks\.", "blocks."),
        (r"^decoder_norm\.linear\.", "modulation_out.1."), (r"^z_proj\.", "token_in."),
        (r"^z_proj_ln\.", "token_norm."), (r"^decoder_pos_embed_learned$", "positions"),
        (r"^diffusion_pos_embed_learned$", "head_positions"), (r"^diffloss\.", "diffusion_head.")]


@dataclass(frozen=True)
class MaskGenKLSampler(GuidedSampler):
    """Options of :class:`MaskGenKL`.

    Published: 32 steps of the order, 100 of the head, linear guidance 3, score 6.5. Linear guidance rises with the
    share of known tokens.
    """

    guidance_scale: float = guidance_option(3.0)
    num_order_steps: int | None = order_steps_option(None, "steps of the masked order; none given: one a token")
    num_inference_steps: int | None = steps_option(None, "diffusion steps of the head for each token; none given: "
                                                         "those of the config")
    temperature: float = temperature_option()
    aesthetic_score: float = score_option()


class MaskGenKL(MaskGenerator):
    """Captions to continuous tokens (B, N, D).

    Args:
        num_tokens, token_dim: N and D, of the tokenizer.
        width, depth, num_heads, text_dim, text_length, aesthetic_dim, condition_drop: see :class:`MaskGenerator`.
        head_width, head_depth: of the diffusion MLP.
        respacing: solver steps of the head; see :func:`photophone.layers.gaussian_diffusion.space_timesteps`.
        diffusion_batch_mul: diffusion steps drawn for each token in training.
        scaling: the network works on tokens times this.

    Raises:
        ValueError: for a scaling that is not above 0.
    """

    Sampler = MaskGenKLSampler

    def __init__(self, num_tokens: int = 32, token_dim: int = 16, width: int = 1024, depth: int = 16,
                 num_heads: int = 16, text_dim: int = 768, text_length: int = 77, aesthetic_dim: int | None = 256,
                 head_width: int = 1024, head_depth: int = 8, respacing: str = "100", diffusion_batch_mul: int = 4,
                 scaling: float = 0.7525, condition_drop: float = 0.1) -> None:
        super().__init__()
        if not scaling > 0:
            raise ValueError(f"scaling must be above 0, got {scaling}")
        self._build(width, depth, num_heads, text_dim, aesthetic_dim)
        self.token_in = nn.Linear(token_dim, width)
        self.token_norm = nn.LayerNorm(width, eps=1e-6)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(num_tokens, width))
        self.head_positions = nn.Parameter(0.02 * torch.randn(num_tokens, width))
        self.diffusion_head = DiffusionHead(width, token_dim, head_width, head_depth, respacing=respacing,
                                            diffusion_batch_mul=diffusion_batch_mul)

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the class from the official ``config.json``; see :func:`official_sizes`."""
        tokens, losses = official["model"]["vq_model"], official["losses"]
        return {**official_sizes(official), "token_dim": tokens["token_size"], "head_width": losses["diffloss_w"],
                "head_depth": losses["diffloss_d"], "respacing": str(losses.get("num_sampling_steps", "100")),
                "scaling": tokens.get("scale_factor", 0.7525),
                "diffusion_batch_mul": official["model"]["maskgen"].get("diffusion_batch_mul", 4)}

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        flat = ("mask_token", "positions", "head_positions")
        return {key: value.flatten(0, -2) if key in flat else value
                for key, value in rename_keys(convert_joint_keys(state), KEYS).items()}

    @staticmethod
    def score_waves(scores: Tensor, dim: int) -> Tensor:
        frequencies = 10_000.0 ** -(torch.arange(0, dim, 2, dtype=torch.float32, device=scores.device) / dim)
        angles = scores[:, None] * frequencies
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)

    def hidden(self, values: Tensor, masked: Tensor, states: Tensor, pooled: Tensor) -> Tensor:
        """What the head reads at all places, (B, N, C).

        Args:
            values: scaled tokens (B, N, D); masked ones may hold anything.
            masked: bool (B, N).
            states, pooled: see :meth:`transform`.
        """
        x = torch.where(masked[..., None], self.mask_token, self.token_norm(self.token_in(values)))
        return self.transform(x + self.positions, states, pooled) + self.head_positions

    def loss(self, tokens: Tokens, condition: CaptionStates, *, noise: Noise | None = None) -> LossOutput:
        """Mean over masked tokens (B, N, D); the share of masked tokens is drawn once for the batch."""
        values, (rows, length) = tokens.values * self.config.scaling, tokens.values.shape[:2]
        noise = noise or GlobalNoise(values.device)
        condition = self.drop_condition(condition, noise)
        order = noise.permutation(rows, length).to(values.device)
        count = math.ceil((length * masked_share(noise.uniform(1)).clamp(1e-6, 1)).item())
        masked = torch.zeros(rows, length, dtype=torch.bool, device=values.device).scatter_(1, order[:, :count], True)
        hidden = self.hidden(values, masked, condition.states,
                             self.pooled(condition.pooled, self.scores_of(condition)))
        return LossOutput(self.diffusion_head.loss(hidden, values, masked, noise=noise))

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_values(rows, self.config.num_tokens, self.config.token_dim, seed)

    def _generate(self, condition: CaptionStates, *, noise: Noise, sampler: MaskGenKLSampler,
                  callback: Callback | None) -> Tokens:
        config, guided = self.config, is_guided(sampler.guidance_scale)
        states, pooled = self.read(condition, sampler.aesthetic_score, guided)
        counts = cosine_reveal_counts(config.num_tokens, sampler.num_order_steps or config.num_tokens)
        steps = sampler.num_inference_steps
        respacing = config.respacing if steps is None else str(steps)

        def draw(hidden: Tensor, step: int) -> Tensor:
            return self.diffusion_head.sample(hidden, temperature=sampler.temperature, noise=noise,
                                              guidance=sampler.guidance_at(guidance_progress(counts, step)),
                                              respacing=respacing)

        values = decode_values(lambda values, masked: self.hidden(values, masked, states, pooled), draw, len(condition),
                               counts, config.token_dim, noise=noise, copies=2 if guided else 1, callback=callback,
                               device=self.device, dtype=self.dtype)
        return Tokens(values / config.scaling)
