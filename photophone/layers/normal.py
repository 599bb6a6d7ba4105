"""Normal distributions: divergence and likelihoods, element by element, in nats; truncated draws."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def normal_kl(mean1: Tensor, log_var1: Tensor, mean2: Tensor | float = 0.0, log_var2: Tensor | float = 0.0) -> Tensor:
    """KL(N(mean1, exp(log_var1)) || N(mean2, exp(log_var2))) of each element; the arguments broadcast, and the second
    distribution is N(0, 1) where it is left out."""
    log_ratio = log_var1 - log_var2
    squared = (mean1 - mean2) ** 2
    scaled = squared * (torch.exp(-log_var2) if isinstance(log_var2, Tensor) else math.exp(-log_var2))
    return 0.5 * (log_ratio.exp() - 1 - log_ratio + scaled)


def normal_nll(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Negative log density of each element of x under N(mean, exp(log_std)^2)."""
    return 0.5 * (math.log(2 * math.pi) + ((x - mean) * torch.exp(-log_std)) ** 2) + log_std


def discretized_normal_nll(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Negative log probability of the bin of width 2/255 around x, as in ADM (arXiv 2105.05233).

    The first bin (x < -0.999) and the last (x > 0.999) reach to infinity. The distribution function is the tanh
    approximation of ADM, and probabilities are at least 1e-12: published weights were trained with both.
    """
    centred = x - mean
    inverse_std = torch.exp(-log_std)
    upper = _approximate_cdf(inverse_std * (centred + 1 / 255))
    lower = _approximate_cdf(inverse_std * (centred - 1 / 255))
    probability = torch.where(x < -0.999, upper, torch.where(x > 0.999, 1 - lower, upper - lower))
    return -probability.clamp(min=1e-12).log()


def _approximate_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def truncated_normal(uniform: Tensor, mean: float, std: float, low: float, high: float) -> Tensor:
    """Normal draws confined to [low, high], from uniform ones by the inverse distribution function."""
    first, last = (0.5 * (1 + math.erf((bound - mean) / std / math.sqrt(2))) for bound in (low, high))
    probability = first + uniform * (last - first)
    return (mean + std * torch.special.ndtri(probability)).clamp(low, high)
