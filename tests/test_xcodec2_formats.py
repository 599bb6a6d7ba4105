"""The three formats that X-Codec 2 is published in load the same weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from photophone.codecs.xcodec2.model import XCodec2, half_split

FOLDER = Path(__file__).parent / "goldens" / "data" / "xcodec2"


@pytest.fixture(scope="module")
def wheel():
    """(official state in the wheel's names with a small w2v-bert, config)."""
    told = json.loads((FOLDER / "config.json").read_text())
    decoder = told["codec_decoder"]
    config = {"width": told["D"], "hidden": 4 * told["D"], "depth": decoder["depth"], "num_heads": decoder["heads"],
              "head_width": decoder["pos_meb_dim"], "encoder_width": told["codec_encoder"]["ngf"],
              "ratios": told["codec_encoder"]["up_ratios"],
              "semantic": {"hidden_size": told["semantic_hidden_size"], "num_hidden_layers": 1,
                           "num_attention_heads": 1, "intermediate_size": 8}}
    own = "codec.semantic_encoder."
    semantic = {key.replace(own, "semantic_model."): value for key, value in XCodec2(**config).state_dict().items()
                if key.startswith(own)}
    return load_file(FOLDER / "weights.safetensors") | semantic, config


def lightning(state):
    """The same in the names of the training checkpoint, with parts of training and layers that are not reached."""
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {next((key.replace(old, new) for old, new in names.items() if old in key), key): value
             for key, value in state.items()}
    extra = {"fc_post_s.weight": torch.ones(2), "discriminator.a.weight": torch.ones(2),
             "semantic_model.encoder.layers.17.ffn1.bias": torch.ones(2)}
    return {"state_dict": state | extra, "epoch": 4}


def test_three_formats_hold_the_same_model(wheel, tmp_path):
    state, config = wheel
    model = XCodec2.from_original(state, **config)
    torch.save(lightning(state), tmp_path / "a.ckpt")
    ours = model.state_dict()
    transformers_names = {key.removeprefix("codec."): value for key, value in ours.items()}
    for other in (tmp_path / "a.ckpt", transformers_names):
        again = XCodec2.from_original(other, **config).state_dict()
        assert all(torch.equal(value, again[key]) for key, value in ours.items()) and len(again) == len(ours)


def test_a_checkpoint_without_w2v_bert_says_what_is_missing(wheel):
    state, config = wheel
    without = {key: value for key, value in state.items() if not key.startswith("semantic_model.")}
    with pytest.raises(ValueError, match=r"missing: codec\.semantic_encoder"):
        XCodec2.from_original(without, **config)
    semantic = {key.removeprefix("semantic_model."): value for key, value in state.items() if key not in without}
    XCodec2.from_original(without, w2v_bert=semantic, **config)


def test_half_split_keeps_each_rotary_pair():
    rows = torch.arange(16.0)[:, None]
    assert half_split(rows, 2)[:, 0].tolist() == [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15]
