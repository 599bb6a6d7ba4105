"""Transparent grounds: the equation that always holds, the built-in network, its training."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from tiny import SMALL_TOKENIZER, draw_icon, shake

from photophone import TextToImagePipeline
from photophone.tokenizers.icon_matting import IconMatting, colour_under, least_alpha, reached_from_border
from photophone.tokenizers.latent1d.model import Latent1DTokenizer
from photophone.training.loop.config import TrainConfig
from photophone.training.tasks.icon_matting import AlphaIcons, matting_task


def on_white(rgba):
    """(1, 3, H, W) in [-1, 1], and the opacity (1, 1, H, W), of a transparent picture of Pillow."""
    white = Image.new("RGBA", rgba.size, "white")
    white.alpha_composite(rgba)
    pixels = torch.from_numpy(np.asarray(white.convert("RGB")).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    return pixels, torch.from_numpy(np.asarray(rgba.getchannel("A")).copy())[None, None].float() / 255


def eye(size=64):
    """A white disc with a black rim and a blue middle, on nothing."""
    large = Image.new("RGBA", (4 * size, 4 * size))
    draw = ImageDraw.Draw(large)
    draw.ellipse((40, 40, 4 * size - 40, 4 * size - 40), fill="white", outline="black", width=20)
    draw.ellipse((2 * size - 30, 2 * size - 30, 2 * size + 30, 2 * size + 30), fill="blue")
    return large.resize((size, size), Image.Resampling.LANCZOS)


@pytest.mark.parametrize("network", ["random", "built-in"])
def test_on_white_the_picture_comes_back(network):
    torch.manual_seed(0)
    matting = shake(IconMatting(channels=[4, 8])) if network == "random" else TextToImagePipeline.from_pretrained(
        "photophone/tiny-image").matting
    images = 2 * torch.rand(3, 3, 64, 64) - 1
    cut = matting.cut_out(images)
    alpha = (cut[:, 3:] + 1) / 2
    assert float(alpha.min()) >= 0 and float(alpha.max()) <= 1 and float(cut[:, :3].abs().max()) <= 1
    torch.testing.assert_close(alpha * cut[:, :3] + (1 - alpha), images, atol=1e-5, rtol=0)
    assert bool((alpha >= least_alpha(images) - 1e-6).all())


def test_the_colour_of_half_a_red_is_red():
    half = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)  # red at half opacity on white, in [-1, 1]
    torch.testing.assert_close(colour_under(half, torch.full((1, 1, 1, 1), 0.5)).flatten(), torch.tensor([1.0, -1, -1]))
    torch.testing.assert_close(colour_under(torch.ones(1, 3, 1, 1), torch.zeros(1, 1, 1, 1)).flatten(), torch.ones(3))


def test_the_built_in_network_keeps_the_white_of_an_eye():
    matting = TextToImagePipeline.from_pretrained("photophone/tiny-image").matting
    assert matting.num_parameters() < 100_000
    images, alpha = on_white(eye())
    with torch.no_grad():
        found = matting.opacity(images)
    error, trivial = ((one - alpha).abs().mean() for one in (found, least_alpha(images)))
    assert error < 0.6 * trivial
    assert float(found[0, 0, :6].max()) < 0.2  # of the ground nothing is left


def test_enclosed_white_is_not_reached_from_the_border():
    images = torch.ones(1, 3, 12, 12)
    images[..., 3:9, 3:9] = -1
    images[..., 5:7, 5:7] = 1
    reached = reached_from_border(images)[0, 0].bool()
    assert int(reached.sum()) == 144 - 36 and not bool(reached[3:9, 3:9].any())
    images[..., 5, 3:5] = 1  # a way in
    assert int(reached_from_border(images).sum()) == 144 - 36 + 4 + 2


def icons_with_alpha(file, count=8, size=16):
    images, alphas = [], []
    for index in range(count):
        look = ("red", "blue")[index % 2], ("circle", "ring", "cross", "bar")[index % 4]
        array = np.asarray(draw_icon(*look, size).convert("RGB"))
        images.append(array)
        alphas.append(np.where((array == array[0, 0]).all(axis=2), 0, 255).astype(np.uint8))
    save_file({"images": torch.from_numpy(np.stack(images)), "alphas": torch.from_numpy(np.stack(alphas))}, file)
    rows = [{"caption": f"{n}", "label": f"label {n}", "style": "", "tags": "", "colours": ""} for n in range(count)]
    file.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_training_lowers_the_error(tmp_path):
    torch.manual_seed(0)
    Latent1DTokenizer(**SMALL_TOKENIZER).save_pretrained(tmp_path / "tokenizer")
    data = icons_with_alpha(tmp_path / "icons.safetensors", 40)
    settings = TrainConfig(str(data), model={"channels": [4, 8]}, task={"tokenizer": str(tmp_path / "tokenizer"),
                                                                       "own_share": 1.0})
    task = matting_task(settings)
    assert task.num_examples == 38 and len(task.held) == 2  # one label in twenty is kept apart
    before = task.validate(task.model)["alpha_error_own"]
    optimizer = torch.optim.Adam(task.model.parameters(), 0.02)
    for step in range(40):
        batch = task.batch(np.arange(step % 4, 38, 4), np.random.default_rng(step))
        loss, _ = task.loss(task.model, batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert task.validate(task.model)["alpha_error_own"] < 0.5 * before
    assert task.preview(task.model).width > 16
    task.export(task.model, tmp_path / "export")
    assert IconMatting.from_pretrained(tmp_path / "export").config.channels == [4, 8]


def test_data_without_opacities_and_settings_without_a_tokenizer_are_refused(tmp_path):
    data = icons_with_alpha(tmp_path / "icons.safetensors")
    assert len(AlphaIcons([data], every=3)) == 3
    with pytest.raises(ValueError, match="'tokenizer' is missing"):
        matting_task(TrainConfig(str(data)))
    save_file({"images": torch.zeros(8, 16, 16, 3, dtype=torch.uint8)}, data)
    with pytest.raises(ValueError, match="holds no opacities"):
        AlphaIcons([data])
