"""Official checkpoints: what is read, what is refused, and that nothing in a file runs."""

import argparse
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from photophone.loading.checkpoints import read_state, rename_keys
from photophone.loading.registry import load_original
from photophone.tokenizers.llamagen_vq.model import LlamaGenVQ
from photophone.tokenizers.maskgit_vqgan.model import MaskGITVQGAN

WEIGHTS = Path(__file__).parent / "goldens" / "data" / "maskgit_vqgan" / "weights.safetensors"
CONFIG = {"image_size": 14, "channels": 32, "multipliers": [2, 1], "blocks": 1, "token_width": 12, "num_codes": 40}


class Hostile:
    """An object whose pickle makes a folder when it is loaded."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def official():
    return load_file(WEIGHTS)


def test_a_torch_file_a_safetensors_file_and_a_table_give_the_same_model(tmp_path):
    torch.save(official(), tmp_path / "weights.pt")
    models = [MaskGITVQGAN.from_original(source, **CONFIG) for source in (WEIGHTS, str(tmp_path / "weights.pt"),
                                                                          official())]
    for model in models:
        assert not model.training
        for key, value in models[0].state_dict().items():
            assert torch.equal(model.state_dict()[key], value), key
    assert torch.equal(models[0].bottleneck.codebook, official()["quantize.embedding.weight"])


def test_the_registry_names_the_config(tmp_path):
    model = load_original("maskgit-vqgan-f16", WEIGHTS, **CONFIG)
    assert model.codebook_size == 40 and model.config.residual_drops_input
    with pytest.raises(ValueError, match="maskgit-vqgan-f16"):
        load_original("maskgit-vqgan-f61", WEIGHTS)


@pytest.mark.parametrize("damage,words", [
    (lambda state: state.pop("encoder.mid.0.conv1.weight"), ["1 missing", "encoder.mid.0.conv1.weight (32, 32, 3, 3)"]),
    (lambda state: state.update(extra=torch.zeros(2)), ["1 unexpected", "extra (2,)"]),
    (lambda state: state.update({"decoder.conv_in.bias": torch.zeros(7)}),
     ["1 of another shape", "decoder.conv_in.bias (7,)", "(32,)"]),
    (lambda state: state["decoder.conv_in.bias"].fill_(float("nan")), ["NaN", "decoder.conv_in.bias"]),
    (lambda state: state.clear(), ["nothing"]),
    (lambda state: (state.clear(), state.update(epoch=3)), ["epoch"]),
], ids=["partial", "more", "shape", "nan", "empty", "not tensors"])
def test_a_state_that_does_not_fit_is_refused(damage, words):
    state = official()
    damage(state)
    with pytest.raises(ValueError) as error:
        MaskGITVQGAN.from_original(state, **CONFIG)
    assert all(word in str(error.value) for word in words), error.value


def test_the_checkpoint_of_another_family_is_refused_and_names_the_first_keys():
    with pytest.raises(ValueError, match="does not fit LlamaGenVQ.*missing: .*; .*unexpected"):
        LlamaGenVQ.from_original(WEIGHTS, image_size=16, channels=32, multipliers=[1, 1], blocks=1, z_channels=32)


def test_dropped_keys_are_dropped_and_no_others():
    config = {"image_size": 16, "channels": 32, "multipliers": [1], "blocks": 1, "z_channels": 32, "num_codes": 8}
    model = LlamaGenVQ(**config)
    state = {**model.state_dict(), "quantize.codebook_used": torch.zeros(65536)}
    assert torch.equal(LlamaGenVQ.from_original({"model": state}, **config).bottleneck.codebook,
                       model.bottleneck.codebook)
    with pytest.raises(ValueError, match="quantize.codebook_usage"):
        LlamaGenVQ.from_original({**state, "quantize.codebook_usage": torch.zeros(1)}, **config)


def test_containers_are_tried_in_order(tmp_path):
    one, two = {"weight": torch.ones(1)}, {"weight": torch.zeros(1)}
    content = {"model": one, "model_ema": two, "trainer": {"unitok": one}, "epoch": 3,
               "args": argparse.Namespace(lr=1e-4)}
    torch.save(content, tmp_path / "weights.pth")
    for containers, expected in ((("model_ema", "model"), two), (("ema", "model"), one), (("trainer.unitok",), one)):
        assert torch.equal(read_state(tmp_path / "weights.pth", containers)["weight"], expected["weight"])
    assert read_state(two, ("model",)) == two
    with pytest.raises(ValueError, match="state_dict.*model"):
        read_state(content, ("state_dict",))


@pytest.mark.parametrize("name", ["weights.pt", "weights.ckpt", "weights.safetensors", "weights.bin"])
def test_a_hostile_pickle_is_refused_and_does_not_run(name, tmp_path):
    marker = tmp_path / "code-ran"
    file = tmp_path / name
    if name == "weights.bin":
        torch.save({"model": official(), "args": Hostile(marker)}, file)
    else:
        file.write_bytes(pickle.dumps({"weight": Hostile(marker)}, protocol=2))
    with pytest.raises(ValueError, match="refused"):
        MaskGITVQGAN.from_original(file, **CONFIG)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 cut off"])
@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_damaged_files_are_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="refused"):
        read_state(tmp_path / name)
    with pytest.raises(ValueError, match="no such"):
        read_state(tmp_path / f"missing-{name}")


def test_a_file_of_one_tensor_is_refused(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="holds a Tensor"):
        read_state(tmp_path / "weights.pt")


def test_from_original_leaves_the_given_table_alone():
    state = official()
    keys = list(state)
    MaskGITVQGAN.from_original(state, **CONFIG)
    assert list(state) == keys


def test_renaming_applies_all_rules_and_refuses_collisions(tmp_path):
    state = {"a.0.w": torch.zeros(1), "b.w": torch.ones(1)}
    assert list(rename_keys(state, [(r"^a\.(\d)", r"c.\1"), (r"\.w$", ".weight")])) == ["c.0.weight", "b.weight"]
    with pytest.raises(ValueError, match="became 'x'"):
        rename_keys(state, [(r".*\.w", "x")])


def test_half_precision_checkpoints_are_read_into_float32(tmp_path):
    save_file({key: value.half() for key, value in official().items()}, tmp_path / "half.safetensors")
    model = MaskGITVQGAN.from_original(tmp_path / "half.safetensors", **CONFIG)
    assert model.dtype == torch.float32
    torch.testing.assert_close(model.bottleneck.codebook, official()["quantize.embedding.weight"], rtol=1e-3, atol=1e-3)
