"""FSQ: the full codebook, the paper's formula in float64, gradients."""

import itertools
import math

import pytest
import torch

from photophone.quantizers import FSQ
from photophone.quantizers.fsq import ScalarBottleneck, bound, pack_levels, unpack_levels

LEVELS = [[3], [2, 2], [8, 5, 4], [4, 4, 4, 4], [7, 2, 3]]


@pytest.mark.parametrize("levels", LEVELS)
def test_indices_and_codes_are_in_bijection(levels):
    index = torch.arange(math.prod(levels))
    digits = unpack_levels(index, levels)
    expected = [pattern[::-1] for pattern in itertools.product(*[range(level) for level in reversed(levels)])]
    assert [tuple(row) for row in digits.tolist()] == expected  # channel 0 counts fastest
    assert torch.equal(pack_levels(digits, levels), index)


@pytest.mark.parametrize("eps", [1e-3, -1e-3])
@pytest.mark.parametrize("levels", LEVELS)
def test_every_code_is_reached_and_comes_back(levels, eps):
    if 2 in levels and eps < 0:
        pytest.skip("refused: an outer level would be lost")
    quantizer = FSQ(levels, eps=eps)
    index = torch.arange(quantizer.codebook_size)[None]
    values = quantizer.decode(index)
    assert values.shape == (1, quantizer.codebook_size, len(levels)) and values.abs().max() <= 1
    # The preimage of a level under the bound, in float64, pulled in a little where it would be infinite.
    size = torch.tensor(levels, dtype=torch.float64)
    half, offset = (size - 1) * (1 + eps) / 2, 0.5 * (size % 2 == 0)
    level = values.double() * (size // 2)
    x = torch.atanh(((level + offset) / half).clamp(-0.9999, 0.9999)) - torch.atanh(offset / half)
    assert torch.equal(quantizer.encode(x.float()), index)


@pytest.mark.parametrize("levels", LEVELS)
def test_extreme_inputs_stay_in_the_codebook(levels):
    quantizer = FSQ(levels)
    x = torch.tensor([-1e4, -20.0, 0.0, 20.0, 1e4])[None, :, None].expand(1, 5, len(levels))
    indices = quantizer.encode(x)
    assert indices[0, :2].tolist() == [0, 0] and indices[0, 3:].tolist() == [quantizer.codebook_size - 1] * 2
    assert quantizer.decode(indices)[0, 2].abs().max() == 0  # zero stays zero, for even levels too


@pytest.mark.parametrize("double_bound", [False, True])
def test_values_and_gradient_equal_the_formula(double_bound):
    levels = [8, 5, 4]
    x = 2 * torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0))
    size = torch.tensor(levels, dtype=torch.float64)

    def formula(z):
        half, offset = (size - 1) * 1.001 / 2, torch.tensor([0.5, 0.0, 0.5], dtype=torch.float64)
        return torch.tanh(z + torch.atanh(offset / half)) * half - offset

    exact = x.double().requires_grad_()
    bounded = formula(formula(exact)) if double_bound else formula(exact)
    upstream = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(1))
    (expected,) = torch.autograd.grad((bounded / (size // 2) * upstream).sum(), exact)
    x.requires_grad_()
    output = FSQ(levels, double_bound=double_bound)(x)
    torch.testing.assert_close(output.values.double(), bounded.round() / (size // 2), rtol=0, atol=1e-6)
    (gradient,) = torch.autograd.grad((output.values * upstream).sum(), x)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-5)
    assert output.loss.item() == 0


def test_bound_gives_exactly_the_levels():
    x = torch.linspace(-30, 30, 4001)[:, None]
    for level in range(2, 17):
        rounded = bound(x, torch.tensor([level])).round().unique()
        assert rounded.tolist() == list(range(-(level // 2), level - level // 2))


def test_projections_wrap_the_codes():
    torch.manual_seed(0)
    quantizer, x = FSQ([5, 5], dim=7), torch.randn(2, 4, 7)
    inner = FSQ([5, 5])
    output = quantizer(x)
    assert torch.equal(output.indices, inner.encode(quantizer.project_in(x)))
    torch.testing.assert_close(output.values, quantizer.project_out(inner.decode(output.indices)))


def test_a_scalar_bottleneck_rounds_between_linear_layers():
    torch.manual_seed(0)
    layer = ScalarBottleneck(6, 4, scale=3)
    x = torch.randn(2, 5, 6, requires_grad=True)
    codes = torch.round(3 * torch.tanh(layer.project_in(x))) / 3
    torch.testing.assert_close(layer(x), layer.project_out(codes))
    layer(x).sum().backward()
    smooth = torch.autograd.grad(layer.project_out(torch.tanh(layer.project_in(x))).sum(), x)[0]
    torch.testing.assert_close(x.grad, smooth)
