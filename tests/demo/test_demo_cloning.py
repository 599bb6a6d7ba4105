"""The speech tab with a model that reads voices: a recording, its words and how to speak go into the call."""

import gradio as gr
import numpy as np
import pytest
import soundfile
from speech_folders import write_voxcpm

from photophone import TextToSpeechPipeline
from photophone.demo.live import LiveAudio
from photophone.demo.models import Choice, Shelf
from photophone.demo.parts import Demo
from photophone.demo.speech_tab import build_speech_tab, given_voice
from photophone.demo.uploads import Upload

SETTINGS = [1.0, 7, False, 2, 2.0, 1.0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("voxcpm")
    TextToSpeechPipeline.from_original("voxcpm-2", write_voxcpm(path, "v2")).save_pretrained(path / "saved")
    return path / "saved"


def recording(path):
    soundfile.write(path, 0.3 * np.sin(np.arange(400) / 6), 16_000)
    return Upload(path.read_bytes(), path)


def test_a_visitors_voice_is_spoken_with(folder, tmp_path):
    shelf = Shelf("cpu")
    with gr.Blocks() as page:
        tab = build_speech_tab(Demo(Choice(speech=str(folder)), shelf, LiveAudio()))
    handler = next(one for one in page.fns.values() if one.api_name == "speech")
    assert len(handler.inputs) == 10 and [part.elem_id for part in handler.inputs[7:]] == [
        "speech-voice", "speech-words", "speech-style"]
    upload = recording(tmp_path / "voice.wav")
    made = []
    for voice in ([None, "", ""], [upload, "no.", ""], [upload, "", "low"]):
        *_, last = handler.fn("a hen", *SETTINGS, *voice)
        made.append(last[1][1])
    shelf.close()
    assert tab["run"] is not None and all(len(one) > 0 for one in made)
    assert len({one.tobytes() for one in made}) == 3


def test_what_a_visitor_gives(tmp_path):
    upload = recording(tmp_path / "voice.wav")
    assert given_voice(None, " ", "") == {} and given_voice(None, "", " low ") == {"instruction": "low"}
    voice = given_voice(upload, "no. ", "")["voice"]
    assert voice.text == "no." and voice.sampling_rate == 16_000 and voice.audio.shape == (400,)
    assert given_voice(upload, "", "")["voice"].text is None
    for arguments, message in (((None, "no.", ""), "words of no recording"), ((None, 3, ""), "must be text"),
                               ((Upload(b"no sound", tmp_path / "x"), "", ""), "read|decode")):
        with pytest.raises(ValueError, match=message):
            given_voice(*arguments)
