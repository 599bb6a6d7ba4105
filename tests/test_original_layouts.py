"""Models that are written in the layout of their authors have the keys and values of the recorded official weights."""

import pytest
import torch
from official import official_models

from photophone.loading.checkpoints import OriginalCheckpoint, content_of

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
