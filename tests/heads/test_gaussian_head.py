"""Gaussian head against torch.distributions."""

import pytest
import torch
from torch.distributions import Normal

from photophone.core.noise import ReplayNoise
from photophone.heads import GaussianHead


def test_loss_and_sample_follow_the_distribution():
    head, hidden, target = GaussianHead(6, 3), torch.randn(2, 4, 6), torch.randn(2, 4, 3)
    mean, log_std = head.linear(hidden).chunk(2, dim=-1)
    torch.testing.assert_close(head.loss(hidden, target), -Normal(mean, log_std.exp()).log_prob(target).mean())
    noise = torch.randn(2, 4, 3)
    drawn = head.sample(hidden, temperature=0.7, noise=ReplayNoise(normal=[noise]))
    torch.testing.assert_close(drawn, mean + 0.7 * log_std.exp() * noise)


def test_guidance_moves_the_mean_alone():
    head, hidden, noise = GaussianHead(6, 3), torch.randn(4, 4, 6), torch.randn(2, 4, 3)
    mean, log_std = head.distribution(hidden)
    drawn = head.sample(hidden, guidance=3.0, noise=ReplayNoise(normal=[noise]))
    torch.testing.assert_close(drawn, 3 * mean[:2] - 2 * mean[2:] + log_std[:2].exp() * noise)


def test_log_std_is_clamped():
    head = GaussianHead(1, 1, log_std_range=(-2.0, 1.0))
    torch.nn.init.constant_(head.linear.weight, 1.0)
    _, log_std = head.distribution(torch.tensor([[[-100.0], [100.0]]]))
    assert log_std.flatten().tolist() == [-2.0, 1.0]
    with pytest.raises(ValueError, match=r"\(1, 0\)"):
        GaussianHead(1, 1, log_std_range=(1, 0))
