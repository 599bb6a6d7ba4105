"""Bits: the full codebook, entropies against sums over all codes, gradients."""

import math

import pytest
import torch
import torch.nn.functional as F

from photophone.core.noise import ReplayNoise
from photophone.quantizers import BSQ, LFQ, BernoulliQuantizer
from photophone.quantizers.bits import bit_entropies, joint_probabilities, pack_bits, unpack_bits


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def codebook(bits, scale):
    """All codes in the order of their indices, first bit highest, written without the package."""
    rows = [[scale if character == "1" else -scale for character in format(index, f"0{bits}b")]
            for index in range(2 ** bits)]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("bits", [1, 2, 7])
def test_indices_and_bits_are_in_bijection(bits):
    index = torch.arange(2 ** bits)
    pattern = unpack_bits(index, bits)
    assert torch.equal(pattern.double() * 2 - 1, codebook(bits, 1.0))
    assert torch.equal(pack_bits(pattern), index)


def test_sixty_two_bits_fit():
    index = torch.tensor([0, 1, 2 ** 61, 2 ** 62 - 1])
    assert torch.equal(pack_bits(unpack_bits(index, 62)), index)


@pytest.mark.parametrize("build", [LFQ, BSQ])
def test_every_code_decodes_and_encodes(build):
    quantizer = build(6)
    index = torch.arange(64)[None]
    values = quantizer.decode(index)
    scale = 1.0 if build is LFQ else 6 ** -0.5
    torch.testing.assert_close(values[0].double(), codebook(6, scale), rtol=0, atol=1e-7)
    assert torch.equal(quantizer.encode(3 * values), index)


@pytest.mark.parametrize("build", [LFQ, BSQ])
def test_the_code_is_the_nearest_of_all(build):
    x = draw(2, 40, 5)
    scale = 1.0 if build is LFQ else 5 ** -0.5
    rows = x.double() if build is LFQ else F.normalize(x.double(), dim=-1)
    nearest = (rows[:, :, None] - codebook(5, scale)).square().sum(-1).argmin(-1)
    assert torch.equal(build(5).encode(x), nearest)


def test_zero_counts_as_negative():
    assert LFQ(3).encode(torch.tensor([[[0.0, 1.0, -0.0]]])).item() == 0b010


def test_groups_of_bits_are_separate_indices():
    x = draw(2, 4, 6)
    whole, groups = LFQ(6).encode(x), LFQ(6, num_codebooks=3).encode(x)
    assert groups.shape == (2, 3, 4)
    assert torch.equal(groups[:, 0] * 16 + groups[:, 1] * 4 + groups[:, 2], whole)


def test_joint_probabilities_are_products_in_index_order():
    p = draw(5, 3).sigmoid()
    joint = joint_probabilities(p)
    for index in range(8):
        bits = [int(character) for character in format(index, "03b")]
        expected = torch.stack([p[:, i] if bit else 1 - p[:, i] for i, bit in enumerate(bits)]).prod(0)
        torch.testing.assert_close(joint[:, index], expected)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_entropy_equals_the_sum_over_all_codes(scale):
    """The factorised entropy is that of softmax(-distance^2 * inverse temperature) over the whole codebook."""
    x, temperature = 0.3 * draw(30, 5), 1.7
    distance = (x.double()[:, None] - codebook(5, scale)).square().sum(-1)
    p = (-distance * temperature).softmax(-1)  # (M, 32)
    row, batch = bit_entropies(x * 4 * temperature * scale, group_bits=5, eps=1e-12)
    assert row.item() == pytest.approx(-(p * p.log()).sum(-1).mean().item(), rel=1e-5)
    average = p.mean(0)
    exact = -(average * average.log()).sum().item()
    assert batch.item() == pytest.approx(exact, rel=1e-5)
    assert bit_entropies(x * 4 * temperature * scale, group_bits=2)[1].item() >= exact - 1e-4  # groups: an upper bound


def test_batch_entropy_of_groups_is_the_sum_over_groups():
    x = draw(30, 5)
    p = x.double().sigmoid()
    expected = 0.0
    for group in (p[:, :2], p[:, 2:4], p[:, 4:]):
        average = joint_probabilities(group).mean(0)
        expected -= (average * average.log()).sum().item()
    assert bit_entropies(x, group_bits=2)[1].item() == pytest.approx(expected, rel=1e-4)


def test_loss_of_lfq_is_its_formula():
    x = draw(2, 10, 4)
    output = LFQ(4, beta=0.3, entropy_weight=0.2, diversity=0.5, inverse_temperature=0.8)(x)
    rows = x.double().flatten(0, 1)
    p = (-(rows[:, None] - codebook(4, 1.0)).square().sum(-1) * 0.8).softmax(-1)
    row, batch = -(p * p.log()).sum(-1).mean(), -(p.mean(0) * p.mean(0).log()).sum()
    expected = 0.3 * (rows - rows.sign()).square().mean() + 0.2 * (row - 0.5 * batch)
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_saturated_bits_have_finite_gradients():
    x = torch.tensor([[[1e4, -1e4, 0.0]]], requires_grad=True)
    output = LFQ(3)(x)
    output.loss.backward()
    assert bool(output.loss.isfinite()) and bool(x.grad.isfinite().all())


def test_straight_through_gradients():
    x, upstream = draw(2, 5, 4).requires_grad_(), draw(2, 5, 4, seed=1)
    (gradient,) = torch.autograd.grad((LFQ(4)(x).values * upstream).sum(), x)
    assert torch.equal(gradient, upstream)
    (gradient,) = torch.autograd.grad((BSQ(4)(x).values * upstream).sum(), x)
    (expected,) = torch.autograd.grad((F.normalize(x, dim=-1) * upstream).sum(), x)
    torch.testing.assert_close(gradient, expected)


def test_bsq_values_have_length_one():
    values = BSQ(13)(draw(2, 7, 13)).values
    torch.testing.assert_close(values.norm(dim=-1), torch.ones(2, 7))


def test_bernoulli_draws_thresholds_and_gradient():
    torch.manual_seed(0)
    quantizer, x = BernoulliQuantizer(5, 4, num_codebooks=2, code_weight=2.0), draw(2, 6, 5)
    p = (x @ quantizer.project_in.weight.T + quantizer.project_in.bias).sigmoid()
    u = torch.rand(2, 6, 4, generator=torch.Generator().manual_seed(3))
    output = quantizer(x, noise=ReplayNoise(uniform=[u]))
    bits = (u < p).float()
    torch.testing.assert_close(output.values, bits @ quantizer.project_out.weight.T)
    assert torch.equal(output.indices[:, 1], (2 * bits[..., 2] + bits[..., 3]).long())
    torch.testing.assert_close(output.loss, 2 * (p.sigmoid() * (1 - p.sigmoid())).mean())
    (gradient,) = torch.autograd.grad(output.values.sum(), quantizer.project_in.bias)
    expected = (p * (1 - p) * quantizer.project_out.weight.sum(0)).sum((0, 1))
    torch.testing.assert_close(gradient, expected)
    quantizer.eval()
    torch.testing.assert_close(quantizer(x).values, (p > 0.5).float() @ quantizer.project_out.weight.T)


def test_bernoulli_bits_follow_their_probability():
    torch.manual_seed(0)
    quantizer = BernoulliQuantizer(1, 1)
    torch.nn.init.zeros_(quantizer.project_in.weight)
    torch.nn.init.constant_(quantizer.project_in.bias, math.log(0.2 / 0.8))
    share = quantizer(torch.zeros(1, 20000, 1)).indices.float().mean().item()
    assert share == pytest.approx(0.2, abs=0.015)  # five standard deviations
