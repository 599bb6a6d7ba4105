"""Bernoulli bits: bits drawn from learned probabilities, as in the binary autoencoder of ELM (arXiv 2410.16257)."""

from __future__ import annotations

from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.layers.lengths import masked_mean
from photophone.quantizers.base import (
    Quantizer,
    QuantizerOutput,
    noise_or_global,
    project,
    straight_through,
    usage_metrics,
)
from photophone.quantizers.bits import bits_of, bits_per_codebook, indices_of


class BernoulliQuantizer(Quantizer):
    """Bits drawn from learned probabilities, embedded by a linear layer without bias (ELM, arXiv 2410.16257).

    ``p = sigmoid(project_in(x))``; a bit is ``p > 1/2``, or in training drawn with probability p unless
    ``deterministic``; values are ``project_out(bits)``. Gradient: bits straight through to p.

    Args:
        dim: width D of input and values.
        bits: bits of a token, divisible by num_codebooks.
        num_codebooks: indices a token.
        deterministic: never draw.
        code_weight: weight of ``mean s(1 - s)``, which drives probabilities away from 1/2.
        squash_twice: s = sigmoid(p) as the official loss has it, instead of s = p.
    """

    def __init__(self, dim: int, bits: int, num_codebooks: int = 1, *, deterministic: bool = False,
                 code_weight: float = 0.0, squash_twice: bool = True) -> None:
        bits_each = bits_per_codebook(bits, num_codebooks)
        super().__init__(dim, codebook_size=2**bits_each, num_codebooks=num_codebooks)
        self.bits = bits_each
        self.deterministic = deterministic
        self.code_weight = code_weight
        self.squash_twice = squash_twice
        self.project_in = nn.Linear(dim, bits)
        self.project_out = nn.Linear(bits, dim, bias=False)

    def _quantize(self, x: Tensor, mask: Tensor | None, noise: Noise | None) -> QuantizerOutput:
        p = project(self.project_in, x).sigmoid()  # (B, N, C)
        if self.training and not self.deterministic:
            bits = noise_or_global(noise, x).uniform(*p.shape).to(p.device) < p
        else:
            bits = p > 0.5
        s = p.sigmoid() if self.squash_twice else p
        loss = self.code_weight * masked_mean(s * (1 - s), mask)
        indices = indices_of(bits, self.num_codebooks)
        values = project(self.project_out, straight_through(p, bits.float()))
        return QuantizerOutput(values, indices, loss, usage_metrics(indices, self.codebook_size, mask))

    def _encode(self, x: Tensor) -> Tensor:
        return indices_of(project(self.project_in, x).sigmoid() > 0.5, self.num_codebooks)

    def _decode(self, tokens: Tensor) -> Tensor:
        return project(self.project_out, bits_of(tokens, self.bits).float())
