"""`photophone speak`: input, streams, files."""

import io
import json
import wave

import numpy as np
import pytest
import soundfile
import torch
from speech import small_codec, small_speech
from typer.testing import CliRunner

from photophone import TextToSpeechPipeline
from photophone.cli import app
from photophone.data.audio_write import stream_header
from photophone.pipelines.speech_output import speech_file

TEXT = "Light carries sound. Who goes there?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("speech")
    TextToSpeechPipeline(small_speech(), small_codec()).save_pretrained(path)
    return path


def run(*arguments, stdin=None):
    return CliRunner().invoke(app, ["speak", *map(str, arguments)], input=stdin)


def test_a_file_its_json_and_the_same_again(folder, tmp_path):
    options = ("-m", folder, "--steps", 2, "--seed", 7, "--json")
    result = run(TEXT, "-o", tmp_path / "a.wav", *options)
    assert result.exit_code == 0, result.exception
    printed = json.loads(result.stdout)
    assert printed["seeds"] == [7] and printed["files"] == [str(tmp_path / "a.wav")]
    audio, rate = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert rate == printed["sample_rate"] and len(audio) / rate == pytest.approx(printed["seconds"][0], abs=1e-3)
    (whole,) = TextToSpeechPipeline.from_pretrained(folder)(
        TEXT, generator=torch.Generator().manual_seed(7), num_inference_steps=2).audio
    np.testing.assert_allclose(audio, whole, atol=2e-4)
    assert json.loads((tmp_path / "a.json").read_text())["text"] == TEXT


def test_streams_hold_the_samples_of_the_file(folder, tmp_path):
    options = ("-m", folder, "--steps", 2, "--seed", 7)
    raw = run("--stdin", "--stream", "pcm", *options, stdin=TEXT.encode()).stdout_bytes
    streamed = run(TEXT, "--stream", "wav", *options).stdout_bytes
    assert streamed[:44] == stream_header(16000) and streamed[44:] == raw and len(raw) > 10_000
    run(TEXT, "-o", tmp_path / "a.wav", *options)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.readframes(file.getnframes()) == raw


def test_the_header_of_a_stream_is_that_of_a_wav():
    made, expected = stream_header(16000), io.BytesIO()
    with wave.open(expected, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
    reference = expected.getvalue()
    assert made[:4] + made[8:40] == reference[:4] + reference[8:40]  # all but the sizes


@pytest.mark.parametrize(("arguments", "stdin", "message"), [
    ((), None, "nothing to say"), (("",), None, "empty"), (("?!",), None, "only punctuation"),
    (("Привет",), None, "cyrillic"), (("--stdin",), b"ab\xff", "not UTF-8: byte 0xFF at position 2"),
    (("--stdin",), b"x" * 1_000_000, "characters"), (("a", "--stream", "mp3"), None, "must be wav or pcm"),
    (("a", "b", "--stream", "wav"), None, "speaks one text"), (("a", "--seed", "-1"), None, "--seed must be"),
    (("a", "--stream", "wav", "-o", "a.wav"), None, "leave out --output"),
    (("a", "--voice-text", "hello"), None, "belong to a recording"),
])
def test_refusals_before_anything_loads(arguments, stdin, message):
    result = run(*arguments, stdin=stdin)
    assert isinstance(result.exception, ValueError) and message in str(result.exception)


def test_a_failure_in_the_middle_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError), speech_file(tmp_path / "a.wav", 16000, {}) as writer:
        writer.write(np.zeros(1000, np.float32))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
