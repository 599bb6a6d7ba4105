"""Twice the size: the network, the pipeline's sizes, its training."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SMALL_TOKENIZER, draw_icon, shake, small_pipeline

from photophone.data.images import write_prepared
from photophone.tokenizers.icon_upscaler import IconUpscaler, enlarge
from photophone.tokenizers.latent1d.model import Latent1DTokenizer
from photophone.training.loop.config import TrainConfig
from photophone.training.tasks.icon_upscaling import halved, upscaling_task

SMALL = {"channels": [16, 16], "depths": [1, 1, 0]}
PROMPT = "red circle, flat emoji"
FAST = {"num_inference_steps": 2}


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def test_it_begins_as_the_bicubic_enlargement():
    images = torch.rand(2, 3, 16, 16, generator=seeded()) * 2 - 1
    torch.testing.assert_close(IconUpscaler(**SMALL)(images), enlarge(images, 2))
    made = shake(IconUpscaler(**SMALL)).upscale(images)
    assert made.shape == (2, 3, 32, 32) and made.abs().max() <= 1
    assert (made - enlarge(images, 2)).abs().max() > 0.01


@pytest.mark.parametrize(("changes", "words"), [({"channels": [16]}, "two multiples of 16, got .16."),
                                                ({"channels": [8, 16]}, "two multiples of 16"),
                                                ({"depths": [1, 1]}, "three numbers"),
                                                ({"depths": [1, -1, 0]}, "got -1")])
def test_wrong_settings_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        IconUpscaler(**{**SMALL, **changes})


def test_halving_is_the_mean_of_four_pixels():
    large = torch.randint(0, 256, (3, 3, 8, 6), generator=seeded(), dtype=torch.uint8)
    expected = large.float().unflatten(2, (4, 2)).unflatten(4, (3, 2)).mean(dim=(3, 5))
    assert (halved(large).float() - expected).abs().max() <= 0.5


@pytest.fixture(scope="module")
def pipeline():
    made = small_pipeline()
    made.register_modules(upscaler=shake(IconUpscaler(**SMALL)))
    return made


def test_a_pipeline_makes_both_sizes(pipeline, tmp_path):
    small = pipeline(PROMPT, generator=seeded(), output_type="pt", **FAST).images
    large = pipeline(PROMPT, generator=seeded(), height=32, width=32, output_type="pt", **FAST)
    torch.testing.assert_close(large.images, pipeline.upscaler.upscale(small))
    assert large.settings["size"] == 32 and pipeline.sizes == [16, 32]
    assert pipeline(PROMPT, generator=seeded(), height=32, **FAST).images[0].size == (32, 32)
    pipeline.save_pretrained(tmp_path)
    again = type(pipeline).from_pretrained(tmp_path)
    torch.testing.assert_close(again(PROMPT, generator=seeded(), width=32, output_type="pt", **FAST).images,
                               large.images)


def test_edits_take_the_size(pipeline):
    picture = draw_icon("blue", "ring", 40)
    options = {"generator": [seeded()], "height": 32, "width": 32, **FAST}
    assert pipeline.variations(picture, PROMPT, num_images=1, **options).images[0].size == (32, 32)
    assert pipeline.inpaint(picture, (0, 0, 8, 16), PROMPT, **options).images[0].size == (32, 32)
    between = pipeline.interpolate(PROMPT, "blue ring, flat emoji", num_images=2, height=32, width=32, **FAST)
    assert [image.size for image in between.images] == [(32, 32)] * 2


@pytest.mark.parametrize(("options", "words"), [
    ({"height": 128}, "height 128 is not possible; this model makes 16x16 or 32x32 images"),
    ({"height": 16, "width": 32}, "height 16 and width 32 differ"),
    ({"height": 32, "width": 32, "output_type": "latent"}, "a size of 32 belongs to images"),
])
def test_sizes_that_are_not_there_are_refused(pipeline, options, words):
    with pytest.raises(ValueError, match=words):
        pipeline(PROMPT, **options, **FAST)
    with pytest.raises(ValueError, match="makes 16x16 images"):
        small_pipeline()(PROMPT, height=32, width=32)


def icons(file, size=32, count=40):
    looks = [(colour, shape) for colour in ("red", "blue", "green", "black") for shape in ("circle", "ring", "cross")]
    images = [np.asarray(draw_icon(*looks[n % len(looks)], size).convert("RGB")) for n in range(count)]
    rows = [{"caption": f"{n}", "label": f"label {n}", "style": "", "tags": "", "colours": ""} for n in range(count)]
    write_prepared(images, rows, file)
    return file


def test_training_beats_the_bicubic_enlargement(tmp_path):
    torch.manual_seed(0)
    Latent1DTokenizer(**SMALL_TOKENIZER).save_pretrained(tmp_path / "tokenizer")
    settings = {"tokenizer": str(tmp_path / "tokenizer"), "own_share": 1.0}
    data = icons(tmp_path / "icons.safetensors")
    task = upscaling_task(TrainConfig(str(data), model=SMALL, task=settings))
    assert task.num_examples == 38 and len(task.held) == 2  # one label in twenty is kept apart
    before = task.validate(task.model)
    assert before["psnr_own"] == pytest.approx(before["bicubic_psnr_own"], abs=1e-3)
    optimizer = torch.optim.Adam(task.model.parameters(), 0.003)
    for step in range(60):
        loss, _ = task.loss(task.model, task.batch(np.arange(step % 4, 38, 4), np.random.default_rng(step)), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = task.validate(task.model)
    assert after["psnr_own"] > after["bicubic_psnr_own"] + 1
    assert isinstance(task.preview(task.model), Image.Image)
    task.export(task.model, tmp_path / "export")
    again = upscaling_task(TrainConfig(str(data), task=settings, init_from=str(tmp_path / "export")))
    assert again.validate(again.model) == after


def test_data_and_settings_that_do_not_fit_are_refused(tmp_path):
    Latent1DTokenizer(**SMALL_TOKENIZER).save_pretrained(tmp_path / "tokenizer")
    settings = {"tokenizer": str(tmp_path / "tokenizer")}
    large, small = icons(tmp_path / "large.safetensors"), icons(tmp_path / "small.safetensors", 16)
    with pytest.raises(ValueError, match="'tokenizer' is missing"):
        upscaling_task(TrainConfig(str(large)))
    with pytest.raises(ValueError, match="16x16 pixels; 32x32 are needed"):
        upscaling_task(TrainConfig(str(small), model=SMALL, task=settings))
    with pytest.raises(ValueError, match="different sizes: 16, 32 pixels"):
        upscaling_task(TrainConfig(str(large), model=SMALL, task={**settings, "more_data": [str(small)]}))
    assert len(upscaling_task(TrainConfig(str(large), model=SMALL, task={**settings, "every": 4})).images) == 10
