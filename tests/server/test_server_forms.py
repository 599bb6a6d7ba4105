"""Requests as multipart forms: a recorded voice as a file, the same limits as in JSON, and nothing that is left."""

import asyncio
import io
import json
import os

import numpy as np
import pytest
import soundfile
import torch
from speech_folders import write_voxcpm
from test_server_limits import Wire
from test_server_routes import ENHANCE, SPEECH, TEXT, ask, seeded, sound_of, speech
from test_server_voices import in_base64, sound_file

from photophone import SpeechEnhancementPipeline, TextToSpeechPipeline, Voice
from photophone.data.audio_stream import AudioReader
from photophone.server.app import Settings, build_app
from photophone.server.sound_routes import VOICE_FILE_BYTES


@pytest.fixture(scope="module")
def app():
    """Speech of one voice, and enhancement."""
    app = build_app(Settings(), {"speech": TextToSpeechPipeline.from_pretrained("photophone/tiny-speech"),
                                 "enhance": SpeechEnhancementPipeline.from_pretrained("photophone/tiny-enhance")})
    yield app
    app.state.models.close()


@pytest.fixture(scope="module")
def cloner(tmp_path_factory):
    """A pipeline that speaks in any voice."""
    torch.manual_seed(0)
    made = TextToSpeechPipeline.from_original("voxcpm-0.5b", write_voxcpm(tmp_path_factory.mktemp("v1"), "v1"))
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def cloning_app(cloner):
    app = build_app(Settings(), {"speech": cloner})
    yield app
    app.state.models.close()


def form(path, files=None, **fields):
    """A request with a form; without files too."""
    parts = [(name, (None, str(value))) for name, values in fields.items()
             for value in (values if isinstance(values, list) else [values])]
    return "POST", path, {"files": [*parts, *(files or {}).items()]}


def spoken(files=None, **fields):
    return form(SPEECH, files, **{"model": "tts-1", "input": TEXT, "seed": 1, **fields})


def error_of(answer, status=400):
    assert answer.status_code == status, answer.text
    return answer.json()["error"]["message"]


def test_a_form_says_what_json_says(app):
    asked, sent = ask(app, speech(response_format="pcm", sample_rate=8000, speed=1.5, stream=False),
                      spoken(response_format="pcm", sample_rate=8000, speed=1.5, stream="false", voice="alloy"))
    assert sent.status_code == 200 and sent.headers["x-sample-rate"] == "8000" and sent.headers["x-seed"] == "1"
    audio, expected = (np.frombuffer(answer.content, "<i2") / 32768 for answer in (sent, asked))
    assert audio.shape == expected.shape and np.abs(audio - expected).max() < 4e-4


def test_lists_of_a_form_are_written_as_clients_do(app):
    asked = {"timestamp_granularities[]": ["word", "phoneme"], "stream_format": "json"}
    facts = ask(app, spoken(**asked))[0].json()
    assert [word["word"] for word in facts["words"]][:3] == ["Light", "carries", "sound"] and facts["phonemes"]


def encoded(audio, rate, kind, subtype):
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=kind, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"),
                                               ("MP3", "MPEG_LAYER_III")])
def test_a_voice_is_sent_as_a_file(cloning_app, cloner, kind, subtype):
    rate = cloner.codec.sample_rate
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(0.02 * rate)) / rate)
    data = encoded(tone, rate, kind, subtype)
    reader = AudioReader(data)
    heard = np.concatenate(list(reader.blocks()), axis=1).mean(axis=0)
    options = {"num_inference_steps": 2}
    expected = cloner("a hen", voice=Voice(heard, reader.sample_rate, "he had a cat."), generator=seeded(7),
                      **options).audio[0]
    fields = {"input": "a hen", "seed": 7, "response_format": "wav", "stream": "false", **options}
    answer = ask(cloning_app, spoken({"voice": ("me.exe", data)}, voice_text="he had a cat.", **fields))[0]
    audio, made_rate = sound_of(answer)
    assert made_rate == cloner.sample_rate and audio.shape == expected.shape
    assert np.abs(audio - expected.clip(-1, 1)).max() < 2e-4


def test_a_file_and_base64_are_one_voice_alone_and_together(cloning_app, cloner):
    data = sound_file(cloner.codec.sample_rate)
    fields = {"input": "a hen", "seed": 3, "response_format": "wav", "num_inference_steps": 2}
    requests = [spoken({"voice": ("v.wav", data)}, voice_text="he had a cat.", stream="false", **fields),
                speech(voice=in_base64(data, text="he had a cat."), stream=False, **fields)]
    together = [sound_of(answer)[0] for answer in ask(cloning_app, *requests)]
    alone = sound_of(ask(cloning_app, requests[0])[0])[0]
    for audio in together:
        assert audio.shape == alone.shape and np.abs(audio - alone).max() < 4e-4


def test_a_model_of_one_voice_refuses_a_recording_before_it_is_decoded(app):
    answer = ask(app, spoken({"voice": ("v.wav", b"no sound at all")}, voice_text="no."))[0]
    message = error_of(answer)
    assert "voice" in message and "takes no recording" in message


@pytest.mark.parametrize(("data", "words"), [
    (b"", "voice: the file is empty"), (b"\x89PNG\r\n\x1a\n" + bytes(300), "voice: "),
    (sound_file(16000)[:60], "voice: "), (bytes(VOICE_FILE_BYTES + 1), "voice is over the limit of 3 MB"),
    (encoded(np.zeros(61 * 8000), 8000, "FLAC", "PCM_16"), "60")])
def test_bad_recordings_are_told(cloning_app, data, words):
    message = error_of(ask(cloning_app, spoken({"voice": ("../../etc/passwd", data)}, voice_text="a cat."))[0])
    assert words in message and "passwd" not in message
    if 0 < len(data) <= VOICE_FILE_BYTES:
        assert error_of(ask(cloning_app, speech(voice=in_base64(data, text="a cat.")))[0]) == message


@pytest.mark.parametrize(("fields", "words"), [
    ({"speed": "nan"}, "speed"), ({"speed": "9"}, "speed"), ({"seed": "-1"}, "seed"), ({"seed": "1.5"}, "seed"),
    ({"sample_rate": "44100"}, "sample_rate"), ({"colour": "red"}, "colour: there is no such field"),
    ({"input": ["a", "b"]}, "input is given twice"), ({"voice_text": "hello"}, "voice_text belongs to a recording"),
    ({"voice": "bob"}, "default"), ({"voice": "x" * 300}, "voice: a file, or a name"), ({"input": "x" * 5000}, "4096"),
    ({"stream": "maybe"}, "stream"), ({"timestamp_granularities[]": ["word"] * 3}, "timestamp_granularities")])
def test_fields_of_a_form_have_their_limits(app, fields, words):
    assert words in error_of(ask(app, spoken(**fields))[0])


def test_a_file_is_no_text_and_text_is_no_file(app):
    assert "input" in error_of(ask(app, form(SPEECH, {"input": ("a.txt", b"Hello.")}, model="tts-1"))[0])
    assert "file: a file is expected" in error_of(ask(app, form(ENHANCE, file="RIFF"))[0])
    assert "file: Field required" in error_of(ask(app, form(ENHANCE, mix="1"))[0])
    many = [("file", ("a.wav", b"x"))] * 9
    assert "Too many files" in error_of(ask(app, ("POST", ENHANCE, {"files": many}))[0])
    twice = [("file", ("a.wav", b"x"))] * 2
    assert "file is given twice" in error_of(ask(app, ("POST", ENHANCE, {"files": twice}))[0])


def test_enhancement_has_the_rules_of_the_other_forms(app):
    data = sound_file(16000, 0.3)
    good, unknown, other = ask(app, form(ENHANCE, {"file": data}, model="photophone/tiny-enhance", mix="0.5"),
                               form(ENHANCE, {"file": data}, volume="2"), form(ENHANCE, {"file": data}, model="none"))
    assert good.status_code == 200
    assert "volume: there is no such field" in error_of(unknown)
    assert "photophone/tiny-enhance" in error_of(other, 404)


@pytest.mark.parametrize(("kind", "content"), [
    ("multipart/form-data", b"{}"), ("multipart/form-data; boundary=x", b"--x\r\nno header"),
    ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n'),
    ("multipart/form-data; boundary=" + "x" * 400, b"--"), ("multipart/form-data; boundary=x", b""),
    ("MULTIPART/FORM-DATA;boundary=\xff", b"--\xff--"),
    *((f"multipart/form-data; boundary=x; charset={name}",
       b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n--x--\r\n')
      for name in ("undefined", "punycode", "nobody")),
    ("application/x-www-form-urlencoded", b"input=Hi.&model=tts-1")])
@pytest.mark.parametrize("path", [SPEECH, ENHANCE])
def test_what_is_no_form_is_refused(app, path, kind, content):
    headers = {"content-type": kind.encode("latin-1")}
    assert error_of(ask(app, ("POST", path, {"content": content, "headers": headers}))[0])


def test_who_leaves_while_a_form_is_sent_is_forgotten(app, capfd):
    async def scenario():
        wire = Wire({}, ENHANCE)
        wire.scope["headers"] = [(b"content-type", b"multipart/form-data; boundary=x")]
        wire.messages.get_nowait()
        wire.messages.put_nowait({"type": "http.request", "body": b"--x\r\n", "more_body": True})
        wire.leave()
        await wire.start(app)
        return wire.sent

    assert asyncio.run(scenario())[0]["status"] == 499 and "Traceback" not in capfd.readouterr().err


def test_uploads_leave_no_file(app, cloning_app, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    large = sound_file(16000, 20)  # over the megabyte that is kept in memory
    assert len(large) > 1_200_000
    ask(app, form(ENHANCE, {"file": large}))  # the process that decodes stays
    opened = len(os.listdir("/proc/self/fd"))
    kinds = [form(ENHANCE, {"file": large}, mix="x"), form(ENHANCE, {"file": large}, mix="0.5"),
             spoken({"voice": ("v.wav", large)}, voice_text="a")]
    statuses = [answer.status_code for answer in ask(app, *kinds)]
    assert statuses == [400, 200, 400] and not list(tmp_path.iterdir())
    assert len(os.listdir("/proc/self/fd")) == opened


def test_the_schema_describes_forms(app):
    schema = ask(app, ("GET", "/openapi.json", {}))[0].json()
    told = {path: schema["paths"][path]["post"]["requestBody"]["content"] for path in (SPEECH, ENHANCE)}
    assert set(told[SPEECH]) == {"application/json", "multipart/form-data"} and set(told[ENHANCE]) == {
        "multipart/form-data"}
    fields = told[SPEECH]["multipart/form-data"]["schema"]["properties"]
    assert fields["voice"]["anyOf"][0] == {"type": "string", "format": "binary"}
    assert fields["input"]["maxLength"] == 4096 and "maxLength" in json.dumps(fields["voice_text"])
    assert told[ENHANCE]["multipart/form-data"]["schema"]["required"] == ["file"]
