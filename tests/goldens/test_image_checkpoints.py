"""Official files of image systems as they are published: wrapped, with more networks, or with less."""

from pathlib import Path

import alit
import elm
import hart
import maskgen
import pytest
import tatitok
import torch
from golden import Golden
from safetensors.torch import load_file

from photophone.generators.maskgen.model import MaskGenVQ
from photophone.tokenizers.alit.model import ALIT
from photophone.tokenizers.elm_bae.model import BinaryAutoencoder
from photophone.tokenizers.titok.text_aware import TATiTok
from photophone.tokenizers.var_vq.hybrid import HARTTokenizer

DATA = Path(__file__).parent / "data"
EXTRA = torch.ones(2, 2)


def config_of(model):
    return {key: value for key, value in model.config.items() if not key.startswith("_")}


def same_weights(model, other):
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items())


def test_elms_autoencoder_lies_beside_its_discriminator():
    golden = Golden(DATA / "elm")
    config, state = elm.bae_config(golden.settings["bae"]), load_file(DATA / "elm" / "bae.safetensors")
    whole = {**{f"ae.{key}": value for key, value in state.items()}, "disc.main.0.weight": EXTRA}
    same_weights(BinaryAutoencoder.from_original(state, **config), BinaryAutoencoder.from_original(whole, **config))


@pytest.mark.parametrize("missing", ["lm_head.weight", "embeddings.weight"])
def test_maskgens_tied_table_lies_under_either_name(missing):
    golden = Golden(DATA / "maskgen")
    model = maskgen.load_vq(golden)
    state = load_file(DATA / "maskgen" / "maskgen_vq.safetensors")
    state.pop(missing)
    same_weights(MaskGenVQ.from_original(state, **config_of(model)), model)


def test_maskgen_has_a_layer_of_logits_of_its_own_where_it_is_not_tied():
    golden = Golden(DATA / "maskgen")
    config = {**config_of(maskgen.load_vq(golden)), "tied": False}
    state = load_file(DATA / "maskgen" / "maskgen_vq.safetensors")
    codes, width = config["num_codes"], config["width"]
    state |= {"lm_head.weight": torch.randn(codes, width), "lm_head.bias": torch.randn(codes)}
    model = MaskGenVQ.from_original(state, **config)
    assert torch.equal(model.to_logits.weight, state["lm_head.weight"])
    condition, ids = model.example_condition(2), golden["in_masked_tokens"]
    logits = model.logits(ids, condition.states, model.pooled(condition.pooled, 6.5))
    assert logits.shape == (2, config["num_tokens"], codes)


@pytest.mark.parametrize("clustering", [False, True])
def test_tatitoks_use_of_codes_is_read_where_it_is_trained_further(clustering):
    config = {**tatitok.tokenizer_config(Golden(DATA / "tatitok"), "tatitok_vq"), "clustering": clustering}
    state = load_file(DATA / "tatitok" / "tatitok_vq.safetensors")
    model = TATiTok.from_original(state, **config)
    assert hasattr(model.bottleneck, "usage") == clustering
    state.pop("quantize.embed_prob")
    if clustering:
        with pytest.raises(ValueError, match="1 missing: bottleneck.usage"):
            TATiTok.from_original(state, **config)
    else:
        same_weights(TATiTok.from_original(state, **config), model)


def test_harts_tokenizer_lies_beside_its_discriminator():
    config = hart.tokenizer_config(Golden(DATA / "hart").settings)
    state = load_file(DATA / "hart" / "tokenizer.safetensors")
    whole = {**{f"vae.{key}": value for key, value in state.items()}, "disc.main.0.weight": EXTRA}
    model = HARTTokenizer.from_original(whole, **config)
    same_weights(model, HARTTokenizer.from_original(state, **config))


def test_alits_file_holds_its_losses_too():
    model = alit.load(Golden(DATA / "alit"))
    state = {**load_file(DATA / "alit" / "weights.safetensors"), "gan_losses.0.discriminator.weight": EXTRA}
    again = ALIT.from_original({"ema": state, "epoch": 3}, **config_of(model))
    same_weights(again, model)
