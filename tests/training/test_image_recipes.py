"""Every image recipe in small: published losses, real steps on drawn icons; losses fall and the exports work."""

import json

import numpy as np
import pytest
import torch
from tiny import SHAPES, write_prepared
from transformers import T5Config, T5EncoderModel

from photophone import ClassToImagePipeline, Tokens
from photophone.data.images import ImageDataset
from photophone.loading.saved import open_saved
from photophone.text.captions import train_caption_tokenizer
from photophone.tokenizers.base import ImageTokenizer
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.trainer import Trainer
from photophone.training.tasks.image_recipes import image_generator_task, image_tokenizer_task
from photophone.training.tasks.titok_stage_one import StageOneTask

STEPS = 24
CONV = {"image_size": 16, "channels": 32, "multipliers": [1, 1, 1], "blocks": 1}
VIT = {"image_size": 16, "num_tokens": 4, "token_width": 8, "encoder_size": [32, 1, 2], "decoder_size": [32, 1, 2],
       "encoder_patch": 4, "decoder_patch": 4}
PATCH = {"discriminator": {"width": 8, "layers": 2}}
TOKENIZERS = {
    "llamagen-vq": ({**CONV, "z_channels": 32, "num_codes": 32},
                    {"perceptual": 0.5, "adversarial": {"weight": 0.5, "start": 16}, "networks": PATCH}),
    "maskgit-vqgan": ({**CONV, "token_width": 8, "num_codes": 16},
                      {"perceptual": 0.1, "networks": {"perceptual": {"network": {"name": "efficientnet_lite0",
                                                                                  "classes": True}}}}),
    "kl-vae": ({**CONV, "latent_width": 4, "encoder_attention_levels": [2]},
               {"l2": 0.0, "l1": 1.0, "perceptual": 0.5, "networks": PATCH, "adaptive": True,
                "adversarial": {"weight": 0.5, "start": 16, "warmup": 4}}),
    "var-vq": ({**CONV, "token_width": 8, "num_codes": 32, "scales": [1, 2, 4]}, {"perceptual": 0.5}),
    "hart-vq": ({**CONV, "token_width": 8, "num_codes": 32, "scales": [1, 2, 4]},
                {"perceptual": 0.5, "quantize_from": 8}),
    "bitdance": ({**CONV, "token_dim": 8, "num_codebooks": 2}, {"perceptual": 0.5}),
    "titok": ({**VIT, "num_codes": 32, "proxy_codes": None, "proxy_decoder": None, "scrambles_latents": False},
              {"adversarial": {"weight": 0.05, "start": 8}, "networks": {"discriminator": {
                  "width": 8, "layers": 2, "lecam": 0.001}}}),
    "softvq": ({**VIT, "num_codewords": 16, "num_codebooks": 2, "layer_scale": 1.0},
               {"alignment": 0.1, "adversarial": {"weight": 0.2, "start": 16}, "networks": {
                   "alignment": {"level": 1, "hidden": 16},
                   "discriminator": {"kind": "features", "width": 8, "lecam": 0.001, "consistency": 4.0}}}),
    "unitok-clip": ({"image_size": 16, "widths": [8, 8, 32], "stem_width": 8, "conv_depths": [1, 1], "depth": 1,
                     "num_heads": 2, "decoder_widths": [32, 8, 8], "decoder_depths": [1, 1], "token_width": 8,
                     "num_codebooks": 2, "num_codes": 32, "text_width": 16, "text_heads": 2, "text_layers": 1,
                     "text_vocab_size": 161, "text_length": 10, "embed_dim": 16},
                    {"contrastive": 1.0, "adversarial": {"weight": 0.4, "start": 8}, "adaptive": True,
                     "adaptive_least": 0.015, "networks": PATCH}),
}
GENERATORS = {
    "llamagen": ("llamagen-vq", {"width": 32, "depth": 1, "num_heads": 2, "hidden_multiple": 32}, {"top_k": 8}),
    "mar": ("kl-vae", {"encoder_width": 32, "encoder_depth": 1, "encoder_heads": 2, "decoder_width": 32,
                       "decoder_depth": 1, "decoder_heads": 2, "buffer_size": 2, "head_width": 32, "head_depth": 1},
            {"num_order_steps": 4, "num_inference_steps": 4, "head_sampler": "ddim"}),
    "xar": ("kl-vae", {"width": 32, "encoder_depth": 1, "encoder_heads": 2, "decoder_depth": 1, "decoder_heads": 2},
            {"num_inference_steps": 3}),
    "var": ("var-vq", {"width": 32, "depth": 1, "num_heads": 2}, {"top_k": 8}),
    "nar": ("llamagen-vq", {"width": 32, "depth": 1, "num_heads": 2, "hidden_multiple": 32}, {"top_k": 8}),
    "bitdance": ("bitdance", {"width": 32, "depth": 1, "num_heads": 2, "class_tokens": 2, "step_side": 2,
                              "head_width": 64, "head_depth": 1, "head_modulations": 1}, {"num_inference_steps": 4}),
    "titok-bert": ("titok", {"width": 32, "depth": 1, "num_heads": 2, "hidden": 64}, {"num_order_steps": 2}),
    "sit": ("softvq", {"width": 32, "depth": 1, "num_heads": 2}, {"num_inference_steps": 4}),
}


def losses(folder, key="loss"):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[key] for line in lines if key in line]


def config(data, model, task, **changes):
    settings = {"steps": STEPS, "batch_size": 8, "learning_rate": 3e-3, "warmup_steps": 3, "log_every": 4,
                "validate_every": STEPS, "preview_every": STEPS, "checkpoint_every": 0, "ema_decay": 0.5}
    return TrainConfig(str(data), str(data), model=model, task=task, **{**settings, **changes})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_prepared(tmp_path_factory.mktemp("data") / "icons.safetensors", count=64)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """``trained(family)``: the folder of a run of that tokenizer, trained once, and its tokens of all icons."""
    folders = {}

    def train(family):
        if family not in folders:
            torch.manual_seed(0)
            model, task = TOKENIZERS[family]
            folder = folders[family] = tmp_path_factory.mktemp(family)
            settings = config(data, {"family": family, **model}, task)
            assert Trainer(image_tokenizer_task(settings), settings, folder).run() == STEPS
            tokenizer = open_saved(folder / "export", ImageTokenizer)
            tokenizer.encode(ImageDataset(data).batch(np.arange(64))).save(folder / "tokens.safetensors")
        return folders[family]

    return train


@pytest.mark.parametrize("family", TOKENIZERS)
def test_a_tokenizer_learns_by_its_losses(trained, family):
    folder, (_, task) = trained(family), TOKENIZERS[family]
    error = losses(folder, "l2_loss" if task.get("l2", 1) else "l1_loss")
    assert error[-1] < 0.8 * error[0]
    for name in ("perceptual", "contrastive"):
        if name in task:
            values = losses(folder, name)
            assert values[-1] < values[0]
    if "alignment" in task:
        assert losses(folder, "alignment")[-1] < losses(folder, "alignment")[0] - 0.02  # minus a cosine
    if "adversarial" in task:
        start = task["adversarial"]["start"]
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        played = [line["step"] for line in lines if "discriminator" in line]
        assert played == list(range(start + 4, STEPS + 1, 4))
        assert ("adaptive_weight" in lines[-2]) == bool(task.get("adaptive"))
    assert (folder / "pictures" / f"step-{STEPS:08d}.png").exists() and (folder / "loss.png").exists()


def test_latents_of_an_exported_autoencoder_have_unit_variance(trained):
    tokens = Tokens.load(trained("kl-vae") / "tokens.safetensors")
    assert 0.5 < float(tokens.values.std()) < 1.2  # means; draws have the rest of the variance


@pytest.mark.parametrize("family", GENERATORS)
def test_a_generator_learns_classes(trained, data, tmp_path, family):
    source, model, options = GENERATORS[family]
    folder = trained(source)
    task = {"tokens": str(folder / "tokens.safetensors"), "image_tokenizer": str(folder / "export"),
            "condition": {"field": "style"}, "preview_options": {"guidance_scale": 1.5, **options}}
    settings = config(data, {"family": family, **model}, task, steps=60)
    torch.manual_seed(0)
    assert Trainer(image_generator_task(settings), settings, tmp_path).run() == 60
    values = losses(tmp_path)
    assert sum(values[-3:]) < 0.97 * sum(values[:3]), values
    assert losses(tmp_path, "validation_loss")[-1] < 1.1 * values[0]
    classes = json.loads((tmp_path / "export" / "classes.json").read_text())
    assert classes["field"] == "style" and len(classes["names"]) == 2
    pipeline = ClassToImagePipeline.from_pretrained(tmp_path / "export")
    images = pipeline([0, 1], generator=[torch.Generator().manual_seed(seed) for seed in (1, 2)], **options).images
    assert [image.size for image in images] == [(16, 16)] * 2


def test_captions_condition_llamagen(trained, data, tmp_path):
    torch.manual_seed(0)
    T5EncoderModel(T5Config(vocab_size=160, d_model=12, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).save_pretrained(
        tmp_path / "t5")
    captions = [fields["caption"] for fields in ImageDataset(data).fields]
    train_caption_tokenizer(captions, 160, 512).save_pretrained(tmp_path / "t5")
    folder = trained("llamagen-vq")
    settings = config(data, {"family": "llamagen", **GENERATORS["llamagen"][1]}, {
        "tokens": str(folder / "tokens.safetensors"), "image_tokenizer": str(folder / "export"),
        "condition": {"text_encoder": str(tmp_path / "t5"), "length": 6}, "preview_options": {"top_k": 8}})
    assert Trainer(image_generator_task(settings), settings, tmp_path / "run").run() == STEPS
    values = losses(tmp_path / "run")
    assert values[-1] < values[0]
    assert (tmp_path / "run" / "export" / "text_encoder" / "config.json").exists()


def test_titok_learns_in_two_stages(trained, data, tmp_path):
    teacher = trained("maskgit-vqgan") / "export"
    sizes = {**VIT, "num_codes": 32, "proxy_codes": 16, "proxy_decoder": None}
    first = config(data, {"family": "titok", **sizes}, {"teacher": str(teacher)}, learning_rate=5e-3, steps=60)
    torch.manual_seed(0)
    task = image_tokenizer_task(first)
    assert isinstance(task, StageOneTask)
    Trainer(task, first, tmp_path / "first").run()
    assert losses(tmp_path / "first")[-1] < 0.9 * losses(tmp_path / "first")[0]
    assert losses(tmp_path / "first", "validation_right_codes")[-1] > 1 / 16
    second = config(data, {}, {"pixel_decoder": str(teacher), "freeze_encoder": True},
                    init_from=str(tmp_path / "first" / "export"))
    task = image_tokenizer_task(second)
    images = task.data.batch(np.arange(8))
    before = task.model.encode(images).values.clone()
    Trainer(task, second, tmp_path / "second").run()
    assert losses(tmp_path / "second", "l2_loss")[-1] < losses(tmp_path / "second", "l2_loss")[0]
    model = open_saved(tmp_path / "second" / "export", ImageTokenizer)
    assert torch.equal(model.encode(images).values, before) and model.decode(model.encode(images)).shape == images.shape


@pytest.mark.parametrize(("model", "task", "words"), [
    ({"family": "os.system"}, {}, "unknown family 'os.system'; known are .*latent1d"),
    ({"name": "mar-base"}, {}, "mar-base is a generator that this script does not train"),
    ({"name": "titok-l32", "family": "titok"}, {}, "not both"),
    ({"family": "llamagen-vq", "image_size": 32}, {}, "holds images of 16 pixels, the model takes 32"),
    ({"family": "llamagen-vq", **CONV}, {"networks": {"critic": {}}}, r"networks: unknown \['critic'\]"),
    ({"family": "llamagen-vq", **CONV}, {"perceptual": 1, "networks": {"perceptual": "vgg"}},
     "unknown feature network"),
    ({"family": "llamagen-vq", **CONV}, {"adversarial": 1, "networks": {"discriminator": {"kind": "x"}}},
     "kind must be"),
    ({"family": "llamagen-vq", **CONV}, {"contrastive": 1}, "use the family unitok-clip"),
    ({"family": "llamagen-vq", **CONV}, {"teacher": "x"}, "belong to TiTok"),
])
def test_wrong_tokenizer_settings_are_refused(data, model, task, words):
    with pytest.raises(ValueError, match=words):
        image_tokenizer_task(config(data, model, task))


@pytest.mark.parametrize(("source", "model", "condition", "words"), [
    ("llamagen-vq", {"family": "llamagen"}, {"field": "shape"}, "the field must be one of"),
    ("llamagen-vq", {"family": "llamagen"}, {"label": "x"}, "unknown settings"),
    ("llamagen-vq", {"family": "llamagen", "num_codes": 99}, {}, "num_codes is 99, but tokenizer and data have 32"),
    ("llamagen-vq", {"family": "mar"}, {"text_encoder": "x"}, "reads classes, not captions"),
    ("unitok-clip", {"family": "llamagen"}, {}, "makes 2 codes a token"),
])
def test_wrong_generator_settings_are_refused(trained, data, source, model, condition, words):
    folder = trained(source)
    task = {"tokens": str(folder / "tokens.safetensors"), "image_tokenizer": str(folder / "export"),
            "condition": condition}
    with pytest.raises(ValueError, match=words):
        image_generator_task(config(data, model, task))


def test_mirrored_views_and_registered_names(trained, data, tmp_path):
    folder, images = trained("llamagen-vq"), ImageDataset(data).batch(np.arange(64))
    tokenizer = open_saved(folder / "export", ImageTokenizer)
    both = torch.cat([tokenizer.encode(view).values for view in (images, images.flip(-1))])
    Tokens(both).save(tmp_path / "both.safetensors")
    task = image_generator_task(config(data, {"name": "llamagen-b-256", "width": 32, "depth": 1, "num_heads": 2}, {
        "tokens": str(tmp_path / "both.safetensors"), "image_tokenizer": str(folder / "export"),
        "condition": {"field": "label"}}))
    assert task.model.config.num_classes == len(SHAPES) and task.model.config.grid_size == 4
    drawn = [task.batch(np.arange(8), np.random.default_rng(seed)) for seed in range(20)]
    for batch in drawn:
        for row in range(8):
            assert any(torch.equal(batch["tokens"].values[row], both[place]) for place in (row, 64 + row))
    assert any(not torch.equal(batch["tokens"].values, both[:8]) for batch in drawn)
    with pytest.raises(ValueError, match="63 token rows for 64 images"):
        Tokens(both[:63]).save(tmp_path / "few.safetensors")
        image_generator_task(config(data, {"family": "llamagen"}, {
            "tokens": str(tmp_path / "few.safetensors"), "image_tokenizer": str(folder / "export")}))
