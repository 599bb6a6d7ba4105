"""Models that are written in the layout of their authors have the keys and values of the recorded official weights."""

import pytest
import torch
from official import official_models, official_variants
from official_layout import write_official

from photophone.core.config import shapes
from photophone.loading.checkpoints import OriginalCheckpoint, content_of
from photophone.loading.registry import find

WRITTEN = sorted(name for name, (model_class, *_) in official_models().items()
                 if model_class.original_keys is not OriginalCheckpoint.original_keys)


def test_the_written_families_are_recorded():
    classes = {name.split()[1] for name in WRITTEN}
    assert classes >= {"SparkTTS", "VoxCPM", "CosyVoiceQwenLM", "CosyVoiceRelativeLM"}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_official_layout_is_that_of_the_authors(name):
    model_class, state, config, beside = official_models()[name]
    model = model_class.load_content(None, content_of(state), None, config, beside)
    written = model.original_state_dict()
    known, dropped = model_class.split_dropped(state)
    if config.get("tied", True):  # transformers leaves it out of files, or writes it twice
        known.pop("lm_head.weight", None)
    assert known.keys() <= written.keys() <= {**known, **dropped}.keys()
    for key, value in known.items():
        torch.testing.assert_close(written[key], value, rtol=0, atol=0, check_dtype=False)


@pytest.mark.parametrize("name", ["maskgen MaskGenKL", "var VARTokenizer", "llamagen LlamaGenGPT",
                                  "seed SEEDTokenizer"])
def test_the_layout_that_a_small_file_tells_is_that_file(name):
    model_class, state, config, _ = official_models()[name]
    known, _ = model_class.split_dropped(state)
    own = model_class.prepare_state_dict(dict(known), config)
    written = write_official(model_class, [(state, config)], own, config)
    assert written.keys() == known.keys()
    for key, value in known.items():
        torch.testing.assert_close(written[key], value, rtol=0, atol=0, check_dtype=False)


@pytest.mark.parametrize("name", ["var-d16", "var-vq16-256", "bar-b", "bitdance-b-4x", "llamagen-xl-t2i-256"])
def test_a_published_model_is_read_from_the_layout_that_small_files_tell(name):
    entry = find(name)
    model_class = entry.load_class()
    own = {key: torch.empty(shape, device="meta") for key, shape in shapes(model_class, entry.config).items()}
    official = write_official(model_class, official_variants(model_class), own, entry.config)
    again = model_class.prepare_state_dict(model_class.split_dropped(official)[0], entry.config)
    assert {key: value.shape for key, value in again.items()} == {key: value.shape for key, value in own.items()}


def test_a_layout_that_is_computed_cannot_be_told():
    model_class, state, config, _ = official_models()["bicodec BiCodec"]
    with pytest.raises(ValueError, match="is computed from official tensors, not taken"):
        write_official(model_class, [(state, config)], {}, config)
