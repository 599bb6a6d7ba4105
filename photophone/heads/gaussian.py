"""Gaussian head: mean and spread of each token at once (as in KALL-E, arXiv 2412.16846, and MELLE, 2407.08551)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.heads.base import Head, check_temperature, check_tokens, split_guidance
from photophone.kernels.solver import Guidance, combine_guidance
from photophone.layers.lengths import masked_mean
from photophone.layers.normal import normal_nll


class GaussianHead(Head):
    """A linear layer to the mean and log standard deviation of every channel.

    Args:
        in_dim: channels C of the hidden states.
        token_dim: channels D of a token.
        log_std_range: the log standard deviation is clamped to it; the loss has no lower bound without.
    """

    def __init__(self, in_dim: int, token_dim: int, log_std_range: tuple[float, float] = (-7.0, 2.0)) -> None:
        super().__init__()
        low, high = log_std_range
        if not low < high:
            raise ValueError(f"log_std_range must increase, got {log_std_range}")
        self.in_dim = in_dim
        self.token_dim = token_dim
        self.log_std_range = (float(low), float(high))
        self.linear = nn.Linear(in_dim, 2 * token_dim)

    def distribution(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation, float32 ``(B, N, D)`` each, of hidden ``(B, N, C)``."""
        mean, log_std = self.linear(hidden.to(self.linear.weight.dtype)).float().chunk(2, dim=-1)
        return mean, log_std.clamp(*self.log_std_range)

    def loss(self, hidden: Tensor, target: Tensor, mask: Tensor | None = None, *, noise: Noise | None = None) -> Tensor:
        """Negative log likelihood in nats per channel; target float ``(B, N, D)``, no draws. See :meth:`Head.loss`."""
        check_tokens(hidden, target, self.token_dim)
        mean, log_std = self.distribution(hidden)
        return masked_mean(normal_nll(target.float(), mean, log_std).mean(dim=-1), mask)

    @torch.no_grad()
    def sample(self, hidden: Tensor, *, guidance: Guidance = 1.0, temperature: float = 1.0, noise: Noise) -> Tensor:
        """``mean + temperature * std * noise``, float32 ``(B, N, D)``; guidance moves the mean alone.

        See :meth:`Head.sample`.
        """
        check_temperature(temperature)
        mean, log_std = self.distribution(hidden)
        cond, uncond = split_guidance(mean, guidance)
        log_std, _ = split_guidance(log_std, guidance)
        return combine_guidance(cond, uncond, guidance) + temperature * log_std.exp() * noise.normal(*cond.shape)
