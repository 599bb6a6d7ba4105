"""The server's routes, asked within one process: what they answer, and that nobody gets another one's result."""

import asyncio
import base64
import io
import json

import httpx
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from tiny import small_pipeline

from photophone.data.audio_stream import AudioReader
from photophone.data.resampling import resample_audio
from photophone.pipelines.speech_enhancement import SpeechEnhancementPipeline
from photophone.pipelines.text_to_speech import TextToSpeechPipeline
from photophone.server.app import Settings, build_app

TEXT = "Light carries sound. Eight boats came home."
RATE = 24_000
"""Of the built-in voices."""
SPEECH, IMAGES, ENHANCE = "/v1/audio/speech", "/v1/images/generations", "/v1/audio/enhance"


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pipelines():
    return {"speech": TextToSpeechPipeline.from_pretrained("photophone/tiny-speech"), "image": small_pipeline(),
            "enhance": SpeechEnhancementPipeline.from_pretrained("photophone/tiny-enhance")}


@pytest.fixture(scope="module")
def app(pipelines):
    app = build_app(Settings(), pipelines)
    yield app
    app.state.models.close()


def ask(app, *requests):
    """The answers to requests (method, path, options) that are made at the same time."""
    async def all_of_them():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=300) as client:
            return await asyncio.gather(*(client.request(method, path, **options)
                                          for method, path, options in requests))
    return asyncio.run(all_of_them())


def speech(**fields):
    return "POST", SPEECH, {"json": {"model": "tts-1", "input": TEXT, "voice": "alloy", "seed": 1, **fields}}


def sound_of(answer):
    """float32 (T,) or (C, T); by our reader, because soundfile takes no FLAC whose header does not know its length."""
    assert answer.status_code == 200, answer.text
    reader = AudioReader(answer.content)
    audio = np.concatenate(list(reader.blocks()), axis=1)
    return audio if len(audio) > 1 else audio[0], reader.sample_rate


@pytest.fixture(scope="module")
def spoken(pipelines):
    """What the pipeline alone says; made while no request is."""
    return pipelines["speech"](TEXT, generator=seeded(1)).audio[0]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", ["wav", "flac"])
def test_whole_samples_are_those_of_the_pipeline(app, spoken, name, stream):
    answer = ask(app, speech(response_format=name, stream=stream))[0]
    if name == "wav" and stream:
        assert answer.content[40:44] == b"\xff" * 4
        audio, rate = np.frombuffer(answer.content[44:], "<i2") / 32768, int(answer.headers["x-sample-rate"])
    else:
        audio, rate = sound_of(answer)
    assert rate == RATE and audio.shape == spoken.shape
    assert np.abs(audio - spoken).max() < 2e-4
    assert answer.headers["x-seed"] == "1"


@pytest.mark.parametrize("stream", [True, False])
def test_raw_samples_have_the_rate_that_clients_play(app, spoken, stream):
    answer = ask(app, speech(response_format="pcm", stream=stream))[0]
    assert np.abs(np.frombuffer(answer.content, "<i2") / 32768 - spoken).max() < 2e-4
    other = ask(app, speech(response_format="pcm", stream=stream, sample_rate=16000))[0]
    expected = resample_audio(torch.from_numpy(spoken), RATE, 16000).numpy()
    audio = np.frombuffer(other.content, "<i2") / 32768
    assert audio.shape == expected.shape and np.abs(audio - expected).max() < 3e-4


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", ["mp3", "opus"])
def test_coded_sound_is_that_of_the_pipeline(app, spoken, name, stream):
    audio, rate = sound_of(ask(app, speech(response_format=name, stream=stream))[0])
    if rate == 48000:  # as Opus is always decoded
        audio, rate = resample_audio(torch.from_numpy(audio), rate, RATE).numpy(), RATE
    assert rate == RATE and abs(len(audio) - len(spoken)) < 0.15 * rate
    size = 2 ** 17
    spectra = [np.fft.rfft(signal, size) for signal in (audio, spoken)]
    likeness = np.fft.irfft(spectra[0] * spectra[1].conj(), size).max() / np.sqrt(
        (audio**2).sum() * (spoken**2).sum())
    assert likeness > 0.9


def test_events_hold_the_bytes_of_the_stream(app):
    events, plain = ask(app, speech(stream_format="sse", response_format="wav"), speech(response_format="wav"))
    assert events.headers["content-type"].startswith("text/event-stream")
    told = [json.loads(line.removeprefix("data: ")) for line in events.text.split("\n\n") if line]
    assert [event["type"] for event in told[:-1]] == ["speech.audio.delta"] * (len(told) - 1) and len(told) > 3
    assert told[-1]["type"] == "speech.audio.done" and told[-1]["usage"]["input_tokens"] == len(TEXT)
    audio = b"".join(base64.b64decode(event["audio"]) for event in told[:-1])
    heard = [np.frombuffer(data[44:], "<i2").astype(int) for data in (audio, plain.content)]
    assert np.abs(heard[0] - heard[1]).max() <= 4


def test_requests_of_different_length_get_what_they_get_alone(app):
    texts = ["Eight.", TEXT, "The sun is warm, and that was the start. " * 3, "Who goes there?"] * 3
    asked = [speech(input=text, seed=seed, response_format="flac", stream=seed % 2 == 0)
             for seed, text in enumerate(texts)]
    together = [sound_of(answer)[0] for answer in ask(app, *asked)]
    for request, audio in zip(asked, together):
        alone = sound_of(ask(app, request)[0])[0]
        assert alone.shape == audio.shape and np.abs(alone - audio).max() < 4e-4
    rows = [line for line in ask(app, ("GET", "/metrics", {}))[0].text.splitlines()
            if line.startswith('photophone_batch_rows_bucket{kind="speech",le="4.0"}')]
    counted = float(rows[0].split()[-1])
    whole = app.state.metrics.registry.get_sample_value("photophone_batch_rows_count", {"kind": "speech"})
    assert counted < whole  # some rounds had more than four texts


def pictures(answer):
    assert answer.status_code == 200, answer.text
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(item["b64_json"])))).astype(int)
            for item in answer.json()["data"]]


def test_images_depend_on_their_own_seeds(app, pipelines):
    def draw(prompt, **fields):
        return "POST", IMAGES, {"json": {"prompt": prompt, "seed": 5, **fields}}

    asked = [draw("red circle", n=2), draw("blue ring"), draw("green bar", guidance_scale=3.0, n=3)]
    together = ask(app, *asked)
    expected = pipelines["image"](["red circle"] * 2, generator=[seeded(5), seeded(6)]).images
    for ours, image in zip(pictures(together[0]), expected, strict=True):
        assert np.abs(ours - np.asarray(image).astype(int)).max() <= 1
    for request, answer in zip(asked, together):
        for ours, alone in zip(pictures(answer), pictures(ask(app, request)[0]), strict=True):
            assert np.abs(ours - alone).max() <= 1
    assert [item["seed"] for item in together[2].json()["data"]] == [5, 6, 7]


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
def test_images_have_the_format_that_is_asked_for(app, name):
    answer = ask(app, ("POST", IMAGES, {"json": {"prompt": "red circle", "output_format": name}}))[0]
    (item,) = answer.json()["data"]
    assert Image.open(io.BytesIO(base64.b64decode(item["b64_json"]))).format == name.upper()


def recording(channels=1, rate=16000, format_="WAV", subtype="PCM_16"):
    noise = np.random.default_rng(0).normal(0, 0.05, (rate // 2, channels)).astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, noise, rate, format=format_, subtype=subtype)
    return file.getvalue()


def test_enhancement_is_that_of_the_pipeline(app, pipelines):
    data = recording(channels=2, rate=22050)
    form = {"mix": "0.5", "response_format": "flac"}
    answer = ask(app, ("POST", ENHANCE, {"files": {"file": data}, "data": form}))[0]
    audio, rate = sound_of(answer)
    noisy = soundfile.read(io.BytesIO(data), dtype="float32")[0].T
    expected = pipelines["enhance"](noisy, 22050, mix=0.5).audio[0]
    assert rate == 22050 and audio.shape == expected.shape
    assert np.abs(audio - expected).max() < 1e-4


def test_enhancement_without_a_share_takes_that_of_the_weights():
    live = SpeechEnhancementPipeline.from_pretrained("photophone/tiny-enhance-live")
    assert live.mix < 1
    app = build_app(Settings(), {"enhance": live})
    answer = ask(app, ("POST", ENHANCE, {"files": {"file": recording()}}))[0]
    app.state.models.close()
    noisy = soundfile.read(io.BytesIO(recording()), dtype="float32")[0][None]
    audio = sound_of(answer)[0]
    assert np.abs(audio - live(noisy, 16000).audio[0]).max() < 1e-4  # what wav of 16 bits rounds
    assert np.abs(audio - live(noisy, 16000, mix=1.0).audio[0]).max() > 1e-3


@pytest.mark.parametrize("data, words", [(b"", "empty"), (b"RIFF1234WAVEfmt ", "cut short"),
                                         (recording()[:300], "cut short"),
                                         (b"\x89PNG\r\n\x1a\n" + bytes(100), "cannot be read")])
def test_files_that_are_no_recordings_are_refused(app, data, words):
    answer = ask(app, ("POST", ENHANCE, {"files": {"file": ("../../etc/passwd.wav", data)}}))[0]
    assert answer.status_code == 400 and words in answer.json()["error"]["message"]
    assert "passwd" not in answer.text


@pytest.mark.parametrize("path, content, status, words", [
    (SPEECH, {"model": "tts-1"}, 400, "input"),
    (SPEECH, {"model": "nobody", "input": "Hi."}, 404, "photophone/tiny-speech"),
    (SPEECH, {"model": "tts-1", "input": "Свет"}, 400, "cyrillic"),
    (SPEECH, {"model": "tts-1", "input": "Hi.", "speed": 9}, 400, "speed"),
    (SPEECH, {"model": "tts-1", "input": "Hi.", "speed": "1"}, 400, "speed"),
    (SPEECH, {"model": "tts-1", "input": "Hi.", "voice": "bob"}, 400, "default"),
    (SPEECH, {"model": "tts-1", "input": "Hi.", "sped": 1}, 400, "no such field"),
    (SPEECH, {"model": "tts-1", "input": "x" * 5000}, 400, "4096"),
    (SPEECH, {"model": "tts-1", "input": "Hi.", "instructions": "sadly"}, 400, "instruction"),
    (SPEECH, {"model": "tts-1", "input": "Hi.", "seed": -1}, 400, "seed"),
    (IMAGES, {"prompt": "a cat", "size": "1024x1024"}, 400, "16x16"),
    (IMAGES, {"prompt": "a cat", "n": 11}, 400, "10"),
    (IMAGES, {"prompt": "a cat", "response_format": "url"}, 400, "b64_json"),
    (IMAGES, {"prompt": " "}, 400, "empty"),
    (IMAGES, [], 400, ""),
])
def test_what_cannot_be_done_is_told(app, path, content, status, words):
    answer = ask(app, ("POST", path, {"json": content}))[0]
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and words in error["message"]


@pytest.mark.parametrize("body", [b'{"model": "tts-1", "input": "Hi.", "speed": NaN}', b"{", b"[" * 90_000,
                                  b'{"a":' * 30_000, b'{"model": "tts-1", "input": "\\ud800"}', b"\xff\xfe",
                                  b'{"model": "tts-1", "input": "Hi.", "seed": ' + b"9" * 6000 + b"}"])
def test_malformed_json_is_refused(app, body):
    answer = ask(app, ("POST", SPEECH, {"content": body, "headers": {"content-type": "application/json"}}))[0]
    assert answer.status_code == 400 and answer.json()["error"]["message"]


def test_models_are_listed(app):
    listed, one, missing = ask(app, ("GET", "/v1/models", {}), ("GET", "/v1/models/photophone/tiny-speech", {}),
                               ("GET", "/v1/models/none", {}))
    assert {card["kind"] for card in listed.json()["data"]} == {"speech", "image", "enhance"}
    assert one.json() in listed.json()["data"] and missing.status_code == 404
    assert all(card["object"] == "model" and card["owned_by"] for card in listed.json()["data"])


def test_the_schema_tells_routes_and_limits(app):
    schema = ask(app, ("GET", "/openapi.json", {}))[0].json()
    assert {SPEECH, IMAGES, ENHANCE, "/v1/models", "/healthz", "/readyz", "/metrics"} <= set(schema["paths"])
    fields = schema["components"]["schemas"]["SpeechFields"]["properties"]
    assert fields["input"]["maxLength"] == 4096 and fields["speed"]["maximum"] == 2
    assert not any("422" in operation["responses"] for path in schema["paths"].values() for operation in path.values())
