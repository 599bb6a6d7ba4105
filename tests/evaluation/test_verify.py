"""photophone verify: official files of random weights, whole and in shards, and files that are something else."""

import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file
from transformers import EncodecConfig, EncodecModel, MimiConfig, MimiModel

from photophone import SeededNoise, create_model
from photophone.evaluation import probes
from photophone.evaluation.metrics.image import psnr
from photophone.loading.registry import find
from photophone.tokenizers.llamagen_vq.model import LlamaGenVQ

GOLDENS = Path(__file__).parents[1] / "goldens"
CODEC = "encodec-24khz-6kbps"
TINY = find(CODEC).tiny


def fill(model):
    """Random values throughout: transformers leaves codebooks at zero."""
    generator = torch.Generator().manual_seed(0)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith(("embed", "embed_sum")):
            value.data.copy_(torch.randn(value.shape, generator=generator))
    return model.eval()


@pytest.fixture(scope="module")
def encodec(tmp_path_factory):
    """transformers' EnCodec; a torch file of it, a folder with an index of shards, and our settings as a file."""
    torch.manual_seed(0)
    model, folder = fill(EncodecModel(EncodecConfig(**TINY["settings"]))), tmp_path_factory.mktemp("encodec")
    torch.save(model.state_dict(), folder / "encodec.pt")
    model.save_pretrained(folder / "shards", max_shard_size=20_000)
    assert (folder / "shards" / "model.safetensors.index.json").is_file()
    (folder / "tiny.json").write_text(json.dumps(TINY))
    return model, folder


@pytest.mark.parametrize("place", ["encodec.pt", "shards", "shards/model.safetensors.index.json"])
def test_a_codec_from_a_torch_file_and_from_shards(run, encodec, place):
    model, folder = encodec
    code, output, errors = run("verify", CODEC, folder / place, "--config", folder / "tiny.json", "--json")
    facts = json.loads(output)
    assert code == (0 if facts["agrees"] else 1) and "Traceback" not in errors
    assert len(facts["files"]) == 1 if place == "encodec.pt" else len(facts["files"]) > 1
    assert facts["parameters"] == sum(weight.numel() for weight in model.parameters())
    weights = torch.cat([weight.detach().double().flatten() for weight in model.parameters()])
    assert facts["weights"]["mean"] == pytest.approx(float(weights.mean()), abs=1e-9)
    assert facts["weights"]["deviation"] == pytest.approx(float(weights.std(correction=0)), rel=1e-9)
    with torch.no_grad():
        codes = model.encode(probes.recording(24_000), bandwidth=80.0).audio_codes[0][:, :TINY["num_codebooks"]]
        audio = model.decode(codes[None], [None]).audio_values
    assert facts["tokens"]["different_codes"] == codes.unique().numel() and facts["tokens"]["shape"] == [*codes.shape]
    assert facts["output"]["deviation"] == pytest.approx(float(audio.double().std(correction=0)), rel=1e-4)
    assert {"snr", "si_sdr", "mel_distance", "mel_distance_of_silence"} <= facts["quality"].keys()
    (row,) = [row for row in facts["not_compared"] if row["what"].startswith("number of parameters")]
    assert "14,851,810 when published" in row["what"] and "other settings" in row["why"]


def test_the_report_for_people_says_what_was_not_compared(run, encodec):
    _, folder = encodec
    _, output, _ = run("verify", CODEC, folder / "encodec.pt", "--config", folder / "tiny.json")
    for words in (f"{CODEC}  EnCodec of {folder / 'encodec.pt'}: every tensor fits", "weights  ",
                  "different codes of 32",
                  "quality  snr", "not compared: number of parameters", "no figure of this model is recorded",
                  "licence of the weights: CC BY-NC 4.0"):
        assert words in output


@pytest.fixture(scope="module")
def llamagen():
    """Small official weights of LlamaGen's tokenizer, and their settings."""
    sys.path.insert(0, str(GOLDENS))
    from golden import Golden
    from llamagen import vq_config

    folder = GOLDENS / "data" / "llamagen"
    return load_file(folder / "vq.safetensors"), {**vq_config(Golden(folder).settings["vq"]), "image_size": 16}


@pytest.mark.parametrize("form", ["file", "shards"])
def test_an_image_tokenizer(run, llamagen, tmp_path, form):
    state, config = llamagen
    place = tmp_path / "vq_ds16_c2i.pt"
    if form == "file":
        torch.save({"model": state, "epoch": 3}, place)
    else:
        place = tmp_path / "shards"
        place.mkdir()
        save_torch_state_dict(state, place, filename_pattern="model{suffix}.safetensors", max_shard_size=200_000)
        assert len(list(place.glob("*.safetensors"))) > 2
        place = place / "model.safetensors.index.json"
    code, output, _ = run("verify", "llamagen-vq16-c2i", place, "--config", json.dumps(config), "--json")
    facts = json.loads(output)
    model, image = LlamaGenVQ.from_original(state, **config), probes.picture(16)
    made = model.decode(model.encode(image))
    assert facts["quality"]["psnr"] == pytest.approx(float(psnr(image, made)), rel=1e-5)
    (row,) = facts["compared"]
    assert row["agrees"] == (facts["quality"]["psnr"] > facts["quality"]["psnr_of_its_mean_colour"])
    assert code == (0 if row["agrees"] else 1)
    assert {"what": "rFID 2.19 on 50,000 pictures of ImageNet's validation set at 256 pixels",
            "why": "one input is no test set; a test set of pictures is needed"} in facts["not_compared"]
    assert ("weights taken from 'model'" in facts["found"]) == (form == "file")


@pytest.mark.parametrize("name", ["llamagen-b-256", "speech-enhancer", "seed-tokenizer-2", "wavlm-large-layer6"])
def test_other_kinds_from_saved_folders(run, tmp_path, name):
    torch.manual_seed(0)
    model = create_model(name, **find(name).tiny).eval()
    model.save_pretrained(tmp_path)
    code, output, _ = run("verify", name, tmp_path, "--json")
    facts = json.loads(output)
    (row,) = [row for row in facts["compared"] if row["what"] == "number of parameters"]
    assert code == 1 and not row["agrees"]  # a small model in place of the published one
    assert row["here"] == model.num_parameters() and row["recorded"] == find(name).parameters
    reasons = " ".join(row["why"] for row in facts["not_compared"])
    if find(name).kind == "generator":
        noise = SeededNoise.from_seeds([0, 1])
        loss = model.loss(model.example_tokens(2, 0), model.example_condition(2, 0), noise=noise).loss.detach()
        assert facts["output"]["loss"] == pytest.approx(float(loss), rel=1e-5) and "needs its tokenizer" in reasons
    elif name == "speech-enhancer":
        made = model.enhance(probes.recording(16_000)).double()
        assert facts["output"]["deviation"] == pytest.approx(float(made.std(correction=0)), rel=1e-5)
    else:
        assert ("several inputs" in reasons) == (name == "wavlm-large-layer6") == ("tokens" not in facts)


def test_a_saved_model_of_another_size_differs(run, tmp_path):
    torch.manual_seed(0)
    create_model("wavtokenizer-small-75", **find("wavtokenizer-small-75").tiny).save_pretrained(tmp_path)
    code, output, _ = run("verify", "wavtokenizer-small-75", tmp_path)
    assert code == 1 and "DIFFERS  number of parameters: " in output and "71,747,442 by the registry" in output
    assert "not compared: PESQ 2.37 on LibriTTS test-clean: one input is no test set" in output


def missing_key(state):
    return {key: value for key, value in state.items() if "encoder.layers.0" not in key}


def wrong_shape(state):
    return {key: value[:1] if key == "quantizer.layers.0.codebook.embed" else value for key, value in state.items()}


def not_a_number(state):
    return {key: value * math.nan if key == "decoder.layers.0.conv.bias" else value for key, value in state.items()}


@pytest.mark.parametrize(("change", "message"), [
    (missing_key, "missing: model.encoder.layers.0.conv"), (wrong_shape, "quantizer.layers.0.codebook.embed"),
    (not_a_number, "1 tensors hold NaN or infinite values: model.decoder.layers.0.conv.bias"),
])
def test_weights_that_do_not_fit_are_named(run, encodec, tmp_path, change, message):
    model, folder = encodec
    torch.save(change(model.state_dict()), tmp_path / "changed.pt")
    code, output, errors = run("verify", CODEC, tmp_path / "changed.pt", "--config", folder / "tiny.json")
    assert (code, output) == (2, "") and str(tmp_path / "changed.pt") in errors and message in errors


def test_weights_that_overflow_are_told(run, encodec, tmp_path):
    model, folder = encodec
    huge = {key: torch.full_like(value, 3e38) if key.startswith("decoder") and key.endswith("bias") else value
            for key, value in model.state_dict().items()}
    torch.save(huge, tmp_path / "huge.pt")
    code, _, errors = run("verify", CODEC, tmp_path / "huge.pt", "--config", folder / "tiny.json")
    assert code == 2 and "makes NaN or infinity (output) of 2 s of the bundled recording" in errors


@pytest.mark.parametrize(("arguments", "message"), [
    (["encodec-24khz-6kbp", "{file}"], "did you mean encodec-24khz-6kbps"),
    (["photophone/tiny-image", "{file}"], "is a pipeline of several models"),
    ([CODEC, "{folder}/nothing.pt"], "no such checkpoint file"),
    ([CODEC, "{file}"], "does not fit EnCodec"),
    ([CODEC, "{folder}"], "holds no weights under a usual name"),
    ([CODEC, "{folder}/words.pt"], "was refused"),
    (["vocos-mel-24khz", "{file}"], "does not fit Vocos"),
    ([CODEC, "{file}", "--config", '{{"colour": 1}}'], "colour"),
    ([CODEC, "{file}", "--file", "encodec"], "--file must be of the form NAME=VALUE"),
    ([CODEC, "{file}", "--device", "abacus"], "device 'abacus' cannot be used here"),
])
def test_wrong_inputs_are_users_errors(run, encodec, tmp_path, arguments, message):
    (tmp_path / "words.pt").write_text("no weights")
    (tmp_path / "notes.txt").write_text("no weights")
    (tmp_path / "words.bin").write_text("no weights")
    given = [part.format(file=encodec[1] / "encodec.pt", folder=tmp_path) for part in arguments]
    code, output, errors = run("verify", *given)
    assert (code, output) == (2, "") and message in errors and errors.count("\n") == 1


def test_a_shard_that_is_missing_is_named(run, encodec, tmp_path):
    shards = shutil.copytree(encodec[1] / "shards", tmp_path / "shards")
    gone = sorted(shards.glob("model-*.safetensors"))[1]
    gone.unlink()
    code, _, errors = run("verify", CODEC, shards, "--config", encodec[1] / "tiny.json")
    assert code == 2 and gone.name in errors


def test_the_fixed_inputs_are_sound_and_a_picture():
    sound, image = probes.recording(16_000), probes.picture(64)
    assert sound.shape == (1, 1, 32_000) and image.shape == (1, 3, 64, 64)
    assert -1 <= float(image.min()) < -0.9 and 0.9 < float(image.max()) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "model_class", "config", "shard"), [
    (CODEC, EncodecModel, EncodecConfig, "20MB"), ("mimi-8", MimiModel, MimiConfig, "100MB")])
def test_codecs_of_transformers_at_published_size(run, tmp_path, name, model_class, config, shard):
    torch.manual_seed(0)
    fill(model_class(config())).save_pretrained(tmp_path, max_shard_size=shard)
    code, output, _ = run("verify", name, tmp_path, "--json")
    facts = json.loads(output)
    (row,) = [row for row in facts["compared"] if row["what"] == "number of parameters"]
    assert row["agrees"] and row["here"] == find(name).parameters and len(facts["files"]) > 2
    assert code == (0 if facts["agrees"] else 1)


@pytest.mark.slow
def test_vocos_at_published_size_from_the_authors_torch_file(run, tmp_path):
    torch.manual_seed(0)
    state = create_model("vocos-mel-24khz").state_dict()
    constants = {"feature_extractor.mel_spec.spectrogram.window": torch.ones(1024),
                 "feature_extractor.mel_spec.mel_scale.fb": torch.ones(513, 100), "head.istft.window": torch.ones(1024)}
    torch.save(state | constants, tmp_path / "pytorch_model.bin")
    code, output, _ = run("verify", "vocos-mel-24khz", tmp_path / "pytorch_model.bin", "--json")
    facts = json.loads(output)
    assert facts["dropped"] == 3 and facts["parameters"] == 13_531_650 == facts["compared"][0]["recorded"]
    assert code == (0 if facts["agrees"] else 1)
