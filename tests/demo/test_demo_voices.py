"""The speech tab with a model of named voices: visitors choose one by its name."""

import gradio as gr
import pytest
from speech import SMALL_SPEECH, small_codec
from tiny import shake

from photophone import TextToSpeechPipeline
from photophone.demo.live import LiveAudio
from photophone.demo.models import Choice, Shelf
from photophone.demo.parts import Demo
from photophone.demo.speech_tab import build_speech_tab, named_voice
from photophone.generators.speech_ar.model import SpeechFlowAR

PAIRS = [["heart", "american"], ["emma", "british"]]
SETTINGS = [1.0, 7, False, 2, 1.0, 1.0]


@pytest.fixture(scope="module")
def pipeline():
    return TextToSpeechPipeline(shake(SpeechFlowAR(**SMALL_SPEECH, voices=PAIRS)), small_codec())


def test_a_voice_is_chosen_by_its_name(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    shelf = Shelf("cpu")
    with gr.Blocks() as page:
        build_speech_tab(Demo(Choice(speech=str(tmp_path)), shelf, LiveAudio()))
    handler = next(one for one in page.fns.values() if one.api_name == "speech")
    assert [part.elem_id for part in handler.inputs[7:]] == ["speech-name"]
    assert [name for name, _ in handler.inputs[7].choices] == ["heart", "emma"]
    made = {}
    for name in ("heart", "emma"):
        *_, last = handler.fn("Yes.", *SETTINGS, name)
        made[name] = last[1][1].tobytes()
        assert last[-1]["settings"]["voice"] == name
    shelf.close()
    assert len(set(made.values())) == 2


def test_other_names_are_refused(pipeline):
    for name in ("george", None, ["heart"]):
        with pytest.raises(ValueError, match="there is no voice .*; there are heart, emma"):
            named_voice(name, pipeline)
