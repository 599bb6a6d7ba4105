"""Files that PyAV reads: what phones and browsers record, with it and without it."""

import io
import sys

import numpy as np
import pytest

from photophone.data.audio import read_audio
from photophone.data.audio_stream import AudioReader
from photophone.data.containers.pyav import KINDS, av_kind

CASES = {"m4a": ("ipod", "aac", 44_100), "mp4": ("mp4", "aac", 16_000), "alac": ("ipod", "alac", 48_000),
         "webm": ("webm", "libopus", 48_000), "mka": ("matroska", "aac", 24_000), "aac": ("adts", "aac", 16_000)}
HEADS = {"m4a": b"\0\0\0\x1cftypM4A \0\0\2\0", "webm": b"\x1aE\xdf\xa3" + bytes(20),
         "aac": b"\xff\xf1`@:_\xfc\xde\2\0La",
         "wma": b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa", "amr": b"#!AMR\n" + bytes(20), "caf": b"caff\0\1\0\0desc"}


def tone(seconds, rate, channels):
    time = np.arange(round(seconds * rate)) / rate
    audio = 0.4 * np.sin(2 * np.pi * (300 + 400 * time) * time)
    return np.stack([audio, -0.5 * audio])[:channels].astype(np.float32)


def encoded(audio, case):
    av = pytest.importorskip("av")
    form, codec, rate = CASES[case]
    target = io.BytesIO()
    layout = ("mono", "stereo")[len(audio) - 1]
    with av.open(target, "w", format=form) as file:
        stream = file.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(audio, format="fltp", layout=layout)
        frame.sample_rate = rate
        stream.codec_context.open()
        planes = av.AudioResampler(stream.format.name, layout, rate, stream.codec_context.frame_size or None)
        for part in [*planes.resample(frame), *planes.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return target.getvalue()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_what_phones_and_browsers_record_is_read(tmp_path, case, channels):
    rate = CASES[case][2]
    audio = tone(2.5, rate, channels)
    path = tmp_path / f"talk.{case}"
    path.write_bytes(encoded(audio, case))
    reader = AudioReader(path)
    assert (reader.sample_rate, reader.channels) == (rate, channels)
    whole = np.concatenate(list(reader.blocks()), axis=1)
    np.testing.assert_array_equal(np.concatenate(list(reader.blocks(777)), axis=1), whole)
    assert 0 <= whole.shape[1] - audio.shape[1] < 4096
    size = 2 * whole.shape[1]
    match = np.fft.irfft(np.fft.rfft(whole[0], size) * np.fft.rfft(audio[0], size).conj())
    lag = int(match.argmax())
    assert 0 <= lag <= 2112  # what the encoder put before
    count = audio.shape[1] - 4000
    error = whole[:, lag + 2000:lag + count] - audio[:, 2000:count]
    assert np.sqrt(np.mean(error ** 2) / np.mean(audio ** 2)) < 0.1
    mono, other = read_audio(path.read_bytes(), 16_000)
    assert other == 16_000 and abs(len(mono) / 16_000 - whole.shape[1] / rate) < 0.01


@pytest.mark.parametrize("case", ["m4a", "alac", "mp4"])
def test_a_cut_file_is_refused(case):
    data = encoded(tone(5, CASES[case][2], 1), case)
    for share in (0.01, 0.3, 0.7, 0.98):
        with pytest.raises(ValueError, match="cut short|damaged"):
            read_audio(data[:round(share * len(data))])


def test_limits_and_channels_hold():
    with pytest.raises(ValueError, match="limit of 1 s"):
        read_audio(encoded(tone(2.5, 48_000, 1), "webm"), max_seconds=1)
    with pytest.raises(ValueError, match="limit of 1 s"):
        read_audio(encoded(tone(2.5, 44_100, 1), "m4a"), max_seconds=1)


@pytest.mark.parametrize("case", HEADS)
def test_without_pyav_the_way_out_is_named(tmp_path, monkeypatch, case):
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / f"talk.{case}"
    path.write_bytes(HEADS[case] + bytes(300))
    with pytest.raises(ValueError, match=r"talk\.\w+ is .*pip install 'photophone\[av\]'.*convert"):
        read_audio(path)


@pytest.mark.parametrize("case", HEADS)
def test_damage_is_named(case):
    pytest.importorskip("av")
    with pytest.raises(ValueError, match="the audio (is damaged|cannot|is .* without sound)"):
        read_audio(HEADS[case] + bytes(300))


def test_what_libsndfile_reads_is_left_to_it():
    assert set(map(av_kind, HEADS.values())) == set(KINDS)
    for head in (b"RIFF\0\0\0\0WAVE", b"OggS\0\2" + bytes(6), b"fLaC\0\0\0\x22" + bytes(4), b"ID3\4" + bytes(8),
                 b"\xff\xfb\x94\xc4" + bytes(8), b"\xff\xf3\x88\xc4" + bytes(8), b"\xff\xe3\x18\xc4" + bytes(8),
                 b"FORM\0\0\0\0AIFF", b"#EXTM3U\nhttp", b"ffconcat ver", b"", b"\xff"):
        assert av_kind(head) is None
