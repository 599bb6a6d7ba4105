"""`photophone enhance --live`: what comes out of a pipe while it goes in, raw and as WAV, and what is refused."""

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from tiny import shake
from visitors import small_enhancer

from photophone import SpeechEnhancementPipeline
from photophone.data.audio_write import pcm16, stream_header
from photophone.data.sound_stream import SoundStream
from photophone.generators.enhancer.live import LiveEnhancer

SMALL = {"channels": [4, 4], "squeeze": 2, "width": 8, "hidden": 8, "depth": 2, "waist": 2, "waist_depth": 1}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("live") / "model"
    SpeechEnhancementPipeline(shake(LiveEnhancer(**SMALL), scale=0.03)).save_pretrained(folder)
    return folder


@pytest.fixture
def run(run_binary):
    return run_binary


def sound(count, channels=1, seed=0):
    return pcm16(0.1 * np.random.default_rng(seed).standard_normal((count, channels)))


def expected(saved, samples, rate, **options):
    """What the pipeline makes of whole samples (T, C), as whole samples."""
    pipeline = SpeechEnhancementPipeline.from_pretrained(saved)
    (made,) = pipeline(np.ascontiguousarray(samples.T, np.float32) / 32768, rate, **options).audio
    return pcm16(made.T)


def read(data, form="<i2", channels=1):
    return np.frombuffer(data, form).reshape(-1, channels)


def test_raw_sound_comes_back_raw(run, saved):
    samples = sound(10_000)
    code, made, errors = run("enhance", "--live", "-m", saved, "--strength", "0.8", given=samples.tobytes() + b"\1")
    assert code == 0 and not errors
    difference = read(made).astype(int) - expected(saved, samples, 16_000, mix=0.8)
    assert len(read(made)) == 10_000 and np.abs(difference).max() <= 1


@pytest.mark.parametrize(("subtype", "channels", "rate"), [("PCM_16", 1, 48_000), ("PCM_16", 2, 16_000),
                                                           ("FLOAT", 2, 44_100)])
def test_a_wav_comes_back_as_a_wav(run, saved, subtype, channels, rate):
    samples, file = sound(9000, channels), io.BytesIO()
    soundfile.write(file, samples.astype(np.float32) / 32768, rate, format="WAV", subtype=subtype)
    code, made, _ = run("enhance", "--live", "-m", saved, given=file.getvalue())
    assert code == 0 and made[:44] == stream_header(rate, channels)
    difference = read(made[44:], channels=channels).astype(int) - expected(saved, samples, rate)
    assert np.abs(difference).max() <= 1


def test_a_stream_without_a_length_and_with_more_chunks_is_read():
    samples = sound(3000, 2)
    extra = b"LIST" + struct.pack("<I", 5) + b"words\0"
    for size in (0, 0xFFFFFFFF, 0x7FFFFFFF, samples.nbytes):
        header = stream_header(22_050, 2)
        data = header[:36] + extra + b"data" + struct.pack("<I", size) + samples.tobytes()
        stream = SoundStream(io.BytesIO(data + (b"LISTmore" if size == samples.nbytes else b"")), 16_000)
        assert (stream.is_wav, stream.sample_rate, stream.channels) == (True, 22_050, 2)
        heard = np.concatenate(list(stream.chunks()), axis=1)
        np.testing.assert_array_equal(heard, samples.T.astype(np.float32) / 32768)


def test_speech_comes_out_before_all_has_gone_in(saved):
    command = [sys.executable, "-m", "photophone.cli", "enhance", "--live", "-m", str(saved)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    samples = sound(32_000)
    process.stdin.write(samples[:16_000].tobytes())
    process.stdin.flush()
    early = process.stdout.read(2 * (16_000 - 512))  # waits for ever where less comes
    process.stdin.write(samples[16_000:].tobytes())
    process.stdin.close()
    made = read(early + process.stdout.read())
    assert process.wait(60) == 0
    assert np.abs(made.astype(int) - expected(saved, samples, 16_000)).max() <= 1


def test_a_listener_may_leave(saved):
    ours = f'"{sys.executable}" -m photophone.cli enhance --live -m "{saved}"'
    command = f"head -c 3000000 /dev/zero | {ours} | head -c 9"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False, timeout=120)
    assert done.returncode in (0, 141) and done.stdout == bytes(9) and not done.stderr  # 141: head left first


@pytest.mark.parametrize(("given", "words"), [
    (b"RIFF\0\0\0\0AVI LIST", "is no WAV"), (b"RIFF", "is no WAV"),
    (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "no samples of a known kind"),
    (b"RIFF\0\0\0\0WAVE", "no samples of a known kind"),
    (b"RIFF\0\0\0\0WAVEfmt \4\0\0\0abcd", "damaged header"),
    (b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\xff", "no samples of a known kind"),
    (stream_header(16_000, 3) + bytes(60), "3 channels"),
    (stream_header(1) + bytes(60), "1 Hz"),
    (stream_header(16_000)[:34] + b"\x18\0data" + bytes(40), "24 bits")])
def test_damaged_streams_are_refused(run, saved, given, words):
    code, made, errors = run("enhance", "--live", "-m", saved, given=given)
    assert (code, made) == (2, b"") and words in errors and errors.count("\n") == 1


def test_wrong_options_are_refused(run, saved, tmp_path):
    offline = small_enhancer(tmp_path / "offline")
    for arguments, words in [(["in.wav"], "leave out files"), (["--stdin"], "leave out"),
                             (["-o", "x.wav"], "leave out"), (["--json"], "leave out"), (["--mix", "2"], "mix"),
                             (["--sample-rate", "1"], "1 Hz"), (["-m", offline], "needs the whole recording")]:
        code, made, errors = run("enhance", "--live", *([] if "-m" in arguments else ["-m", saved]), *arguments)
        assert (code, made) == (2, b"") and words in errors, arguments
    code, _, errors = run("enhance", "--stdin", "--stdout", "--sample-rate", "8000", "-m", saved)
    assert code == 2 and "files keep their own" in errors
    assert run("enhance", "--live", "-m", saved) == (0, b"", "")  # nothing gives nothing
