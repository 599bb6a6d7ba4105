"""Audio files under limits: what is read is what was written, what is broken is refused with a reason."""

import io
import math
import os

import numpy as np
import pytest
import soundfile
import torch

from photophone.core.limits import MAX_AUDIO_FRAMES
from photophone.data.audio import read_audio, write_audio
from photophone.data.resampling import resample_audio

RATE = 16000


def tone(seconds=0.5, rate=RATE, pitch=440.0):
    return (0.5 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def encoded(audio, kind="WAV", subtype="PCM_16", rate=RATE):
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_sixteen_bits_come_back(tmp_path, suffix):
    path = tmp_path / f"made here/tone{suffix}"
    write_audio(path, torch.from_numpy(tone()), RATE)
    audio, rate = read_audio(path)
    assert rate == RATE and audio.dtype == np.float32
    np.testing.assert_allclose(audio, tone(), atol=1 / 32768)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("kind, subtype", [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_lossy_files_come_close(kind, subtype):
    audio, _ = read_audio(encoded(tone(), kind, subtype))
    middle = slice(2000, 6000)
    spectrum = np.abs(np.fft.rfft(audio[middle]))
    assert int(spectrum.argmax()) == 110 and math.isclose(audio[middle].std(), tone()[middle].std(), rel_tol=0.1)


def test_stereo_is_mixed_and_loud_samples_are_clipped(tmp_path):
    stereo = np.stack([tone(), np.zeros_like(tone())], axis=1)
    np.testing.assert_allclose(read_audio(encoded(stereo, subtype="FLOAT"))[0], tone() / 2, atol=1e-7)
    write_audio(tmp_path / "loud.wav", 4 * tone(), RATE)
    assert np.abs(read_audio(tmp_path / "loud.wav")[0]).max() <= 1


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 24000, 44100, 48000, 191_999])
def test_resampling_keeps_a_tone(rate):
    audio, got = read_audio(encoded(tone(1.0, rate), rate=rate), RATE)
    assert got == RATE and abs(len(audio) - RATE) <= 1
    np.testing.assert_allclose(audio[1000:-1000], tone(1.0)[1000:len(audio) - 1000], atol=2e-2)


def test_an_odd_ratio_costs_no_memory():
    assert resample_audio(torch.zeros(4001), 4001, 192_000).shape[-1] == pytest.approx(192_000, rel=1e-5)


BROKEN = {
    "cut WAV": (encoded(tone())[:4000], "cut short"),
    "cut FLAC": (encoded(tone(), "FLAC")[:4000], "cut short|cannot be read"),
    "head of a WAV": (encoded(tone())[:20], "cut short"),
    "noise named WAV": (b"\x00\x01photograph" * 100, "cannot be read"),
    "no bytes": (b"", "0 bytes"),
    "no samples": (encoded(np.zeros(0, np.float32)), "no samples"),
    "three channels": (encoded(np.zeros((100, 3), np.float32)), "3 channels"),
    "1 Hz": (encoded(tone(), rate=1), "1 Hz"),
    "200 kHz": (encoded(tone(), rate=200_000), "200000 Hz"),
    "NaN": (encoded(np.full(100, np.nan, np.float32), subtype="FLOAT"), "NaN"),
    "infinity": (encoded(np.full(100, np.inf, np.float32), subtype="FLOAT"), "infinite"),
    "another ADPCM": (encoded(tone(), subtype="G721_32"), "G721_32"),
    "other container": (encoded(tone(), "AU"), "AU"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("as_file", [True, False])
def test_broken_audio_is_refused_with_its_reason(tmp_path, name, as_file):
    data, reason = BROKEN[name]
    path = tmp_path / "broken.wav"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=reason):
        read_audio(path if as_file else data)


def test_a_header_that_promises_too_much_is_refused():
    flac = bytearray(encoded(tone(), "FLAC"))
    start = 8 + 13  # STREAMINFO: the low 36 bits of its bytes 13..17 count the samples
    for promised in (MAX_AUDIO_FRAMES + 1, MAX_AUDIO_FRAMES - 1):
        flac[start] = flac[start] & 0xF0 | promised >> 32
        flac[start + 1:start + 5] = (promised & 0xFFFFFFFF).to_bytes(4, "big")
        with pytest.raises(ValueError, match="limit of 200000000" if promised > MAX_AUDIO_FRAMES else "cut short|can"):
            read_audio(bytes(flac))


def test_limits_of_the_caller_and_missing_files(tmp_path):
    with pytest.raises(ValueError, match="limit of 0.2 s"):
        read_audio(encoded(tone()), max_seconds=0.2)
    with pytest.raises(FileNotFoundError, match="nothing.wav"):
        read_audio(tmp_path / "nothing.wav")
    with pytest.raises(FileNotFoundError):
        read_audio(tmp_path)
    with pytest.raises(ValueError, match="2 Hz"):
        read_audio(encoded(tone()), 2)


@pytest.mark.parametrize("name, audio, rate, reason", [
    ("a.wav", np.array([0.0, np.nan]), RATE, "NaN"),
    ("a.wav", np.zeros((2, 5)), RATE, "shape"),
    ("a.wav", np.zeros(0), RATE, "T > 0"),
    ("a.wav", np.zeros(5), 1, "1 Hz"),
    ("a.mid", np.zeros(5), RATE, ".flac"),
])
def test_what_cannot_be_written_leaves_no_file(tmp_path, name, audio, rate, reason):
    with pytest.raises(ValueError, match=reason):
        write_audio(tmp_path / name, audio, rate)
    assert os.listdir(tmp_path) == []
