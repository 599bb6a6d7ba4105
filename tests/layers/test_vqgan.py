"""The VQGAN encoder and decoder against plain formulas, and the names of official weights."""

import pytest
import torch
import torch.nn.functional as F

from photophone.layers.vqgan import (
    BlockStyle,
    Decoder,
    Downsample,
    Encoder,
    ResnetBlock,
    SpatialAttention,
    Upsample,
)
from photophone.layers.vqgan_keys import convert_vqgan_keys

SIZES = {"channels": 32, "multipliers": [1, 2, 1], "blocks": 2, "attention_levels": (1,)}


def x(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("downsample", ["conv", "pool"])
def test_encoder_and_decoder_halve_and_double_each_side(downsample):
    encoder = Encoder(out_channels=6, downsample=downsample, **SIZES)
    decoder = Decoder(in_channels=6, **SIZES)
    features = encoder(x(2, 3, 24, 16))
    assert features.shape == (2, 6, 6, 4)
    assert decoder(features).shape == (2, 3, 24, 16)


def test_attention_stands_where_it_is_asked_for():
    for network in (Encoder(out_channels=6, **SIZES), Decoder(in_channels=6, **SIZES)):
        assert isinstance(network.mid[1], SpatialAttention)
        attended = [any(isinstance(part, SpatialAttention) for part in level.attentions) for level in network.levels]
        assert attended == [False, True, False]


@pytest.mark.parametrize("drops", [False, True])
@pytest.mark.parametrize("outputs", [32, 64])
def test_residual_block_equals_its_formula(drops, outputs):
    block = ResnetBlock(32, outputs, BlockStyle(norm_groups=8, norm_eps=1e-3, residual_drops_input=drops))
    images = x(2, 32, 5, 7)
    h = block.conv1(F.silu(F.group_norm(images, 8, block.norm1.weight, block.norm1.bias, 1e-3)))
    h = block.conv2(F.silu(F.group_norm(h, 8, block.norm2.weight, block.norm2.bias, 1e-3)))
    source = h if drops and outputs != 32 else images
    expected = h + (source if outputs == 32 else F.conv2d(source, block.shortcut.weight, block.shortcut.bias))
    torch.testing.assert_close(block(images), expected)


def test_spatial_attention_equals_softmax_of_scaled_products():
    layer = SpatialAttention(32, BlockStyle(norm_groups=4))
    images = x(2, 32, 3, 5)
    q, k, v = layer.qkv(layer.norm(images)).flatten(2).chunk(3, dim=1)  # (B, C, HW) each
    weights = torch.softmax(torch.einsum("bcn,bcm->bnm", q, k) * 32**-0.5, dim=-1)
    h = torch.einsum("bnm,bcm->bcn", weights, v).view(2, 32, 3, 5)
    torch.testing.assert_close(layer(images), images + layer.proj_out(h))


def test_downsample_pads_right_and_bottom_and_upsample_repeats():
    down, up = Downsample(1), Upsample(1)
    for layer in (down, up):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    down.weight.data[0, 0, 0, 0] = 1.0  # the top left of each window
    up.weight.data[0, 0, 1, 1] = 1.0
    images = x(1, 1, 4, 6)
    torch.testing.assert_close(down(images), images[..., ::2, ::2])
    torch.testing.assert_close(up(images), images.repeat_interleave(2, 2).repeat_interleave(2, 3))


@pytest.mark.parametrize("settings,words", [
    ({"channels": 33}, "33 channels"), ({"multipliers": []}, "at least one level"), ({"blocks": 0}, "0 blocks"),
    ({"attention_levels": (3,)}, r"\[3\]"), ({"mid": ("block", "conv")}, "conv"), ({"downsample": "max"}, "'max'"),
])
def test_settings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Encoder(out_channels=6, **{**SIZES, **settings})


def test_official_layouts_become_ours():
    names = {
        "encoder.down.0.block.1.nin_shortcut.weight": "encoder.levels.0.blocks.1.shortcut.weight",
        "encoder.down.2.attn.0.proj_out.bias": "encoder.levels.2.attentions.0.proj_out.bias",
        "encoder.down.0.downsample.conv.weight": "encoder.levels.0.resample.weight",
        "encoder.mid.block_2.norm1.weight": "encoder.mid.2.norm1.weight",
        "decoder.up.4.block.0.conv1.weight": "decoder.levels.0.blocks.0.conv1.weight",
        "decoder.up.0.block.0.conv1.weight": "decoder.levels.4.blocks.0.conv1.weight",
        "pixel_decoder.up.1.upsample_conv.bias": "pixel_decoder.levels.0.resample.bias",
        "pixel_decoder.mid.1.conv1.weight": "pixel_decoder.mid.1.conv1.weight",
        "vq.decoder.conv_blocks.0.res.2.conv2.bias": "vq.decoder.levels.0.blocks.2.conv2.bias",
        "vq.decoder.conv_blocks.0.upsample.conv.bias": "vq.decoder.levels.0.resample.bias",
        "vit.blocks.0.attn.qkv.weight": "vit.blocks.0.attn.qkv.weight",
    }
    assert list(convert_vqgan_keys(dict.fromkeys(names, torch.zeros(1)))) == list(names.values())


def test_queries_keys_and_values_are_joined_in_this_order():
    state = {f"mid.attn_1.{name}.weight": torch.full((1, 1), value) for name, value in zip("vkq", (3.0, 2.0, 1.0))}
    assert convert_vqgan_keys(state)["mid.1.qkv.weight"].flatten().tolist() == [1.0, 2.0, 3.0]
    alone = {"attn.q.weight": torch.ones(1)}
    assert convert_vqgan_keys(alone) == alone
