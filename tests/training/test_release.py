"""Pipeline folders from exports of trainings."""

import json

import pytest
import torch
from safetensors.torch import load_file
from speech import SMALL_SPEECH, small_codec, small_speech
from tiny import small_pipeline

from photophone import SpeechEnhancer, SpeechFlowAR, TextToImagePipeline, TextToSpeechPipeline
from photophone.pipelines.speech_enhancement import SpeechEnhancementPipeline
from photophone.training.release import enhancement_pipeline, image_pipeline, speech_pipeline, write_release

SMALL_ENHANCER = {"channels": [8, 12, 16], "squeeze": 4, "width": 32, "hidden": 48, "depth": 2, "token_depth": 1,
                  "token_dim": 4}


@pytest.fixture
def exports(tmp_path):
    """Folders as trainings leave them, by the arguments of the functions that put them together."""
    whole = small_pipeline()
    whole.text_tokenizer.save_pretrained(tmp_path / "captions" / "text_tokenizer")
    whole.token_generator.save_pretrained(tmp_path / "captions" / "token_generator")
    whole.image_tokenizer.save_pretrained(tmp_path / "image_tokenizer")
    small_codec().save_pretrained(tmp_path / "codec")
    small_speech().save_pretrained(tmp_path / "speech")
    torch.manual_seed(0)
    SpeechEnhancer(**SMALL_ENHANCER).save_pretrained(tmp_path / "enhancer")
    return {image_pipeline: {"image_tokenizer": tmp_path / "image_tokenizer", "generator": tmp_path / "captions"},
            speech_pipeline: {"codec": tmp_path / "codec", "generator": tmp_path / "speech"},
            enhancement_pipeline: {"enhancer": tmp_path / "enhancer"}}


@pytest.mark.parametrize(("build", "pipeline_class"), [
    (image_pipeline, TextToImagePipeline), (speech_pipeline, TextToSpeechPipeline),
    (enhancement_pipeline, SpeechEnhancementPipeline)], ids=lambda value: value.__name__)
def test_a_release_has_its_name_its_revision_and_16_bits(exports, tmp_path, build, pipeline_class):
    output = tmp_path / "release"
    megabytes = write_release(build(**exports[build]), output, "my/model", "1.5")
    files = list(output.rglob("*.safetensors"))
    assert megabytes == pytest.approx(sum(file.stat().st_size for file in files) / 1e6) and files
    for file in files:
        kinds = {tensor.dtype for tensor in load_file(file).values()}
        assert torch.float16 in kinds and torch.float32 not in kinds
        assert json.loads((file.parent / "config.json").read_text())["_name_or_path"] == "my/model"
    pipeline = pipeline_class.from_pretrained(output)
    assert pipeline.source["revision"] == "1.5"
    card = (output / "README.md").read_text()
    assert card.startswith("# my/model\n") and "Revision: 1.5" in card
    assert all(f"`{part.parent.name}`" in card for part in files)


def test_a_card_that_was_written_by_hand_stays(exports, tmp_path):
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "README.md").write_text("by hand")
    write_release(enhancement_pipeline(**exports[enhancement_pipeline]), tmp_path / "release", "my/model", "2")
    assert (tmp_path / "release" / "README.md").read_text() == "by hand"


def test_parts_that_do_not_fit_are_refused(exports, tmp_path):
    SpeechFlowAR(**{**SMALL_SPEECH, "token_dim": 6}).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="the generator makes tokens of 6 channels, the codec reads 8"):
        speech_pipeline(exports[speech_pipeline]["codec"], tmp_path / "other")
