"""Recipes with captions or several stages in small: text encoders, TA-TiTok, MaskGen, HART, ALIT."""

import json

import numpy as np
import pytest
import torch
from test_image_recipes import CONV, PATCH, VIT, config, losses
from tiny import write_prepared

from photophone import CaptionFeatures, TextToImagePipeline
from photophone.data.images import ImageDataset
from photophone.generators.conditions import CaptionStates
from photophone.loading.saved import open_saved
from photophone.pipelines.captions import read_captions
from photophone.text.features import load_text_encoder
from photophone.tokenizers.base import ImageTokenizer
from photophone.training.loop.trainer import Trainer
from photophone.training.tasks.image_recipes import image_generator_task, image_tokenizer_task
from photophone.training.tasks.text_encoder import text_encoder_task

LENGTH = 16
ENCODER = {"width": 16, "depth": 2, "num_heads": 2, "vocab_size": 300, "length": LENGTH}
TATITOK = {"family": "tatitok", **VIT, "num_codes": 32, "l2_norm": True}
HART_VQ = {"family": "hart-vq", **CONV, "token_width": 8, "num_codes": 32, "scales": [1, 2, 4]}
VQGAN = {"family": "maskgit-vqgan", **CONV, "token_width": 8, "num_codes": 16}
ALIT = {"family": "alit", "image_size": 16, "patch": 4, "encoder_size": [32, 1, 2], "decoder_size": [32, 1, 2],
        "pass_tokens": 4, "iterations": 2, "token_width": 6, "num_codes": 32, "halting_threshold": 0.1,
        "decoder_tokens": 8}
GENERATORS = {
    "maskgen-vq": ("tatitok", "clip", {"width": 32, "depth": 1, "num_heads": 2, "aesthetic_dim": None,
                                       "num_classes": 1}, {"num_order_steps": 2, "guidance_scale": 3.0}),
    "hart": ("hart", "qwen2", {"width": 32, "depth": 1, "num_heads": 2, "head_width": 32, "head_depth": 1},
             {"guidance_scale": 2.0}),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_prepared(tmp_path_factory.mktemp("data") / "icons.safetensors", count=64)


@pytest.fixture(scope="module")
def encoders(data, tmp_path_factory):
    """``encoders(kind)``: the folder of a run of a text encoder, trained once."""
    folders = {}

    def train(kind):
        if kind not in folders:
            torch.manual_seed(0)
            folders[kind] = tmp_path_factory.mktemp(kind)
            settings = config(data, {"kind": kind, **ENCODER}, {}, preview_every=0)
            Trainer(text_encoder_task(settings), settings, folders[kind]).run()
        return folders[kind]

    return train


@pytest.fixture(scope="module")
def tokenizers(data, encoders, tmp_path_factory):
    """``tokenizers(name)``: the folder of a run of a tokenizer, trained once, and its tokens of all icons."""
    folders = {}
    recipes = {"tatitok": (TATITOK, {"quantize_from": 8, "adversarial": {"weight": 0.1, "start": 16},
                                     "perceptual": 0.1, "networks": {
                                         "perceptual": [{"network": "efficientnet_lite0", "weight": 1.0}, {
                                             "network": {"name": "efficientnet_lite0", "classes": True},
                                             "weight": 0.1}],
                                         "discriminator": {"kind": "blur", "width": 32, "stages": 1, "grid": 4,
                                                           "lecam": 0.001, "lecam_of_means": True}}}),
               "hart": (HART_VQ, {}), "vqgan": (VQGAN, {})}

    def train(name):
        if name not in folders:
            torch.manual_seed(0)
            model, task = recipes[name]
            if name == "tatitok":
                task = {**task, "condition": {"text_encoder": str(encoders("clip") / "export"), "length": LENGTH}}
            folder = folders[name] = tmp_path_factory.mktemp(name)
            settings = config(data, model, task)
            Trainer(image_tokenizer_task(settings), settings, folder).run()
            tokenizer = open_saved(folder / "export", ImageTokenizer)
            tokenizer.encode(ImageDataset(data).batch(np.arange(64))).save(folder / "tokens.safetensors")
        return folders[name]

    return train


@pytest.mark.parametrize("kind", ["clip", "qwen2"])
def test_a_text_encoder_finds_images_and_is_read_as_the_published_ones(encoders, kind):
    folder = encoders(kind)
    values = losses(folder)
    assert values[-1] < 0.8 * values[0]
    assert losses(folder, "validation_found")[-1] > 1 / 64
    vocabulary, encoder = load_text_encoder(folder / "export")
    assert encoder.config.hidden_size == 16
    made = read_captions(vocabulary, encoder, ["red circle, pixel art", "a blue ring"], LENGTH)
    assert isinstance(made, CaptionStates if kind == "clip" else CaptionFeatures) and len(made) == 2
    states = made.text_states if kind == "clip" else made.features
    assert states.shape == (2, LENGTH, 16) and not torch.allclose(states[0], states[1])
    with pytest.raises(ValueError, match=r"has \d+ tokens, the model reads 16"):
        read_captions(vocabulary, encoder, ["red circle, pixel art " * 9], LENGTH)


def test_the_vocabulary_of_a_saved_encoder_is_the_one_that_was_trained(data, encoders):
    for kind in ("clip", "qwen2"):
        task = text_encoder_task(config(data, {"kind": kind, **ENCODER}, {}))
        saved, _ = load_text_encoder(encoders(kind) / "export")
        for caption in ("red circle, pixel art", "It's 3 o'clock"):
            assert saved(caption)["input_ids"] == task.vocabulary(caption)["input_ids"]


def test_tatitok_learns_with_captions(tokenizers, data):
    folder = tokenizers("tatitok")
    error = losses(folder, "l2_loss")
    assert error[-1] < 0.8 * error[0] and losses(folder, "perceptual")[-1] < losses(folder, "perceptual")[0]
    plain, without = (losses(folder, name)[-1] for name in ("validation_psnr", "validation_psnr_without_captions"))
    assert plain != without  # the decoder reads them
    model = open_saved(folder / "export", ImageTokenizer)
    assert model.config.text_dim == 16 and model.config.text_length == LENGTH


@pytest.mark.parametrize("family", GENERATORS)
def test_a_generator_learns_captions(tokenizers, encoders, data, tmp_path, family):
    tokenizer, kind, model, options = GENERATORS[family]
    folder = tokenizers(tokenizer)
    task = {"tokens": str(folder / "tokens.safetensors"), "image_tokenizer": str(folder / "export"),
            "condition": {"text_encoder": str(encoders(kind) / "export"), "length": LENGTH},
            "preview_options": options}
    settings = config(data, {"family": family, **model}, task, steps=60)
    torch.manual_seed(0)
    task = image_generator_task(settings)
    before = task.validate(task.model.eval())["validation_loss"]
    assert Trainer(task, settings, tmp_path).run() == 60
    values = losses(tmp_path)
    assert sum(values[-3:]) < 0.97 * sum(values[:3]), values
    assert losses(tmp_path, "validation_loss")[-1] < before
    pipeline = TextToImagePipeline.from_pretrained(tmp_path / "export")
    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    images = pipeline(["red circle", "blue ring, pixel art"], generator=seeds, output_type="pt", **options).images
    assert images.shape == (2, 3, 16, 16) and not torch.equal(images[0], images[1])


def test_hart_draws_with_and_without_what_codes_leave_over(tokenizers, data):
    folder = tokenizers("hart")
    assert {"validation_psnr", "validation_psnr_codes_alone"} <= set(
        json.loads([line for line in (folder / "metrics.jsonl").read_text().splitlines() if "validation" in line][-1]))
    model = open_saved(folder / "export", ImageTokenizer)
    images = ImageDataset(data).batch(np.arange(4))
    tokens = model.encode(images)
    values = model.bottleneck.codes(model.latents(images)).values  # of a training pass without the rest
    torch.testing.assert_close(model.decode(tokens, residual=False), model.reconstruct(values).clamp(-1, 1))
    torch.testing.assert_close(model.decode(tokens), model.reconstruct(model.latents(images)).clamp(-1, 1),
                               rtol=1e-4, atol=1e-4)


def test_alit_learns_in_two_stages(tokenizers, data, tmp_path):
    teacher = tokenizers("vqgan") / "export"
    first = config(data, ALIT, {"teacher": str(teacher), "quantize_from": 8}, learning_rate=5e-3, steps=40)
    torch.manual_seed(0)
    task = image_tokenizer_task(first)
    taught = {name: weight.clone() for name, weight in task.tokenizer.base.state_dict().items()}
    Trainer(task, first, tmp_path / "first").run()
    for name in ("loss", "nll_4_tokens", "nll_8_tokens"):
        assert losses(tmp_path / "first", name)[-1] < losses(tmp_path / "first", name)[0]
    model = open_saved(tmp_path / "first" / "export", ImageTokenizer)
    assert model.config.base == "vqgan" and model.config.base_config["num_codes"] == 16
    for name, weight in model.base.state_dict().items():
        assert torch.equal(weight, taught[name])
    second = config(data, {}, {"l2": 0.0, "l1": 1.0, "perceptual": 0.1, "adaptive": True, "networks": PATCH,
                               "adversarial": {"weight": 0.2, "start": 16}}, init_from=str(tmp_path / "first/export"))
    Trainer(image_tokenizer_task(second), second, tmp_path / "second").run()
    error = losses(tmp_path / "second", "l1_loss")
    assert error[-1] < error[0]
    assert {"validation_psnr", "validation_psnr_4_tokens"} <= {
        key for line in (tmp_path / "second" / "metrics.jsonl").read_text().splitlines() for key in json.loads(line)}
    model = open_saved(tmp_path / "second" / "export", ImageTokenizer)
    assert any(not torch.equal(weight, taught[name]) for name, weight in model.base.state_dict().items())
    images = ImageDataset(data).batch(np.arange(4))
    assert model.decode(model.encode(images, threshold=0.5)).shape == images.shape


@pytest.mark.parametrize(("model", "task", "words"), [
    (VQGAN, {"condition": {"text_encoder": "clip"}}, "reads no captions; leave it out"),
    (TATITOK, {"condition": {"length": 3}}, "text_encoder"),
    (TATITOK, {"teacher": "vqgan"}, "not a MaskGITVQGAN a TATiTok|teacher"),
])
def test_what_does_not_belong_together_is_refused(data, encoders, tokenizers, model, task, words):
    named = {"clip": str(encoders("clip") / "export"), "vqgan": str(tokenizers("vqgan") / "export")}
    settings = {key: named.get(value, value) if isinstance(value, str) else
                {name: named.get(inner, inner) for name, inner in value.items()} for key, value in task.items()}
    with pytest.raises(ValueError, match=words):
        image_tokenizer_task(config(data, model, settings))


def test_generators_refuse_captions_of_another_kind(data, encoders, tokenizers):
    folder = tokenizers("tatitok")
    settings = {"tokens": str(folder / "tokens.safetensors"), "image_tokenizer": str(folder / "export")}
    for family, condition, words in (
            ("maskgen-vq", {"text_encoder": str(encoders("qwen2") / "export"), "length": LENGTH}, "kind 'qwen2'"),
            ("maskgen-vq", {"field": "style"}, "reads captions, not classes"),
            ("bitdance", {"field": "style"}, "reads signs, those of a BitDanceTokenizer")):
        with pytest.raises(ValueError, match=words):
            image_generator_task(config(data, {"family": family}, {**settings, "condition": condition}))


@pytest.mark.parametrize(("model", "words"), [
    ({"kind": "t5"}, "kind must be one of clip, qwen2"), ({"vocab_size": 100}, "at least 260"),
    ({"num_heads": 3}, "multiple of num_heads"), ({"heads": 3}, r"unknown settings \['heads'\]")])
def test_wrong_settings_of_a_text_encoder_are_refused(data, model, words):
    with pytest.raises(ValueError, match=words):
        text_encoder_task(config(data, {**ENCODER, "kind": "clip", **model}, {}))
