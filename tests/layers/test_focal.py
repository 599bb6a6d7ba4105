"""Focal blocks with norms behind, and FocalCodec configs whose stacks differ."""

import json
from pathlib import Path

import pytest
import torch
from tiny import shake

from photophone.codecs.focalcodec.focal import FocalBlock
from photophone.codecs.focalcodec.model import FocalCodec

CONFIG = Path(__file__).parents[1] / "goldens" / "data" / "focalcodec" / "config.json"


@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_norms_behind_the_branches(causal):
    """As the official block: x + gamma norm(modulation(x)), then x + gamma norm(feed_forward(x))."""
    torch.manual_seed(0)
    block = shake(FocalBlock(8, causal=causal, post_norm=True, layer_scale=0.5, window=3, levels=2, factor=2, span=6))
    x = torch.randn(2, 11, 8)
    y = x + block.modulation_gamma * block.modulation_norm(block.modulation(x))
    y = y + block.feed_forward_gamma * block.feed_forward_norm(block.feed_forward(y))
    torch.testing.assert_close(block(x), y)
    assert block.modulation.norm is not None
    before = shake(FocalBlock(8, causal=causal, window=3, levels=2, factor=2, span=6))
    y = x + before.modulation(before.modulation_norm(x))
    torch.testing.assert_close(before(x), y + before.feed_forward(before.feed_forward_norm(y)))
    assert before.modulation.norm is None


def test_the_decompressor_may_differ_from_the_compressor():
    official = json.loads(CONFIG.read_text())["causal"]
    assert FocalCodec.convert_config(official)["decompressor_block"] is None
    official["compressor_config"] |= {"use_layerscale": True, "normalize_modulator": True}
    official["decompressor_config"] |= {"focal_window": 9, "focal_level": 1, "lookahead_size": 1}
    config = FocalCodec.convert_config(official)
    assert config["decompressor_block"] == {"window": 9, "levels": 1, "layer_scale": None, "normalize": False,
                                            "chunk": 2}
    assert (config["focal_window"], config["layer_scale"], config["normalize_modulator"]) == (14, 1e-4, True)
    model = FocalCodec(**config)
    block = model.decompressor.layers[0].focal_block
    assert not block.scaled and block.modulation.layers[0][0].kernel_size == (9,) and block.modulation.levels == 1
    assert model.compressor.layers[0].focal_block.scaled and model.stream_chunk == 4
