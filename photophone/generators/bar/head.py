"""BAR's masked bit head: the bits of a token, or of a square of tokens, in a few steps, the surest first.

Paper: arXiv 2602.09024. Official code: amazon-far/BAR, Apache-2.0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.decoding.masked import unmask
from photophone.heads.base import Head, check_temperature, is_guided, split_guidance
from photophone.kernels.solver import Guidance, combine_guidance
from photophone.layers.adaln import AdaLNResidualBlock, adaln_projection, modulated_norm
from photophone.layers.llama_block import GatedFeedForward

MASK = 2
"""The id of a masked bit."""
FREQUENCIES = 256
KNOWN_WEIGHT = 0.1
"""Weight of bits that are not masked, in the loss."""
TIME_STD = 0.8
EPS = 1e-6
STEPS = 4


def bit_width(width: int, bits: int) -> int:
    """Channels of one bit's embedding, so that those of all bits have at least ``width``."""
    return -(-width // bits)


def gated(width: int) -> GatedFeedForward:
    """BAR's feed-forward."""
    return GatedFeedForward(width, int(2 / 3 * int(4 * width)), bias=True)


def even_steps(bits: int) -> list[int]:
    """Bits that each of at most four steps reveals: as many in all, none fewer than in the step before."""
    steps = min(STEPS, bits)
    return [(bits * (step + 1)) // steps - (bits * step) // steps for step in range(steps)]


class RatioEmbedding(nn.Module):
    """Fixed random waves of a number (B,), and two layers, to (B, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(FREQUENCIES))
        self.mlp = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, ratio: Tensor) -> Tensor:
        """Numbers (B,) to (B, W)."""
        angles = ratio.float()[:, None] * self.frequencies.float() * 2 * math.pi
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
        return self.mlp(waves.to(self.mlp[0].weight.dtype))


class MaskedBitHead(Head):
    """Hidden states to bits, Long (B, S, N) of 0 and 1: a token has S of them.

    Args:
        in_dim: channels C of the hidden states.
        bits: S.
        width, depth: of the blocks.
    """

    def __init__(self, in_dim: int, bits: int, width: int = 2048, depth: int = 3) -> None:
        super().__init__()
        self.bits = bits
        part = bit_width(width, bits)
        self.condition_in = nn.Linear(in_dim, width)
        self.bit_embedding = nn.Embedding(MASK + 1, part)
        self.bits_in = nn.Linear(bits * part, width)
        self.norm_in = nn.RMSNorm(width, eps=EPS)
        self.ratio_embed = RatioEmbedding(width)
        self.blocks = nn.ModuleList(AdaLNResidualBlock(width, gated(width), EPS, rms=True) for _ in range(depth))
        self.norm_out = nn.RMSNorm(width, eps=EPS)
        self.modulation = adaln_projection(width, 2)
        self.out = nn.Linear(width, 2 * bits)

    def logits(self, ids: Tensor, condition: Tensor, ratio: Tensor) -> Tensor:
        """Logits (M, S, 2) of 0 and 1.

        Args:
            ids: Long (M, S) of 0, 1 and MASK.
            condition: (M, W), of ``condition_in``.
            ratio: (M,), share of masked bits.
        """
        x = self.norm_in(self.bits_in(self.bit_embedding(ids).flatten(1)))
        condition = F.silu(self.ratio_embed(ratio) + condition)
        for block in self.blocks:
            x = block(x, condition)
        scale, shift = self.modulation(condition).chunk(2, dim=-1)
        return self.out(modulated_norm(self.norm_out, x, shift, scale)).unflatten(-1, (self.bits, 2))

    def mask(self, rows: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Bool (rows, S), True for bits that a training step hides, and their share (rows,)."""
        ratio = (1 - torch.sigmoid(TIME_STD * noise.normal(rows))).clamp(min=1 / self.bits)
        count = (self.bits * ratio).round().clamp(min=1)
        return noise.uniform(rows, self.bits).argsort(dim=-1) < count[:, None], ratio

    def bit_loss(self, condition: Tensor, bits: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Cross-entropy (M, S) of each of bits Long (M, S), and its weight; condition (M, W) of ``condition_in``."""
        hidden, ratio = self.mask(len(bits), noise)
        hidden, ratio = hidden.to(bits.device), ratio.to(bits.device)
        logits = self.logits(bits.masked_fill(hidden, MASK), condition, ratio).float()
        return F.cross_entropy(logits.transpose(1, 2), bits, reduction="none"), torch.where(hidden, 1.0, KNOWN_WEIGHT)

    def loss(self, hidden: Tensor, target: Tensor, mask: Tensor | None = None, *,
             noise: Noise | None = None) -> Tensor:
        """Weighted mean over bits Long (B, S, N). See :meth:`Head.loss`; draws have one row a token."""
        condition, noise = self.condition_in(hidden).flatten(0, 1), noise or GlobalNoise(hidden.device)
        losses, weights = self.bit_loss(condition, target.transpose(1, 2).flatten(0, 1), noise)
        if mask is not None:
            weights = weights * mask.flatten()[:, None]
        return (losses * weights).sum() / weights.sum()

    @torch.no_grad()
    def sample(self, hidden: Tensor, *, guidance: Guidance = 1.0, temperature: float = 1.0, noise: Noise,
               allocation: Sequence[int] | None = None) -> Tensor:
        """Bits Long (B, S, 1) of one position. See :meth:`Head.sample`.

        Args:
            allocation: bits that each step reveals; None: about as many in each of four.
        """
        bits = self.sample_bits(self.condition_in(hidden[:, 0]), guidance=guidance, temperature=temperature,
                                noise=noise, allocation=allocation)
        return bits[..., None]

    @torch.no_grad()
    def sample_bits(self, condition: Tensor, *, guidance: Guidance = 1.0, temperature: float = 1.0, noise: Noise,
                    allocation: Sequence[int] | None = None) -> Tensor:
        """Bits Long (M, S) of conditions (M, W), or (2 M, W), of ``condition_in``; see :meth:`sample`.

        Raises:
            ValueError: an allocation of more or fewer bits.
        """
        check_temperature(temperature)
        allocation = even_steps(self.bits) if allocation is None else list(allocation)
        if sum(allocation) != self.bits or min(allocation, default=0) < 1:
            raise ValueError(f"the steps must reveal {self.bits} bits in all and one at least each, got {allocation}")
        rows = len(split_guidance(condition, guidance)[0])
        done = [0, *accumulate(allocation)]

        def scores(ids: Tensor, step: int) -> Tensor:
            ratio = torch.full((len(condition),), 1 - done[step] / self.bits, device=ids.device)
            made = self.logits(ids.repeat(len(condition) // rows, 1), condition, ratio).float()
            return combine_guidance(*split_guidance(made, guidance), guidance) if is_guided(guidance) else made

        return unmask(scores, rows, self.bits, MASK, noise=noise, counts=[self.bits - known for known in done[1:-1]],
                      warmth=lambda step: temperature * (1 - step / len(allocation)), draws_last_order=False,
                      device=condition.device)
