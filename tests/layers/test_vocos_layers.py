"""ConvNeXt blocks, the attention net and the Vocos backbone: closed forms, masks, causality, chunks."""

import pytest
import torch
from tiny import shake
from torch import nn
from torch.nn import functional

from photophone.layers.convnext import AdaptiveLayerNorm, ConvNeXtBlock
from photophone.layers.lengths import length_mask
from photophone.layers.pos_net import MaskedGroupNorm, PosNet
from photophone.layers.streaming import streaming
from photophone.layers.vocos_backbone import VocosBackbone


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def build(make, **options):
    torch.manual_seed(0)
    return shake(make(**options), scale=0.3).double().eval()


def test_a_block_is_its_formula():
    block = build(lambda: ConvNeXtBlock(6, 10, 5, layer_scale=0.5))
    x = randn(2, 6, 9)
    y = functional.conv1d(x, block.dwconv.weight, block.dwconv.bias, padding=2, groups=6).transpose(1, 2)
    y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
    y = y * block.norm.weight + block.norm.bias
    y = y @ block.pwconv1.weight.T + block.pwconv1.bias
    y = 0.5 * y * (1 + torch.erf(y / 2 ** 0.5))
    y = (y @ block.pwconv2.weight.T + block.pwconv2.bias) * block.gamma
    torch.testing.assert_close(block(x), x + y.transpose(1, 2))
    assert ConvNeXtBlock(6, 10).gamma is None


@pytest.mark.parametrize("given, condition", [({"num_conditions": 3}, torch.tensor([2, 0])),
                                              ({"condition_dim": 4}, randn(2, 4))])
def test_the_adaptive_norm_follows_its_condition(given, condition):
    plain = AdaptiveLayerNorm(5, **given).double()
    x = randn(2, 7, 5)
    normal = functional.layer_norm(x, (5,), eps=1e-6)
    torch.testing.assert_close(plain(x, condition), normal)  # before training
    norm = build(lambda: AdaptiveLayerNorm(5, **given))
    for row in range(2):
        scale, shift = norm.scale(condition[row]), norm.shift(condition[row])
        torch.testing.assert_close(norm(x, condition)[row], normal[row] * scale + shift)
    with pytest.raises(ValueError, match="give one of"):
        AdaptiveLayerNorm(5)


def test_masked_group_norm_is_torchs_on_each_row():
    norm, plain = build(lambda: MaskedGroupNorm(3, 6)), nn.GroupNorm(3, 6).double()
    plain.load_state_dict(norm.state_dict())
    x, lengths = randn(3, 6, 9), torch.tensor([9, 1, 6])
    made = norm(x, length_mask(lengths, 9))
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(made[row:row + 1, :, :length], plain(x[row:row + 1, :, :length]), atol=1e-5,
                                   rtol=1e-5)


BACKBONES = [{}, {"attention": True}, {"num_conditions": 3}, {"condition_dim": 4}]


def backbone(**options):
    return build(lambda: VocosBackbone(5, 32, 12, 2, **options))


def condition_of(options):
    if "num_conditions" in options:
        return torch.tensor([2, 0, 1])
    return randn(3, 4) if "condition_dim" in options else None


@pytest.mark.parametrize("options", BACKBONES)
def test_rows_that_end_early_come_out_as_alone(options):
    model, x, lengths, condition = backbone(**options), randn(3, 5, 11), torch.tensor([11, 4, 7]), condition_of(options)
    made = model(x, condition, length_mask(lengths, 11))
    assert made.shape == (3, 11, 32)
    for row, length in enumerate(lengths.tolist()):
        own = None if condition is None else condition[row:row + 1]
        torch.testing.assert_close(made[row:row + 1, :length], model(x[row:row + 1, :, :length], own), atol=1e-5,
                                   rtol=1e-5)


def test_one_condition_serves_all_rows_and_a_wrong_number_is_refused():
    model, x = backbone(num_conditions=3), randn(3, 5, 6)
    torch.testing.assert_close(model(x, torch.tensor([2])), model(x, torch.tensor([2, 2, 2])))
    with pytest.raises(ValueError, match="needs a condition"):
        model(x)
    with pytest.raises(ValueError, match="takes no condition"):
        backbone()(x, torch.tensor([1]))
    with pytest.raises(ValueError, match="cannot be causal"):
        VocosBackbone(5, 32, 12, 2, causal=True, attention=True)
    with pytest.raises(ValueError, match="odd, got 6"):
        VocosBackbone(5, 32, 12, 2, kernel_size=6)


@pytest.mark.parametrize("options", [{}, {"num_conditions": 3}])
def test_the_causal_backbone_sees_no_later_frame_and_streams(options):
    model, x, condition = backbone(causal=True, **options), randn(3, 5, 11), condition_of(options)
    whole, other = model(x, condition), x.clone()
    other[..., 6:] = 9.0
    torch.testing.assert_close(model(other, condition)[:, :6], whole[:, :6])
    assert not torch.allclose(model(other, condition)[:, 6:], whole[:, 6:])
    with streaming(model, 3):
        parts = [model(part, condition) for part in x.split([1, 4, 2, 4], dim=-1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


def test_the_attention_net_sees_every_frame():
    net, x = build(lambda: PosNet(32)), randn(1, 32, 20)
    other = x.clone()
    other[..., -1] += 1
    assert (net(other) - net(x))[..., 0].abs().max() > 1e-9
