"""Word times and recorded voices over HTTP: what the pipeline tells, and voices that are continued."""

import base64
import io
import json

import numpy as np
import pytest
import soundfile
import torch
from speech_folders import write_voxcpm
from test_server_routes import SPEECH, TEXT, ask, seeded, sound_of, speech

from photophone import TextToSpeechPipeline, Voice
from photophone.core.limits import SERVER_REQUEST_BYTES, SERVER_VOICE_BYTES
from photophone.server.app import Settings, build_app


@pytest.fixture(scope="module")
def speaker():
    return TextToSpeechPipeline.from_pretrained("photophone/tiny-speech")


@pytest.fixture(scope="module")
def app(speaker):
    app = build_app(Settings(), {"speech": speaker})
    yield app
    app.state.models.close()


@pytest.fixture(scope="module")
def spoken(speaker):
    return speaker(TEXT, generator=seeded(1))


def expected_words(spoken):
    return [{"word": word.text, "start": word.start, "end": word.end} for word in spoken.words[0]]


def test_one_object_holds_sound_and_times(app, spoken):
    answer = ask(app, speech(stream_format="json", response_format="wav",
                             timestamp_granularities=["word", "phoneme"]))[0]
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    facts = answer.json()
    audio, rate = soundfile.read(io.BytesIO(base64.b64decode(facts["audio"])), dtype="float32")
    assert rate == facts["sample_rate"] == 24000 and np.abs(audio - spoken.audio[0]).max() < 2e-4
    assert facts["duration"] == pytest.approx(len(audio) / rate, abs=1e-3)
    assert (facts["seed"], facts["format"], facts["usage"]["input_tokens"]) == (1, "wav", len(TEXT))
    assert [word["word"] for word in facts["words"]] == [word["word"] for word in expected_words(spoken)]
    for ours, word in zip(facts["words"], expected_words(spoken)):
        assert (ours["start"], ours["end"]) == pytest.approx((word["start"], word["end"]), abs=1e-6)
    sounds = [one.text for word in spoken.words[0] for one in word.phonemes]
    assert [one["phoneme"] for one in facts["phonemes"]] == sounds


def test_the_last_event_tells_the_words_that_were_asked_for(app, spoken):
    answer = ask(app, speech(stream_format="sse", timestamp_granularities=["word"]))[0]
    last = json.loads(answer.text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert last["type"] == "speech.audio.done" and "phonemes" not in last and last["usage"]["output_tokens"] > 0
    assert [word["word"] for word in last["words"]] == [word["word"] for word in expected_words(spoken)]
    plain = ask(app, speech(stream_format="sse"))[0]
    assert "words" not in json.loads(plain.text.strip().split("\n\n")[-1].removeprefix("data: "))


def test_times_in_a_batch_are_those_alone(app):
    asked = [speech(input=text, seed=seed, stream_format="json", timestamp_granularities=["word"])
             for seed, text in enumerate(["Eight.", TEXT, "Who goes there? The sun is warm."])]
    together = [answer.json()["words"] for answer in ask(app, *asked)]
    assert together == [ask(app, request)[0].json()["words"] for request in asked]


@pytest.mark.parametrize(("fields", "words"), [
    ({"timestamp_granularities": ["word"]}, "sound has no room for them"),
    ({"timestamp_granularities": ["segment"], "stream_format": "json"}, "timestamp_granularities"),
    ({"stream_format": "xml"}, "stream_format"),
    ({"voice": {"audio": "no base64!"}}, "voice.audio is no base64"),
    ({"voice": {"audio": base64.b64encode(b"no sound at all").decode()}}, "takes no recording"),
    ({"voice": {"audio": "A" * (SERVER_VOICE_BYTES + 4)}}, "voice"),
    ({"voice": {"audio": "AAAA", "colour": 1}}, "voice"),
])
def test_wrong_fields_are_told(app, fields, words):
    answer = ask(app, speech(**fields))[0]
    assert answer.status_code == 400 and words in json.dumps(answer.json()["error"])


def sound_file(rate, seconds=0.02):
    time = np.arange(round(rate * seconds)) / rate
    file = io.BytesIO()
    soundfile.write(file, 0.3 * np.sin(2 * np.pi * 440 * time), rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def in_base64(data, **fields):
    return {"audio": base64.b64encode(data).decode("ascii"), **fields}


def test_a_model_of_one_voice_refuses_a_recording(app):
    answer = ask(app, speech(voice=in_base64(sound_file(16000), text="no.")))[0]
    assert answer.status_code == 400 and "voice" in answer.json()["error"]["message"]


def test_requests_beyond_the_limit_are_refused_before_they_are_read(app):
    body = b" " * (SERVER_REQUEST_BYTES + SERVER_VOICE_BYTES + 1)
    answer = ask(app, ("POST", SPEECH, {"content": body, "headers": {"content-type": "application/json"}}))[0]
    assert answer.status_code == 413


def test_a_recording_is_spoken_with_by_a_model_that_can(tmp_path_factory):
    torch.manual_seed(0)
    pipeline = TextToSpeechPipeline.from_original("voxcpm-0.5b", write_voxcpm(tmp_path_factory.mktemp("v1"), "v1"))
    pipeline.set_progress_bar_config(disable=True)
    data = sound_file(pipeline.codec.sample_rate)
    audio, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    options = {"num_inference_steps": 3}
    expected = pipeline("a hen", voice=Voice(audio, rate, "he had a cat."), generator=seeded(7), **options).audio[0]
    app = build_app(Settings(), {"speech": pipeline})
    try:
        fields = {"input": "a hen", "seed": 7, "response_format": "wav", "stream": False, **options}
        cloned, own, timed = ask(app, speech(voice=in_base64(data, text="he had a cat."), **fields), speech(**fields),
                                 speech(**fields, stream_format="json", timestamp_granularities=["word"]))
    finally:
        app.state.models.close()
    heard, made_rate = sound_of(cloned)
    assert made_rate == pipeline.sample_rate and heard.shape == expected.shape
    assert np.abs(heard - expected.clip(-1, 1)).max() < 2e-4
    other = sound_of(own)[0]
    assert other.shape != heard.shape or np.abs(other - heard).max() > 1e-3
    assert timed.json()["words"] is None  # this model does not tell
