"""SoftVQ against its formula, the Gaussian against torch.distributions and closed forms."""

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence

from photophone.core.noise import ReplayNoise, SeededNoise
from photophone.layers.normal import normal_kl
from photophone.quantizers import GaussianBottleneck, SoftVQ


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("l2_norm", [True, False])
def test_soft_vq_equals_the_formula_in_float64(l2_norm):
    torch.manual_seed(0)
    quantizer = SoftVQ(5, 12, 2, tau=0.3, l2_norm=l2_norm, entropy_weight=0.1, entropy_temperature=0.5)
    x = draw(3, 8, 5)
    torch.nn.init.normal_(quantizer.codebook)
    output = quantizer(x)
    logits = []
    for token in range(8):
        codes, row = quantizer.codebook.detach().double()[token // 4], x[:, token].double()
        if l2_norm:
            codes, row = F.normalize(codes, dim=-1), F.normalize(row, dim=-1)
        logits.append(row @ codes.T)
        expected = (logits[-1] / 0.3).softmax(-1) @ codes
        torch.testing.assert_close(output.values[:, token].double(), expected, rtol=1e-5, atol=1e-5)
    p = (torch.cat(logits) / 0.5).softmax(-1)
    entropy = -(p * p.log()).sum(-1).mean() + (p.mean(0) * p.mean(0).log()).sum()
    assert output.loss.item() == pytest.approx(0.1 * entropy.item(), rel=1e-3)
    assert torch.equal(quantizer.encode(x), output.values) and output.indices is None


def test_soft_vq_gradient_reaches_codewords_by_the_mixture_alone():
    torch.manual_seed(0)
    quantizer, x = SoftVQ(3, 6, l2_norm=False, tau=0.5, entropy_weight=1.0), draw(2, 4, 3).requires_grad_()
    upstream = draw(2, 4, 3, seed=1)
    output = quantizer(x)
    codes = quantizer.codebook.detach()[0].clone().requires_grad_()
    rows = x.detach().clone().requires_grad_()
    weights = (rows @ codes.detach().T / 0.5).softmax(-1)
    expected = torch.autograd.grad((weights @ codes * upstream).sum(), (rows, codes))
    gradient = torch.autograd.grad((output.values * upstream).sum(), (x, quantizer.codebook), retain_graph=True)
    torch.testing.assert_close(gradient[0], expected[0])
    torch.testing.assert_close(gradient[1][0], expected[1])
    assert torch.autograd.grad(output.loss, quantizer.codebook, allow_unused=True)[0] is None


def test_soft_vq_refuses_tokens_it_cannot_split():
    with pytest.raises(ValueError, match="7 tokens.*num_codebooks=2"):
        SoftVQ(3, 6, 2)(draw(1, 7, 3))


def test_gaussian_kl_equals_torch_distributions():
    mean, logvar = draw(4, 5).double(), draw(4, 5, seed=1).double()
    expected = kl_divergence(Normal(mean, (0.5 * logvar).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(normal_kl(mean, logvar), expected)


def test_gaussian_sample_mode_and_loss():
    x, draws = draw(2, 4, 6), draw(2, 4, 3, seed=1)
    x[0, 0, 3:] = torch.tensor([-100.0, 100.0, 0.0])
    quantizer = GaussianBottleneck(6, kl_weight=0.5)
    mean, logvar = x[..., :3], x[..., 3:].clamp(-30, 20)
    output = quantizer(x, noise=ReplayNoise(normal=[draws]))
    torch.testing.assert_close(output.values, mean + logvar.exp().sqrt() * draws)
    kl = kl_divergence(Normal(mean.double(), (0.5 * logvar.double()).exp()), Normal(0.0, 1.0))
    assert output.loss.item() == pytest.approx(0.5 * kl.sum().item() / 2, rel=1e-5)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    assert quantizer(x, mask=mask).metrics["kl"].item() == pytest.approx(kl[mask].sum().item() / 2, rel=1e-5)
    assert torch.equal(quantizer.encode(x), mean)
    assert torch.equal(quantizer.eval()(x).values, mean)
    assert quantizer.token_dim == 3


def test_gaussian_sample_depends_on_the_seed_of_its_row_alone():
    x, quantizer = draw(3, 4, 6), GaussianBottleneck(6)
    batch = quantizer(x, noise=SeededNoise.from_seeds([1, 2, 3])).values
    alone = quantizer(x[1:2], noise=SeededNoise.from_seeds([2])).values
    assert torch.equal(batch[1:2], alone)


def test_gaussian_gradient_passes_the_sample():
    x, draws = draw(1, 2, 4).requires_grad_(), draw(1, 2, 2, seed=1)
    values = GaussianBottleneck(4)(x, noise=ReplayNoise(normal=[draws])).values
    (gradient,) = torch.autograd.grad(values.sum(), x)
    torch.testing.assert_close(gradient[..., :2], torch.ones(1, 2, 2))
    torch.testing.assert_close(gradient[..., 2:], 0.5 * (0.5 * x.detach()[..., 2:]).exp() * draws)
