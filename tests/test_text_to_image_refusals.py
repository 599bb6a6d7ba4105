"""What the text-to-image pipeline refuses: prompts, settings, damaged and hostile folders."""

import contextlib
import json
import pickle
import shutil

import pytest
import torch
from tiny import Hostile

from photophone import TextToImagePipeline

PROMPTS = ["red circle, flat emoji", "blue square", "green ring, pixel art"]
FAST = {"num_inference_steps": 2}


@pytest.mark.parametrize(("prompt", "words"), [
    ("", "empty"), ("  \n ", "empty"), ("\u0301", "empty"), ([], "0 prompts"), ([PROMPTS[0], ""], "empty"),
    ("red circle " * 10_000, "110000 characters, the limit is 1000"), ("x" * 100_000, "100000 characters"),
    ("red\x00circle", r"U\+0000 at position 3"), ("red \x1b[31m", r"U\+001B at position 4"), ("\ud800", r"U\+D800"),
    ("红苹果", "红 苹 果|苹 果 红|果"), ("красный круг", "not trained on: .*к"), ("red 🍎", "🍎"),
    ("red circle " * 30, "the model reads 12"), (None, "must be a string, got NoneType"), (3, "got int"),
    ([PROMPTS[0], 3], "got int"), (b"red", "got bytes"),
], ids=lambda value: repr(value)[:20])
def test_wrong_prompts_are_refused(pipeline, prompt, words):
    with pytest.raises(ValueError, match=words):
        pipeline(prompt, **FAST)


@pytest.mark.parametrize(("options", "words"), [
    ({"num_images_per_prompt": 0}, "1 to 64"), ({"num_images_per_prompt": 65}, "x 65 images"),
    ({"num_images_per_prompt": 1.5}, "1.5"), ({"num_images_per_prompt": -1}, "x -1 images"),
    ({"height": 512}, "height 512 is not possible; this model makes 16x16"), ({"width": 0}, "width 0"),
    ({"num_inference_steps": 0}, "1 to 1000, got 0"), ({"num_inference_steps": 1001}, "1 to 1000, got 1001"),
    ({"num_inference_steps": 2.5}, "num_inference_steps .*2.5"), ({"num_inference_steps": "2"}, "'2'"),
    ({"guidance_scale": -1}, "0 to 30, got -1"), ({"guidance_scale": 31}, "got 31"),
    ({"guidance_scale": float("nan")}, "got nan"), ({"guidance_scale": "3"}, "guidance_scale .*'3'"),
    ({"temperature": -0.1}, "0 to 2, got -0.1"), ({"temperature": 2.1}, "got 2.1"),
    ({"temperature": float("inf")}, "got inf"), ({"temperature": True}, "temperature .*True"),
    ({"top_k": 3}, "has no option top_k; it has .*temperature"),
    ({"output_type": "jpeg"}, "'jpeg'"), ({"generator": 7}, "generator .*int"),
    ({"generator": [7]}, "generator .*int"),
], ids=str)
def test_wrong_settings_are_refused(pipeline, options, words):
    with pytest.raises(ValueError, match=words):
        pipeline(PROMPTS[0], **{**FAST, **options})


def check_refused(folder, words):
    with pytest.raises(ValueError, match=words) as error:
        TextToImagePipeline.from_pretrained(folder)
    assert "\n" not in str(error.value).strip()[:200]


@pytest.mark.parametrize("part", ["token_generator", "image_tokenizer"])
def test_missing_weights_are_named(copy, part):
    (copy / part / "diffusion_pytorch_model.safetensors").unlink()
    check_refused(copy, f"{part} holds no .safetensors weights")
    shutil.rmtree(copy / part)
    check_refused(copy, f"component {part} is missing")


@pytest.mark.parametrize("keep", [0, 4, 200, 0.5, -1], ids=str)
def test_truncated_weights_are_refused(copy, keep):
    file = copy / "token_generator" / "diffusion_pytorch_model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    check_refused(copy, "diffusion_pytorch_model.safetensors is damaged")


def test_weights_that_are_not_finite_are_refused(copy):
    from safetensors.torch import load_file, save_file
    file = copy / "image_tokenizer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["to_latent.weight"][0, 0] = torch.nan
    save_file(weights, file, metadata={"format": "pt"})
    check_refused(copy, "to_latent.weight .*NaN")


def test_weights_of_another_size_are_refused(copy):
    config = json.loads((copy / "token_generator" / "config.json").read_text())
    (copy / "token_generator" / "config.json").write_text(json.dumps({**config, "token_dim": 9}))
    check_refused(copy, "token_generator|size|shape")


def test_missing_keys_are_refused(copy):
    """diffusers only warns of them and leaves random weights."""
    from safetensors.torch import load_file, save_file
    file = copy / "image_tokenizer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["to_latent.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    check_refused(copy, "to_latent.weight")


@pytest.mark.parametrize(("change", "words"), [
    ({"token_generator": ["os", "system"]}, "library 'os'"),
    ({"token_generator": ["photophone.generators.flow_ar.model", "FlowARGenerator"]}, "only photophone"),
    ({"token_generator": ["photophone", "Nothing"]}, "Nothing"),
    ({"token_generator": ["photophone", "importlib"]}, "importlib"),
    ({"token_generator": []}, "token_generator"), ({"token_generator": ["photophone"]}, "token_generator"),
    ({"../escape": ["photophone", "FlowARGenerator"]}, "escape"),
    ({"token_generator": None}, "token_generator"),
])
def test_foreign_components_are_refused(copy, change, words):
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps({**index, **change}))
    check_refused(copy, words)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00\xff"])
def test_a_damaged_index_is_refused(copy, text):
    (copy / "model_index.json").write_text(text)
    check_refused(copy, "model_index.json")


def test_hostile_files_do_not_run(copy, tmp_path):
    marker = tmp_path / "code-ran"
    for part in ("token_generator", "image_tokenizer", "text_tokenizer"):
        (copy / part / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Hostile(marker), protocol=2))
        (copy / part / "photophone.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    with contextlib.suppress(ValueError):  # to refuse such a folder is as good as to ignore the files
        TextToImagePipeline.from_pretrained(copy)
    assert not marker.exists()


@pytest.mark.parametrize(("name", "words"), [
    ("nowhere", "neither a folder"), ("/no/such/folder", "neither a folder"), ("photophone/nothing", "tiny-image"),
    ("", "not a saved pipeline"), ("nobody/nothing", "nobody/nothing"),
])
def test_unknown_names_are_refused(name, words, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=words):
        TextToImagePipeline.from_pretrained(name)
