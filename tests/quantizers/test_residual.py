"""Residual VQ against a greedy float64 loop and against the DAC of transformers."""

import pytest
import torch

from photophone.core.noise import ReplayNoise
from photophone.quantizers import ResidualVQ


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def build(**config):
    torch.manual_seed(1)
    quantizer = ResidualVQ(6, 8, 3, **config)
    for number, stage in enumerate(quantizer.stages):
        torch.nn.init.normal_(stage.codebook, std=0.7 ** number)
    return quantizer


def greedy(x, codebooks):
    """Indices (B, Q, N), sum of codes and mean square of each residual after its code, in float64."""
    residual, total, indices, errors = x.double(), 0, [], []
    for codebook in codebooks:
        codes = codebook.detach().double()
        index = (residual[:, :, None] - codes).square().sum(-1).argmin(-1)
        residual, total = residual - codes[index], total + codes[index]
        indices.append(index)
        errors.append(residual.square().mean())
    return torch.stack(indices, 1), total, errors


def test_equals_a_greedy_loop():
    quantizer, x = build(beta=0.3), draw(2, 9, 6)
    indices, total, errors = greedy(x, [stage.codebook for stage in quantizer.stages])
    output = quantizer(x)
    assert torch.equal(output.indices, indices)
    torch.testing.assert_close(output.values.double(), total, rtol=0, atol=1e-5)
    torch.testing.assert_close(output.loss.double(), 1.3 * sum(errors))


def test_shared_projection():
    quantizer, x = build(codebook_dim=4, projection="shared"), draw(2, 9, 6)
    into, out = quantizer.project_in[0].double(), quantizer.project_out[0].double()
    indices, total, _ = greedy(into(x.double()), [stage.codebook for stage in quantizer.stages])
    output = quantizer(x)
    assert torch.equal(output.indices, indices)
    torch.testing.assert_close(output.values.double(), out(total), rtol=0, atol=1e-5)


def test_straight_through_gradient_is_the_identity_and_every_stage_commits():
    quantizer, x = build(beta=0.5), draw(2, 9, 6).requires_grad_()
    output, upstream = quantizer(x), draw(2, 9, 6, seed=2)
    (gradient,) = torch.autograd.grad((output.values * upstream).sum(), x, retain_graph=True)
    assert torch.equal(gradient, upstream)
    (gradient,) = torch.autograd.grad(output.loss, x)
    codes, expected = 0, 0
    for number, stage in enumerate(quantizer.stages):
        codes = codes + stage.codebook[output.indices[:, number]].detach()
        expected = expected + 0.5 * 2 * (x.detach() - codes) / x.numel()
    torch.testing.assert_close(gradient, expected)


def test_the_first_codebooks_decode_alone():
    quantizer, x = build().eval(), draw(2, 9, 6)
    tokens = quantizer.encode(x)
    for books in (1, 2, 3):
        _, total, _ = greedy(x, [stage.codebook for stage in quantizer.stages[:books]])
        torch.testing.assert_close(quantizer.decode(tokens[:, :books]).double(), total, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"\(B, 1\.\.3, N\), got .*\(2, 4, 9\)"):
        quantizer.decode(torch.zeros(2, 4, 9, dtype=torch.long))


def test_dropout_keeps_the_drawn_number_of_stages():
    quantizer, x = build(quantizer_dropout=0.5), draw(4, 9, 6)
    draws = torch.tensor([[0.4, 0.0], [0.4, 0.34], [0.4, 0.99], [0.6, 0.0]])  # keep 1, 2, 3, and undropped: 3
    output = quantizer(x, noise=ReplayNoise(uniform=[draws]))
    loss = 0
    for row, keep in enumerate((1, 2, 3, 3)):
        indices, total, _ = greedy(x[row:row + 1], [stage.codebook for stage in quantizer.stages[:keep]])
        assert torch.equal(output.indices[row:row + 1, :keep], indices)
        torch.testing.assert_close(output.values[row:row + 1].double(), total, rtol=0, atol=1e-5)
    for stage, rows in enumerate(([0, 1, 2, 3], [1, 2, 3], [2, 3])):  # each stage: the mean over the rows it serves
        loss = loss + 1.25 * greedy(x[rows], [s.codebook for s in quantizer.stages])[2][stage]
    torch.testing.assert_close(output.loss.double(), loss)


def test_stage_projections_equal_dac_of_transformers():
    dac = pytest.importorskip("transformers.models.dac.modeling_dac")
    from transformers import DacConfig

    config = DacConfig(encoder_hidden_size=3, downsampling_ratios=[2], upsampling_ratios=[2], n_codebooks=3,
                       codebook_size=8, codebook_dim=2, quantizer_dropout=0.0)
    torch.manual_seed(0)
    official = dac.DacResidualVectorQuantizer(config).eval()
    quantizer = ResidualVQ(6, 8, 3, codebook_dim=2, projection="stage", cosine_search=True)
    with torch.no_grad():
        for number, stage in enumerate(official.quantizers):
            quantizer.stages[number].codebook.copy_(stage.codebook.weight)
            for ours, theirs in ((quantizer.project_in, stage.in_proj), (quantizer.project_out, stage.out_proj)):
                ours[number].weight.copy_(theirs.weight[:, :, 0])
                ours[number].bias.copy_(theirs.bias)
    x = draw(2, 9, 6).requires_grad_()
    values, codes, _, commitment, codebook_loss = official(x.transpose(1, 2))
    output = quantizer(x)
    assert torch.equal(output.indices, codes)
    torch.testing.assert_close(output.values.transpose(1, 2), values, rtol=0, atol=1e-5)
    torch.testing.assert_close(output.loss, (0.25 * commitment + codebook_loss).mean())
    upstream = draw(2, 9, 6, seed=2)
    (ours,) = torch.autograd.grad((output.values * upstream).sum(), x)
    (theirs,) = torch.autograd.grad((values.transpose(1, 2) * upstream).sum(), x)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
