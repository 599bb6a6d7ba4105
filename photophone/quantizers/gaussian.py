"""Continuous bottlenecks: the Gaussian of a VAE, and none at all.

Paper: VAE (arXiv 1312.6114); the clamp is that of latent diffusion (2112.10752).
"""

from __future__ import annotations

import torch
from torch import Tensor

from photophone.core.noise import Noise
from photophone.layers.normal import normal_kl
from photophone.quantizers.base import Quantizer, QuantizerOutput, noise_or_global, valid_rows

MIN_LOGVAR = -30.0
MAX_LOGVAR = 20.0
"""Range of the log variance, so that its exponential stays finite."""


def mean_and_logvar(x: Tensor) -> tuple[Tensor, Tensor]:
    """Split ``(..., 2C)`` into mean and log variance clamped to [-30, 20], ``(..., C)`` each."""
    mean, logvar = x.chunk(2, dim=-1)
    return mean, logvar.clamp(MIN_LOGVAR, MAX_LOGVAR)


class GaussianBottleneck(Quantizer):
    """Tokens are draws from a diagonal Gaussian whose mean and log variance are the halves of the input channels.

    Values are ``(B, N, dim // 2)``. :meth:`forward` draws in training or when given a Noise, and takes the mean
    otherwise; :meth:`encode` gives the mean.
    Loss: ``kl_weight * sum of the KL over tokens and channels / B``.

    Args:
        dim: input width, even; ``token_dim`` is half of it.
        kl_weight: weight of the KL.

    Raises:
        ValueError: when dim is odd.
    """

    def __init__(self, dim: int, *, kl_weight: float = 1e-6) -> None:
        if dim % 2:
            raise ValueError(f"dim holds means and log variances and must be even, got {dim}")
        super().__init__(dim, token_dim=dim // 2)
        self.kl_weight = kl_weight

    def _quantize(self, x: Tensor, mask: Tensor | None, noise: Noise | None) -> QuantizerOutput:
        mean, logvar = mean_and_logvar(x)
        values = mean
        if self.training or noise is not None:
            draws = noise_or_global(noise, x).normal(*mean.shape).to(x.device)
            values = mean + torch.exp(0.5 * logvar) * draws
        kl = valid_rows(normal_kl(mean, logvar), mask).sum() / max(len(x), 1)
        return QuantizerOutput(values, None, self.kl_weight * kl, {"kl": kl.detach()})

    def _encode(self, x: Tensor) -> Tensor:
        return mean_and_logvar(x)[0]

    def _decode(self, tokens: Tensor) -> Tensor:
        return tokens.float()


class NoQuantizer(Quantizer):
    """Continuous tokens as they are: values = x, loss 0."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, token_dim=dim)

    def _quantize(self, x: Tensor, mask: Tensor | None, noise: Noise | None) -> QuantizerOutput:
        return QuantizerOutput(x, None, x.new_zeros(()), {})

    def _encode(self, x: Tensor) -> Tensor:
        return x

    def _decode(self, tokens: Tensor) -> Tensor:
        return tokens.float()
