"""Recordings are read to their real end, the same in blocks and whole, or refused with what was found."""

import io
import struct

import numpy as np
import pytest
import soundfile

from photophone.data.audio import read_audio
from photophone.data.audio_stream import AudioReader

KINDS = {"wav": ("WAV", "PCM_16"), "float": ("WAV", "FLOAT"), "aiff": ("AIFF", "PCM_16"), "flac": ("FLAC", "PCM_16"),
         "vorbis": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III")}
RATE = 48_000


def sweep(count, rate=RATE, low=300.0, channels=1):
    time = np.arange(count) / rate
    audio = 0.4 * np.sin(2 * np.pi * (low + 200 * time) * time) * (0.3 + np.abs(np.sin(9 * time)))
    return np.stack([audio, 0.5 * audio], axis=1)[:, :channels]


def encoded(audio, kind, rate=RATE, **options):
    buffer = io.BytesIO()
    name, subtype = KINDS[kind]
    soundfile.write(buffer, audio, rate, format=name, subtype=subtype, **options)
    return buffer.getvalue()


def vbr(audio, rate=RATE):
    """An MP3 of changing bit rate."""
    return encoded(audio, "mp3", rate, bitrate_mode="VARIABLE", compression_level=0.5)


def without_first_frame(mp3):
    at = mp3.index(b"\xff\xfb" if mp3[1] == 0xFB else b"\xff\xf3", 100)
    while mp3[at + 21:at + 25] in (b"Xing", b"Info"):
        at = mp3.index(mp3[:2], at + 1)
    return mp3[at:]


def whole_and_blocks(data):
    """The samples of all blocks at once, after a look at several sizes of blocks."""
    reader = AudioReader(data)
    (whole,) = list(reader.blocks(1 << 26))
    for size in (1, 977, 4096, 65_537):
        count = 5000 if size == 1 else whole.shape[1]
        blocks = []
        for block in reader.blocks(size):
            blocks.append(block)
            if len(blocks) * size >= count:
                break
        made = np.concatenate(blocks, axis=1)
        assert max(block.shape[1] for block in blocks) <= size
        np.testing.assert_array_equal(made, whole[:, :made.shape[1]])
        assert made.shape[1] >= min(count, whole.shape[1])
    return whole


def alone(data):
    """The samples of a single stream as libsndfile gives them."""
    return soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0].T


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_joined_files_are_read_to_the_end(tmp_path, kind, channels):
    one = encoded(sweep(48_000, channels=channels), kind)
    two = encoded(sweep(72_000, low=900, channels=channels), kind)
    (tmp_path / "joined").write_bytes(one + two + one)
    whole = whole_and_blocks(one + two + one)
    np.testing.assert_allclose(whole, np.concatenate([alone(one), alone(two), alone(one)], axis=1), rtol=0, atol=1e-6)
    assert whole.shape == (channels, 168_000) and len(read_audio(tmp_path / "joined")[0]) == 168_000
    assert AudioReader(tmp_path / "joined").told_frames == 168_000


@pytest.mark.parametrize("kind", KINDS)
def test_joined_files_of_different_kinds_say_what_was_found(kind):
    one = encoded(sweep(24_000), kind)
    for other in (encoded(sweep(24_000, 16_000), kind, 16_000), encoded(sweep(24_000, channels=2), kind)):
        with pytest.raises(ValueError, match=r"0\.50 s of 48000 Hz with 1 channels, then"):
            read_audio(one + other)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_without_a_first_frame_is_read_to_the_end(rate, channels):
    mp3 = vbr(sweep(6 * rate, rate, channels=channels), rate)
    bare = without_first_frame(mp3)
    assert soundfile.info(io.BytesIO(bare)).frames < 5 * rate  # what its first bit rate lets one guess
    whole = whole_and_blocks(bare)
    assert abs(whole.shape[1] - 6 * rate) <= 4 * 1152
    usual = alone(mp3)
    lag = int(np.correlate(whole[0, :20_000], usual[0, 4000:12_000], "valid").argmax()) - 4000
    assert 0 <= lag < 2000
    middle = slice(4000, 5 * rate)
    np.testing.assert_allclose(whole[:, middle.start + lag:middle.stop + lag], usual[:, middle], atol=1e-3)
    joined = whole_and_blocks(bare + bare)
    assert abs(joined.shape[1] - 12 * rate) <= 8 * 1152
    appended = whole_and_blocks(mp3 + bare)
    assert abs(appended.shape[1] - 12 * rate) <= 8 * 1152


def test_tags_around_an_mp3_are_no_sound():
    mp3 = vbr(sweep(96_000))
    tag = b"ID3\x04\x00\x00\x00\x00\x02\x00" + b"\xff\xfb\x94\xc4" * 64
    tail = b"TAG" + bytes(125)
    for data in (tag + mp3, mp3 + tail, tag + mp3 + tail, tag + mp3 + tail + tag + mp3 + tail):
        whole = whole_and_blocks(data)
        assert whole.shape[1] == 96_000 * (2 if data.count(b"TAG") > 1 else 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_cut_file_is_refused(kind, share):
    data = encoded(sweep(240_000), kind)
    for cut in (data[:round(share * len(data))], data + data[:round(share * len(data))]):
        with pytest.raises(ValueError, match="cut short|cannot be read"):
            read_audio(cut)


@pytest.mark.parametrize("make", [vbr, lambda audio: without_first_frame(vbr(audio))], ids=["told", "not told"])
def test_an_mp3_that_ends_within_a_frame_is_refused(make):
    data = make(sweep(240_000))
    for lost in (1, 40, 3001):
        with pytest.raises(ValueError, match=r"cut short: it holds \d+"):
            read_audio(data[:-lost])


def with_sizes(data, riff, size):
    data = bytearray(data)
    place = data.index(b"data")
    data[4:8] = struct.pack("<I", riff)
    data[place + 4:place + 8] = struct.pack("<I", size)
    return bytes(data)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
@pytest.mark.parametrize("riff", [0, 0xFFFFFFFF, 0x7FFFF024, None])
@pytest.mark.parametrize("kind", ["wav", "float"])
def test_a_wav_of_unknown_length_is_read_to_the_end(kind, riff, size):
    data = encoded(sweep(30_000), kind)
    streamed = with_sizes(data, len(data) - 8 if riff is None else riff, size)
    np.testing.assert_array_equal(whole_and_blocks(streamed), alone(data))
    np.testing.assert_array_equal(whole_and_blocks(streamed + data), np.concatenate([alone(data)] * 2, axis=1))


def test_a_wav_with_a_wrong_length_is_refused():
    data = encoded(sweep(30_000), "wav")
    for riff, size in ((len(data) - 8, 1000), (1036, 1000), (len(data) - 8, 70_000), (70_044, 70_000)):
        with pytest.raises(ValueError, match="cut short|its header tells"):
            read_audio(with_sizes(data, riff, size))
    assert len(read_audio(data + bytes(4000))[0]) == 30_000
    assert len(read_audio(data + b"LIST" + struct.pack("<I", 6) + b"abcdef")[0]) == 30_000
    with pytest.raises(ValueError, match="holds no samples"):
        read_audio(encoded(np.zeros(0), "wav"))


def with_total(flac, total):
    flac = bytearray(flac)
    flac[21] = flac[21] & 0xF0 | total >> 32
    flac[22:26] = (total & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(flac)


@pytest.mark.parametrize("count", [30_000, 4096, 4097, 100, 1])
def test_a_flac_of_unknown_or_wrong_length_is_read_to_the_end(count):
    data = encoded(sweep(count), "flac")
    for told in {0, 1, count // 2, count - 1, count}:
        for given, times in ((with_total(data, told), 1), (with_total(data, told) + data, 2)):
            np.testing.assert_array_equal(whole_and_blocks(given), np.concatenate([alone(data)] * times, axis=1))
    with pytest.raises(ValueError, match=f"holds {count} of {count + 5} samples"):
        read_audio(with_total(data, count + 5))


def test_a_streamed_flac_that_is_cut_is_refused():
    data = with_total(encoded(sweep(60_000), "flac"), 0)
    for lost in (1, 100, 5000):
        with pytest.raises(ValueError, match="cut short: it holds"):
            read_audio(data[:-lost])


def test_limits_hold_where_no_header_tells_a_length():
    for data in (with_sizes(encoded(sweep(96_000), "wav"), 0, 0), with_total(encoded(sweep(96_000), "flac"), 0),
                 without_first_frame(vbr(sweep(96_000))), encoded(sweep(48_000), "vorbis") * 2):
        assert len(read_audio(data, max_seconds=2.2)[0]) > 90_000
        with pytest.raises(ValueError, match="limit of 1 s"):
            read_audio(data, max_seconds=1)


@pytest.mark.parametrize("subtype", ["ALAW", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_telephone_recordings_are_read(subtype):
    audio = sweep(16_000, 8000)
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, 8000, format="WAV", subtype=subtype)
    read, rate = read_audio(buffer.getvalue())
    assert rate == 8000 and 0 <= len(read) - 16_000 < 1024
    error = np.mean((read[:16_000] - audio[:, 0]) ** 2) / np.mean(audio ** 2)
    assert error < {"ALAW": 1e-3, "ULAW": 1e-3}.get(subtype, 0.05)
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(buffer.getvalue())) as file:
        planes = av.AudioResampler(format="fltp")
        other = np.concatenate([part.to_ndarray() for frame in file.decode(audio=0) for part in planes.resample(frame)],
                               axis=1)[0]
    count = min(len(read), len(other))
    assert count >= 16_000 and np.abs(read[:count] - other[:count]).max() < (0.02 if subtype == "MS_ADPCM" else 1e-6)


@pytest.mark.parametrize("value", [1e30, -1e30, 2000.0, np.nan, np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_one_sample_that_is_no_sound_refuses_the_file(value, subtype):
    audio = sweep(24_000)[:, 0]
    audio[20_000] = value
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, RATE, format="WAV", subtype=subtype)
    with pytest.raises(ValueError, match="full scale is 1|NaN or infinite"):
        read_audio(buffer.getvalue(), 16_000)
    audio[20_000] = 4.0
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, RATE, format="WAV", subtype=subtype)
    assert read_audio(buffer.getvalue())[0].max() == 4.0
