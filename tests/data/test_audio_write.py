"""The one writer of sound: rounding, dither, what is cut, every format by its name, a disk that is full."""

import io
from contextlib import closing

import numpy as np
import pytest
import soundfile

from photophone.data.audio import read_audio, write_audio
from photophone.data.audio_checks import WRITE_FORMATS
from photophone.data.audio_write import AudioWriter, open_audio, pcm16, to_whole, write_pieces
from photophone.pipelines.speech_output import speech_file

RATE = 24000


def tone(seconds=0.5, rate=RATE, pitch=440.0):
    return (0.5 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def noise(count, level=0.3):
    return np.random.default_rng(0).uniform(-level, level, count).astype(np.float32)


def written(path, audio, rate=RATE, **options):
    write_audio(path, audio, rate, **options)
    return soundfile.read(path, dtype="float64")[0]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_samples_are_rounded_to_the_nearest(tmp_path, suffix):
    audio = noise(200_000)
    error = (written(tmp_path / f"a{suffix}", audio) - audio) * 32768
    assert np.abs(error).max() <= 0.5 and abs(error.mean()) < 0.01 and abs(error.std() - 12 ** -0.5) < 0.01
    assert not written(tmp_path / f"b{suffix}", np.float32([-1e-9, 1e-9, 0])).any()


@pytest.mark.parametrize("bits", [16, 24])
def test_whole_samples_come_back_as_they_were(bits):
    steps = np.random.default_rng(0).integers(-2 ** (bits - 1), 2 ** (bits - 1), 5000)
    steps[:2] = -2 ** (bits - 1), 2 ** (bits - 1) - 1
    back = to_whole(steps / 2.0 ** (bits - 1), bits).astype(np.int64) >> (0 if bits == 16 else 8)
    np.testing.assert_array_equal(back, steps)
    assert to_whole(np.float32([1, -1, 7, -7])).tolist() == [32767, -32768, 32767, -32768]


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_pieces_keep_the_depth_of_their_input(tmp_path, suffix, subtype):
    audio = np.stack([noise(50_000), noise(50_000)[::-1]])
    step = 2.0 ** (1 - int(subtype[-2:]))
    done = write_pieces(tmp_path / f"a{suffix}", [audio[:, :20_001], audio[:, 20_001:]], RATE, 2, subtype)
    read, rate = soundfile.read(tmp_path / f"a{suffix}", dtype="float64")
    assert rate == RATE and np.abs(read.T - audio).max() <= 0.5001 * step
    assert soundfile.info(tmp_path / f"a{suffix}").subtype == subtype == done.subtype and done.samples == 50_000


def test_every_writer_of_the_package_gives_the_same_samples(tmp_path):
    audio = noise(9000)
    write_audio(tmp_path / "a.wav", audio, RATE)
    with speech_file(tmp_path / "b.wav", RATE, {}) as writer:
        for start in range(0, 9000, 777):
            writer.write(audio[start:start + 777])
    buffer = io.BytesIO()
    write_pieces(buffer, [audio[None]], RATE, 1)
    one, two, three = (soundfile.read(file, dtype="int16")[0] for file in (
        tmp_path / "a.wav", tmp_path / "b.wav", io.BytesIO(buffer.getvalue())))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, three)
    np.testing.assert_array_equal(one, pcm16(audio))


def test_dither_frees_the_error_from_the_sound_and_does_not_depend_on_pieces(tmp_path):
    quiet = np.full(100_000, 0.3 / 32768, np.float32)
    assert not written(tmp_path / "plain.wav", quiet).any()
    steps = written(tmp_path / "dither.wav", quiet, dither=True) * 32768
    assert abs(steps.mean() - 0.3) < 0.02 and abs(steps.var() - 0.25) < 0.01  # a quarter whatever the level
    write_pieces(tmp_path / "pieces.wav", [quiet[None, :7], quiet[None, 7:60_000], quiet[None, 60_000:]], RATE, 1,
                 dither=True)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "pieces.wav")[0] * 32768, steps)


@pytest.mark.parametrize("suffix", WRITE_FORMATS)
def test_the_name_says_the_format(tmp_path, suffix):
    audio = tone(3.0)
    assert write_audio(tmp_path / f"a{suffix.upper()}", audio, RATE).samples == len(audio)
    info = soundfile.info(tmp_path / f"a{suffix.upper()}")
    assert (info.format, info.subtype, info.samplerate) == (*WRITE_FORMATS[suffix], RATE)
    read, rate = read_audio(tmp_path / f"a{suffix.upper()}")
    assert rate == RATE and len(read) == len(audio)
    assert np.sqrt(np.mean((read - audio)[2000:-2000] ** 2)) < 0.02


@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".mp3"])
def test_a_long_piece_is_encoded(tmp_path, suffix):
    write_pieces(tmp_path / f"a{suffix}", [0.01 * np.ones((2, 6_000_000), np.float32)], RATE, 2)
    assert soundfile.info(tmp_path / f"a{suffix}").frames == 6_000_000


def test_what_is_cut_is_counted_and_floats_are_kept(tmp_path):
    audio = 4 * tone()
    outside = int((np.abs(audio) > 1).sum())
    for suffix in WRITE_FORMATS:
        assert write_audio(tmp_path / f"a{suffix}", audio, RATE).cut == outside > 0
    kept = write_pieces(tmp_path / "b.wav", [audio[None]], RATE, 1, "FLOAT")
    assert kept.cut == 0
    np.testing.assert_array_equal(soundfile.read(tmp_path / "b.wav", dtype="float32")[0], audio)


@pytest.mark.parametrize(("name", "rate"), [("a.opus", 44_100), ("a.mp3", 96_000), ("a.mp3", 4000), ("a.m4a", RATE),
                                            ("a", RATE), ("a.wav.txt", RATE)])
def test_what_a_format_does_not_hold_is_refused(tmp_path, name, rate):
    with pytest.raises(ValueError, match=r"write \.wav, \.flac or \.ogg|must end in"):
        write_audio(tmp_path / name, tone(rate=rate), rate)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, -2e3])
def test_samples_that_are_no_sound_are_not_written(tmp_path, value):
    pieces = [np.zeros((1, 100), np.float32), np.full((1, 3), value, np.float32)]
    with pytest.raises(ValueError, match="NaN|full scale is 1"):
        write_pieces(tmp_path / "a.wav", pieces, RATE, 1, "FLOAT")
    with pytest.raises(ValueError, match="NaN|full scale is 1"), speech_file(tmp_path / "b.wav", RATE, {}) as writer:
        writer.write(pieces[1][0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", WRITE_FORMATS)
def test_a_full_disk_is_an_error(suffix):
    with (open("/dev/full", "wb+", buffering=0) as file, pytest.raises(OSError, match="speech could not be written"),
          closing(AudioWriter(file, suffix, RATE, name="speech")) as writer):
        writer.write(noise(60_000))


def test_nothing_is_left_of_a_file_that_failed(tmp_path):
    with pytest.raises(RuntimeError), open_audio(tmp_path / "a.flac", RATE) as writer:
        writer.write(tone())
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
