"""Soft vector quantization: a token is a softmax mixture of codewords, hence continuous and differentiable.

Paper: SoftVQ-VAE (arXiv 2412.10958).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.quantizers.base import (
    Quantizer,
    QuantizerOutput,
    check_positive,
    entropy_terms,
    usage_metrics,
    valid_rows,
)
from photophone.quantizers.codebook_updates import pick_rows, same_on_all


class SoftVQ(Quantizer):
    """``softmax(x . sg(e) / tau) @ e``; no straight-through is needed and there is no commitment.

    The token axis is cut into Q equal contiguous segments, each with its own codewords. The mixture of unit vectors
    is shorter than one and is not normalised again. Tokens are continuous, so there are no indices.

    Loss: ``entropy_weight * (row entropy - batch entropy)`` of ``softmax(x . sg(e) / entropy_temperature)``, pooled
    over the tokens of all segments.

    Args:
        dim: width D of tokens and codewords.
        num_codewords: codewords K of each codebook.
        num_codebooks: Q; the number of tokens must be divisible by it.
        tau: temperature of the mixture.
        l2_norm: normalise tokens and codewords.
        entropy_weight, entropy_temperature: the loss.

    Attributes:
        codebook: Parameter ``(Q, K, D)``.

    Raises:
        ValueError: for a temperature of 0 or below, sizes below 1, or a token axis that Q does not divide.
    """

    def __init__(self, dim: int, num_codewords: int, num_codebooks: int = 1, *, tau: float = 0.07,
                 l2_norm: bool = True, entropy_weight: float = 0.01, entropy_temperature: float = 0.01) -> None:
        super().__init__(dim, token_dim=dim, num_codebooks=num_codebooks)
        if num_codewords < 1:
            raise ValueError(f"num_codewords must be at least 1, got {num_codewords}")
        check_positive(tau=tau, entropy_temperature=entropy_temperature)
        self.num_codewords = num_codewords
        self.tau = tau
        self.l2_norm = l2_norm
        self.entropy_weight = entropy_weight
        self.entropy_temperature = entropy_temperature
        codebook = torch.empty(num_codebooks, num_codewords, dim)
        nn.init.uniform_(codebook, -1 / num_codewords, 1 / num_codewords)
        self.codebook = nn.Parameter(F.normalize(codebook, dim=-1) if l2_norm else codebook)

    def similarity(self, x: Tensor) -> Tensor:
        """Dot product of each token ``(B, N, D)`` with the codewords of its segment, float32 ``(B, N, K)``.

        The gradient reaches x only.
        """
        segments = self._segments(self._unit(x.float()))
        products = torch.einsum("bqsd,qkd->bqsk", segments, self._codewords().detach())
        return products.flatten(1, 2)  # (B, Q, N/Q, K) -> (B, N, K)

    def _quantize(self, x: Tensor, mask: Tensor | None, noise: Noise | None) -> QuantizerOutput:
        similarity = self.similarity(x)
        row, batch = entropy_terms(valid_rows(similarity, mask) / self.entropy_temperature)
        metrics = usage_metrics(similarity.detach().argmax(-1), self.num_codewords, mask)
        metrics |= {"row_entropy": row.detach(), "batch_entropy": batch.detach()}
        return QuantizerOutput(self._mix(similarity), None, self.entropy_weight * (row - batch), metrics)

    def _start_codebook(self, x: Tensor, noise: Noise) -> None:
        segments = self._segments(self._unit(x))  # (B, Q, N/Q, D)
        for number, rows in enumerate(segments.unbind(1)):
            priority = noise.uniform(*rows.shape[:2]).flatten().to(x.device)
            self.codebook[number] = same_on_all(pick_rows(rows.flatten(0, 1), priority, self.num_codewords))

    def _encode(self, x: Tensor) -> Tensor:
        return self._mix(self.similarity(x))

    def _decode(self, tokens: Tensor) -> Tensor:
        return tokens.float()

    def _mix(self, similarity: Tensor) -> Tensor:
        weights = self._segments((similarity / self.tau).softmax(-1))
        return torch.einsum("bqsk,qkd->bqsd", weights, self._codewords()).flatten(1, 2)  # (B, N, D)

    def _codewords(self) -> Tensor:
        return self._unit(self.codebook.float())  # (Q, K, D)

    def _unit(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) if self.l2_norm else x

    def _segments(self, x: Tensor) -> Tensor:
        if x.shape[1] % self.num_codebooks:
            raise ValueError(f"{x.shape[1]} tokens are not divisible by num_codebooks={self.num_codebooks}")
        return x.unflatten(1, (self.num_codebooks, -1))  # (B, N, C) -> (B, Q, N/Q, C)
