"""Weights as training scripts leave them: every wrapping, for every family that loads official checkpoints."""

import json
import logging

import pytest
import torch
from official import official_models
from safetensors.torch import save_file, save_model
from wrappings import AVERAGES, WRAPPINGS, folded_norms, new_norms, old_norms, within

from photophone import create_model
from photophone.loading.checkpoints import OriginalCheckpoint, read_state
from photophone.loading.files import Content
from photophone.loading.registry import find
from photophone.tokenizers.maskgit_vqgan.model import MaskGITVQGAN

NAMES = sorted(official_models())
CONFIG = {"image_size": 14, "channels": 32, "multipliers": [2, 1], "blocks": 1, "token_width": 12, "num_codes": 40}


@pytest.fixture(scope="module")
def official():
    """(class, state, config, second file) of the smallest model."""
    return official_models()["maskgit_vqgan MaskGITVQGAN"]


def load(name, content, **options):
    cls, _, config, beside = official_models()[name]
    return cls.load_content(None, Content(content), options.get("take"), config, beside)


def plain(name):
    return load(name, official_models()[name][1]).state_dict()


def check_equal(model, expected, **tolerance):
    own = model.state_dict()
    assert list(own) == list(expected)
    for key, value in expected.items():
        torch.testing.assert_close(own[key], value, **{"rtol": 0, "atol": 0, **tolerance}, msg=key)


ALL = ("maskgit_vqgan MaskGITVQGAN", "llamagen LlamaGenGPT", "wavtokenizer WavTokenizer", "voxcpm VoxCPM")
"""Families that are tried with every wrapping; each other is tried with every fifth, another start for each."""


@pytest.mark.parametrize("name", NAMES)
def test_every_wrapping_gives_the_weights_of_the_plain_file(name):
    state, expected = official_models()[name][1], plain(name)
    words = list(WRAPPINGS) if name in ALL else list(WRAPPINGS)[NAMES.index(name) % 5::5]
    for word in words:
        model = load(name, WRAPPINGS[word](state))
        check_equal(model, expected)
        assert model.load_report.lines, word


@pytest.mark.parametrize("name", NAMES)
def test_averages_are_taken_said_and_selectable(name):
    state, expected = official_models()[name][1], plain(name)
    raw = {key: value + 1 if value.is_floating_point() else value for key, value in state.items()}
    words = list(AVERAGES) if name in ALL else list(AVERAGES)[NAMES.index(name) % 5:][:1]
    for content in (AVERAGES[word](raw, state) for word in words):
        model = load(name, content)
        check_equal(model, expected)
        assert "averaged weights" in " ".join(model.load_report.lines) and model.load_report.others
        other = load(name, content, take="raw")
        assert any(not torch.equal(value, expected[key]) for key, value in other.state_dict().items())
        assert not other.load_report.averaged


NORMED = [name for name in NAMES if any("weight_g" in key or "original0" in key for key in official_models()[name][1])]


@pytest.mark.parametrize("name", NORMED)
def test_weight_norms_have_any_name_or_are_folded(name):
    state, expected = official_models()[name][1], plain(name)
    check_equal(load(name, old_norms(state)), expected)
    check_equal(load(name, new_norms(state)), expected)
    model = load(name, folded_norms(state))
    torch.testing.assert_close(folded_norms(model.state_dict()), folded_norms(expected), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["dac-16khz", "encodec-24khz-6kbps"])
def test_codecs_of_transformers_read_weight_norms_of_any_name(name):
    entry = find(name)
    model = create_model(name, **entry.tiny)
    state = {key.removeprefix("model."): value for key, value in model.state_dict().items()}
    settings = {**entry.config, **entry.tiny}
    cls = type(model)
    for form in (state, old_norms(state), new_norms(state), folded_norms(state), within("module.", old_norms(state))):
        loaded = cls.from_original(form, **settings)
        torch.testing.assert_close(folded_norms(loaded.state_dict()), folded_norms(model.state_dict()), rtol=1e-6,
                                   atol=1e-7)


def test_a_weight_norm_of_which_a_half_is_missing_is_refused():
    name = next(name for name in NORMED if name.startswith("wavtokenizer"))
    state = dict(official_models()[name][1])
    del state[next(key for key in state if key.endswith("weight_g") and ".encoder.model." in key)]
    with pytest.raises(ValueError, match="without.*weight_g|missing"):
        load(name, state)


def test_zero_rows_of_a_folded_weight_stay_zero():
    name = next(name for name in NORMED if name.endswith("HiFT"))
    state = folded_norms(official_models()[name][1])
    key = next(key for key, value in state.items() if key.endswith("conv_pre.weight"))
    state[key] = state[key].clone()
    state[key][0] = 0
    loaded = folded_norms(load(name, state).state_dict())
    weight = next(value for key, value in loaded.items() if key.endswith("conv_pre.weight"))
    assert not weight[0].any() and weight[1].any()


def test_the_trainer_of_var_holds_two_models():
    _, var, config, _ = official_models()["var VARTokenizer"]
    _, other, *_ = official_models()["llamagen LlamaGenGPT"]
    content = {"trainer": {"var_wo_ddp": other, "vae_local": var, "var_opt": {"state": {}, "param_groups": []}},
               "epoch": 3, "iter": 0, "args": {"lr": 1e-4}}
    model = load("var VARTokenizer", content)
    check_equal(model, plain("var VARTokenizer"))
    assert model.load_report.place == "trainer.vae_local" and model.load_report.tables == ("trainer.var_wo_ddp",)
    assert load("llamagen LlamaGenGPT", content).load_report.place == "trainer.var_wo_ddp"


def test_two_sets_that_fit_are_refused_unless_one_is_named(official):
    state = official[1]
    other = {key: value + 1 for key, value in state.items()}
    with pytest.raises(ValueError, match="2 different sets.*'student', 'teacher'.*take="):
        load("maskgit_vqgan MaskGITVQGAN", {"student": state, "teacher": other})
    model = load("maskgit_vqgan MaskGITVQGAN", {"student": state, "teacher": other}, take="teacher")
    assert torch.equal(model.bottleneck.codebook, other["quantize.embedding.weight"])
    with pytest.raises(ValueError, match="no weights for take='nobody'.*'student'"):
        load("maskgit_vqgan MaskGITVQGAN", {"student": state, "teacher": other}, take="nobody")
    load("maskgit_vqgan MaskGITVQGAN", {"student": state, "backup": dict(state)})  # the same numbers


def test_an_average_of_parameters_alone_is_completed_by_the_buffers_beside_it():
    cls, state, config, _ = official_models()["llamagen LlamaGenVQ"]
    name = next(name for name in NAMES if name.startswith("bicodec"))
    model = load(name, official_models()[name][1])
    buffers = {key for key, _ in model.named_buffers()}
    full = official_models()[name][1]
    average = {key: value * 2 if value.is_floating_point() else value for key, value in full.items()
               if not key.endswith("num_batches_tracked")}
    assert any(key.endswith("num_batches_tracked") for key in buffers)
    loaded = load(name, {"model": full, "ema": average})
    assert loaded.load_report.averaged and any("buffers taken from 'model'" in line
                                               for line in loaded.load_report.lines)


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
def test_it_is_strict_after_unwrapping(official, wrap):
    state = official[1]
    short = dict(list(state.items())[1:])
    with pytest.raises(ValueError, match="1 missing"):
        load("maskgit_vqgan MaskGITVQGAN", wrap(short))
    with pytest.raises(ValueError, match="unexpected"):
        load("maskgit_vqgan MaskGITVQGAN", wrap({**state, "encoder.further.weight": torch.zeros(3)}))
    wrong = {**state, "decoder.conv_in.bias": torch.zeros(7)}
    with pytest.raises(ValueError, match=r"decoder.conv_in.bias \(7,\), the model has \(32,\)"):
        load("maskgit_vqgan MaskGITVQGAN", wrap(wrong))


def test_what_was_undone_is_logged_once_and_kept(official, tmp_path, caplog):
    torch.save({"state_dict": within("module.", official[1]), "epoch": 3}, tmp_path / "weights.ckpt")
    with caplog.at_level(logging.INFO, logger="photophone"):
        model = MaskGITVQGAN.from_original(tmp_path / "weights.ckpt", **CONFIG)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and str(tmp_path) in record.getMessage()
    assert model.load_report.place == "state_dict" and model.load_report.prefix == "module."
    assert model.load_report.values == ("epoch",) and model.load_report.source.endswith("weights.ckpt")
    caplog.clear()
    MaskGITVQGAN.from_original(official[1], **CONFIG)
    assert not caplog.records


def shard(folder, state, suffix=".safetensors", parts=3, base="model"):
    """Save a state in shards with an index, as transformers does."""
    keys, places = list(state), {}
    for part in range(parts):
        name = f"{base}-{part + 1:05d}-of-{parts:05d}{suffix}"
        own = {key: state[key].contiguous() for key in keys[part::parts]}
        places |= dict.fromkeys(own, name)
        (save_file if suffix == ".safetensors" else torch.save)(own, folder / name)
    index = folder / f"{base}{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize(("suffix", "base"), [(".safetensors", "model"), (".bin", "pytorch_model"),
                                              (".safetensors", "diffusion_pytorch_model")])
def test_shards_are_read_through_their_index_their_folder_or_one_of_them(official, tmp_path, suffix, base):
    index = shard(tmp_path, within("module.", official[1]), suffix, base=base)
    expected = plain("maskgit_vqgan MaskGITVQGAN")
    for source in (index, tmp_path, tmp_path / f"{base}-00002-of-00003{suffix}"):
        model = MaskGITVQGAN.from_original(source, **CONFIG)
        check_equal(model, expected)
        assert len(model.load_report.files) == 3
    index.unlink()
    check_equal(MaskGITVQGAN.from_original(tmp_path, **CONFIG), expected)
    (tmp_path / f"{base}-00002-of-00003{suffix}").unlink()
    with pytest.raises(ValueError, match=f"1 of 3 shards are missing.*{base}-00002-of-00003"):
        MaskGITVQGAN.from_original(tmp_path, **CONFIG)


def test_an_index_that_lies_is_refused(official, tmp_path):
    index = shard(tmp_path, official[1])
    text = index.read_text()
    whole = json.loads(text)

    def refused(words, weight_map=None, content=None):
        index.write_text(json.dumps({"weight_map": weight_map}) if content is None else content)
        with pytest.raises(ValueError, match=words):
            MaskGITVQGAN.from_original(index, **CONFIG)

    places = whole["weight_map"]
    refused("lists 1 tensors that its shards do not hold: absent.weight",
            {**places, "absent.weight": "model-00001-of-00003.safetensors"})
    refused("names '../model", dict.fromkeys(places, "../model-00001-of-00003.safetensors"))
    refused("names '/etc/passwd'", dict.fromkeys(places, "/etc/passwd"))
    refused("weight_map must name", {})
    refused("weight_map must name", ["a"])
    refused("weight_map must name", {"a": 3})
    refused("no JSON", content=text[:len(text) // 2])
    refused("must hold a JSON object", content="null")
    index.write_text(text)
    (tmp_path / "model-00003-of-00003.safetensors").unlink()
    with pytest.raises(ValueError, match="1 of the 3 files .* are missing: model-00003"):
        MaskGITVQGAN.from_original(index, **CONFIG)


class Tied(torch.nn.Module):
    """Two names of one weight."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


class TiedModel(OriginalCheckpoint, Tied):
    """The same, as a model that loads checkpoints."""


class Untied(OriginalCheckpoint, torch.nn.Module):
    """The same layers, each with a weight of its own."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False)


@pytest.mark.parametrize("model_class", [TiedModel, Untied])
def test_tied_weights_of_which_safetensors_keeps_one_are_filled_in(model_class, tmp_path):
    source = Tied()
    save_model(source, tmp_path / "model.safetensors")  # keeps one name, and the other in the metadata
    model = model_class.from_original(tmp_path / "model.safetensors")
    assert torch.equal(model.head.weight, source.embed.weight) and torch.equal(model.embed.weight, source.embed.weight)


def test_tied_weights_that_nothing_names_are_known_from_the_model(tmp_path):
    source = Tied()
    index = shard(tmp_path, {"embed.weight": source.embed.weight.detach()}, parts=1)
    model = TiedModel.from_original(index)
    assert torch.equal(model.head.weight, source.embed.weight)
    assert any("tied" in line for line in model.load_report.lines)
    with pytest.raises(ValueError, match="1 missing: head.weight"):
        Untied.from_original(index)


def eight_bits(state, kind, scale_name, per_row=False):
    """Weights of 8 bits with their scales beside them."""
    made = {}
    for key, value in state.items():
        if not key.endswith(".weight") or value.ndim < 2:
            made[key] = value
            continue
        most = value.abs().flatten(1).amax(1) if per_row else value.abs().amax()
        top = 127 if kind == torch.int8 else torch.finfo(kind).max
        scale = most.clamp(min=1e-9) / top
        shaped = value / (scale.reshape(-1, *[1] * (value.ndim - 1)) if per_row else scale)
        made[key] = shaped.round().to(kind) if kind == torch.int8 else shaped.to(kind)
        made[key.removesuffix(".weight") + scale_name] = most if scale_name == ".SCB" else scale
    return made


@pytest.mark.parametrize(("kind", "name", "per_row"), [
    (torch.float8_e4m3fn, ".weight_scale", False), (torch.float8_e5m2, ".scale_weight", False),
    (torch.float8_e4m3fn, ".weight_scale", True), (torch.int8, ".SCB", True), (torch.int8, ".weight_scale", True)])
def test_weights_of_eight_bits_with_simple_scales_are_multiplied_out(official, kind, name, per_row, tmp_path):
    save_file(eight_bits(official[1], kind, name, per_row), tmp_path / "model.safetensors")
    model = MaskGITVQGAN.from_original(tmp_path / "model.safetensors", **CONFIG)
    for key, value in plain("maskgit_vqgan MaskGITVQGAN").items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=0.15, atol=0.02)
    assert any("8 bits" in line for line in model.load_report.lines)


@pytest.mark.parametrize(("change", "words"), [
    (lambda state, key: state.update({key: state[key].to(torch.float8_e4m3fn)}), "8-bit floats without scales"),
    (lambda state, key: state.update({key: state[key].to(torch.int8)}), "int8, the model has float32"),
    (lambda state, key: state.update({key: state[key].view(torch.int32)}), "int32, the model has float32"),
    (lambda state, key: state.update({key: state[key].bool()}), "bool, the model has float32"),
    (lambda state, key: state.update({key: state[key].to(torch.complex64)}), "complex64, the model has float32"),
    (lambda state, key: state.update({f"{key}_scale_inv": torch.ones(1)}), "a scale for each block"),
    (lambda state, key: state.update({key.replace("weight", "qweight"): torch.ones(1).int()}), "GPTQ"),
    (lambda state, key: state.update({f"{key}.absmax": torch.ones(1)}), "bitsandbytes, 4 bits"),
    (lambda state, key: state.update({key: torch.quantize_per_tensor(state[key], 0.1, 0, torch.qint8)}), "quantised"),
    (lambda state, key: state.update({key: state[key].to_sparse()}), "sparse"),
    (lambda state, key: state.update({key: state[key].to("meta")}), "without its values"),
    (lambda state, key: state.update({key: state[key].double() * 1e300}), "beyond the range of float32"),
    (lambda state, key: state.update({key: state[key] * torch.inf}), "NaN or infinite"),
])
def test_other_kinds_of_numbers_are_refused_by_name(official, change, words):
    state = dict(official[1])
    change(state, "decoder.conv_in.weight")
    with pytest.raises(ValueError, match=words):
        MaskGITVQGAN.from_original(state, **CONFIG)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
def test_floats_of_any_width_are_read(official, kind):
    state = {key: value.to(kind) for key, value in official[1].items()}
    model = MaskGITVQGAN.from_original(state, **CONFIG)
    assert model.dtype == torch.float32
    for key, value in plain("maskgit_vqgan MaskGITVQGAN").items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-2, atol=1e-3)


def test_read_state_unwraps_where_no_model_is_known(official):
    state = official[1]
    assert list(read_state({"state_dict": within("_orig_mod.module.", state), "epoch": 3})) == list(state)
    with pytest.raises(ValueError, match="found several: model, ema"):
        read_state({"model": state, "ema": state})
    assert list(read_state({"model": state, "ema": {"x": torch.ones(1)}}, ("ema",))) == ["x"]
