"""Multi-scale residual quantization against plain loops and closed forms."""

import pytest
import torch
import torch.nn.functional as F

from photophone.quantizers import VectorQuantizer
from photophone.quantizers.multi_scale import MultiScaleVQ, phi_index

SCALES = (1, 2, 3, 5)


def build(**settings):
    torch.manual_seed(0)
    quantizer = MultiScaleVQ(6, 16, settings.pop("scales", SCALES), **settings)
    return quantizer


def tokens(rows=2, cells=25, dim=6):
    return torch.randn(rows, cells, dim, generator=torch.Generator().manual_seed(1))


def test_published_convolutions_serve_the_published_scales():
    assert [phi_index(scale, 10, 4) for scale in range(10)] == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    assert [phi_index(scale, 14, 4) for scale in range(14)] == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3]
    assert [phi_index(scale, 5, 5) for scale in range(5)] == [0, 1, 2, 3, 4]
    assert {phi_index(scale, 5, 1) for scale in range(5)} == {0}


@pytest.mark.parametrize("cosine", [False, True])
def test_each_scale_codes_what_the_coarser_ones_left(cosine):
    quantizer = build(cosine_search=cosine)
    x = tokens()
    grid = x.transpose(1, 2).reshape(2, 6, 5, 5)
    rest, total = grid.clone(), torch.zeros_like(grid)
    maps, totals = quantizer.encode_scales(grid)
    codebook = F.normalize(quantizer.codebook, dim=-1) if cosine else quantizer.codebook
    for scale, side in enumerate(SCALES):
        rows = F.adaptive_avg_pool2d(rest, side).flatten(2).transpose(1, 2)  # area interpolation is this average
        distances = -(rows @ codebook.T) if cosine else torch.cdist(rows, codebook)
        assert torch.equal(maps[scale], distances.argmin(-1))
        codes = quantizer.codebook[maps[scale]].transpose(1, 2).reshape(2, 6, side, side)
        if side != 5:
            codes = F.interpolate(codes, size=(5, 5), mode="bicubic")
        phi = quantizer.phis[phi_index(scale, 4, 4)]
        added = 0.5 * codes + 0.5 * F.conv2d(codes, phi.weight, phi.bias, padding=1)
        rest, total = rest - added, total + added
        torch.testing.assert_close(totals[scale], total)
    assert torch.equal(quantizer.encode(x), torch.cat(maps, dim=1))
    decoded = quantizer.decode(quantizer.encode(x))
    torch.testing.assert_close(decoded, total.flatten(2).transpose(1, 2))
    torch.testing.assert_close(quantizer(x).values, decoded)


def test_one_scale_without_convolutions_is_vector_quantization():
    quantizer = build(scales=(5,), phi_ratio=0.0)
    plain = VectorQuantizer(6, 16)
    plain.codebook.data.copy_(quantizer.codebook)
    ours, theirs = quantizer.eval()(tokens()), plain.eval()(tokens())
    assert torch.equal(ours.indices, theirs.indices)
    torch.testing.assert_close(ours.values, theirs.values)
    torch.testing.assert_close(ours.loss, theirs.loss)


def test_the_loss_is_the_mean_over_scales_of_the_values_so_far():
    quantizer, x = build(beta=0.3), tokens()
    _, totals = quantizer.encode_scales(x.transpose(1, 2).reshape(2, 6, 5, 5))
    expected = sum(1.3 * (total.flatten(2).transpose(1, 2) - x).square().mean() for total in totals) / 4
    torch.testing.assert_close(quantizer.eval()(x).loss, expected)


def test_gradients_reach_the_input_the_codebook_and_all_convolutions():
    quantizer, x = build(), tokens().requires_grad_()
    output = quantizer(x)
    (gradient,) = torch.autograd.grad(output.values.sum(), x, retain_graph=True)
    assert torch.equal(gradient, torch.ones_like(x))
    output.loss.backward()
    for parameter in quantizer.parameters():
        assert parameter.grad.abs().sum() > 0


def test_generator_inputs_are_the_values_so_far_at_the_next_size():
    quantizer = build()
    maps = quantizer.split(quantizer.encode(tokens()))
    inputs = quantizer.generator_inputs(maps)
    assert inputs.shape == (2, quantizer.num_indices - 1, 6)
    for scale, part in enumerate(inputs.split([side**2 for side in SCALES[1:]], dim=1)):
        total = quantizer.decode_scales(maps[: scale + 1])[-1]
        expected = F.adaptive_avg_pool2d(total, SCALES[scale + 1]).flatten(2).transpose(1, 2)
        torch.testing.assert_close(part, expected)


def test_hits_are_counted_in_training_only():
    quantizer = build()
    quantizer.eval()(tokens())
    assert not quantizer.code_hits.any()
    quantizer.train()
    output = quantizer(tokens())
    counts = torch.stack([torch.bincount(part.flatten(), minlength=16) for part in quantizer.split(output.indices)])
    assert torch.equal(quantizer.code_hits, counts.float())
    threshold = 0.08 * 50 / 16
    torch.testing.assert_close(quantizer.used_shares(50), (counts >= threshold).float().mean(1))
    quantizer(tokens() * 0)
    torch.testing.assert_close(quantizer.code_hits.sum(1), torch.tensor([2.0, 8.0, 18.0, 50.0]))


def test_half_precision_input_is_quantized_in_float32():
    quantizer, x = build(), tokens().bfloat16()
    output = quantizer(x)
    assert output.values.dtype == torch.bfloat16
    assert torch.equal(output.indices, quantizer.encode(x.float()))


@pytest.mark.parametrize("settings,words", [
    ({"scales": ()}, "rising"), ({"scales": (2, 2)}, "rising"), ({"scales": (0, 2)}, "rising"),
    ({"num_phis": -1}, "-1"), ({"phi_ratio": -0.5}, "-0.5"),
])
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        build(**settings)


def test_shapes_that_do_not_fit_are_refused():
    quantizer = build()
    with pytest.raises(ValueError, match="5x5"):
        quantizer.encode(tokens(cells=24))
    with pytest.raises(ValueError, match="39 indices"):
        quantizer.decode(torch.zeros(2, 38, dtype=torch.long))
    with pytest.raises(ValueError, match="mask"):
        quantizer(tokens(), torch.ones(2, 25, dtype=torch.bool))
