"""Normal distributions against torch.distributions and numerical integration."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from photophone.layers.normal import discretized_normal_nll, normal_kl, normal_nll


@pytest.fixture
def parameters():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 50, dtype=torch.float64, generator=generator)


def test_kl_matches_torch_distributions(parameters):
    mean1, log_var1, mean2, log_var2 = parameters
    expected = kl_divergence(Normal(mean1, (0.5 * log_var1).exp()), Normal(mean2, (0.5 * log_var2).exp()))
    torch.testing.assert_close(normal_kl(mean1, log_var1, mean2, log_var2), expected)
    to_standard = kl_divergence(Normal(mean1, (0.5 * log_var1).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(normal_kl(mean1, log_var1, 0.0, 0.0), to_standard)


def test_nll_matches_torch_distributions(parameters):
    x, mean, log_std, _ = parameters
    torch.testing.assert_close(normal_nll(x, mean, log_std), -Normal(mean, log_std.exp()).log_prob(x))


def test_discretized_nll_matches_the_normal_distribution_and_sums_to_one():
    mean, log_std = torch.tensor([0.2], dtype=torch.float64), torch.tensor([-1.0], dtype=torch.float64)
    bins = torch.arange(-255, 256, 2, dtype=torch.float64) / 255  # centres of the 256 values of a byte
    probability = torch.exp(-discretized_normal_nll(bins, mean, log_std))
    assert probability.sum().item() == pytest.approx(1, abs=1e-12)
    truth = Normal(mean, log_std.exp())
    upper, lower = truth.cdf(bins + 1 / 255), truth.cdf(bins - 1 / 255)
    upper[-1], lower[0] = 1, 0
    torch.testing.assert_close(probability, upper - lower, atol=3e-4, rtol=0)  # its cdf is approximate


def test_discretized_nll_has_a_floor():
    x, far = torch.zeros(1, dtype=torch.float64), torch.full((1,), 9.0, dtype=torch.float64)
    nll = discretized_normal_nll(x, far, torch.full((1,), -3.0, dtype=torch.float64))
    assert nll.item() == pytest.approx(-math.log(1e-12))
