"""Prepared speech: every source, the teacher's phoneme times, refusals."""

import io
import json

import numpy as np
import pytest
import soundfile
import torch
from speech import SENTENCES, save_tensors, write_sentences, write_speech

from photophone.data.speech import SpeechDataset, prepare_speech
from photophone.data.speech_sources import TeacherVoice
from photophone.text.phonemes import phonemize


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return write_speech(tmp_path_factory.mktemp("speech") / "voice.safetensors")


def tone(seconds, rate, pitch=440):
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)


def test_phoneme_times_add_up_to_the_clip(prepared):
    data = SpeechDataset(prepared)
    assert len(data) == len(SENTENCES) and data.sample_rate == 16000
    for row, (text, phonemes) in enumerate(SENTENCES):
        fields = data.fields[row]
        assert fields["text"] == text and fields["phonemes"] == f"_{phonemes}_"
        assert len(fields["seconds_per_phoneme"]) == len(phonemes) + 2
        assert sum(fields["seconds_per_phoneme"]) * 16000 == pytest.approx(len(data.clip(row)), abs=1)


def test_phoneme_times_lie_where_the_sound_is():
    """The sentence's own pauses are silent and its vowels are loud: the times are those of this audio."""
    clip = TeacherVoice().speak(*SENTENCES[0], seed=0)
    ends = np.cumsum(clip.fields["seconds_per_phoneme"])
    def level(symbol):
        place = clip.fields["phonemes"].index(symbol)
        first, last = (round(t * clip.sample_rate) for t in (ends[place - 1], ends[place]))
        return float(np.sqrt(np.mean(clip.audio[first:last] ** 2)))
    start = clip.audio[:round(ends[0] * clip.sample_rate / 2)]
    assert level("I") > 10 * float(np.sqrt(np.mean(start**2))) and level("W") > 2 * level("t")


def test_layouts_of_recordings(tmp_path):
    lj, libri = tmp_path / "lj", tmp_path / "libri"
    (lj / "wavs").mkdir(parents=True)
    (libri / "speaker7" / "book").mkdir(parents=True)
    soundfile.write(lj / "wavs" / "a.wav", tone(0.5, 22050), 22050)
    (lj / "metadata.csv").write_text("a|It's 5|It is five\n", encoding="utf-8")
    stereo = np.stack([tone(0.5, 24000), np.zeros(12000)], axis=1)
    soundfile.write(libri / "speaker7" / "book" / "b.flac", stereo, 24000)
    (libri / "speaker7" / "book" / "b.normalized.txt").write_text("hello there")
    written, skipped = prepare_speech([lj, libri], tmp_path / "out.safetensors", 16000)
    data = SpeechDataset(tmp_path / "out.safetensors")
    assert (written, skipped) == (2, 0)
    assert [fields["text"] for fields in data.fields] == ["It is five", "hello there"]
    assert [fields["speaker"] for fields in data.fields] == ["lj", "speaker7"]
    assert data.lengths.tolist() == [8000, 8000]
    for row, peak in ((0, 0.5), (1, 0.25)):  # stereo is mixed to mono
        middle = data.clip(row)[2000:6000]
        spectrum = torch.fft.rfft(middle * torch.hann_window(4000)).abs()
        assert int(spectrum.argmax()) == 440 * 4000 // 16000
        assert float(middle.abs().max()) == pytest.approx(peak, rel=0.02)


def test_parquet_and_damaged_clips(tmp_path):
    from pyarrow import Table, parquet
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(0.2, 16000), 16000, format="WAV")
    good = buffer.getvalue()
    rows = [{"audio": {"bytes": data, "path": "x"}, "text": "a", "speaker": "s", "source": "t", "licence": "l"}
            for data in (good, good[:30], b"", good)]
    parquet.write_table(Table.from_pylist(rows), tmp_path / "clips.parquet")
    assert prepare_speech([tmp_path / "clips.parquet"], tmp_path / "out.safetensors", 16000) == (2, 2)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"text": "a", "speaker": "s", "source": "t", "licence": "l"}


def test_crops_are_parts_of_their_clips(prepared):
    data = SpeechDataset(prepared, prepared)
    assert len(data) == 2 * len(SENTENCES) and torch.equal(data.clip(0), data.clip(len(SENTENCES)))
    long = int(data.lengths.max()) + 500
    crops = data.crops(np.array([1, 2]), 800, np.random.default_rng(0))
    padded = data.crops(np.array([1, 2]), long, np.random.default_rng(0))
    assert crops.shape == (2, 1, 800) and padded.shape == (2, 1, long)
    for row, index in enumerate((1, 2)):
        windows = data.clip(index).unfold(0, 800, 1)
        assert bool((windows == crops[row, 0]).all(dim=1).any())
        assert float(padded[row].sum()) == pytest.approx(float(data.clip(index).sum()), abs=1e-3)


def test_phonemes_of_sentences_without_any_come_from_the_reader(tmp_path):
    (tmp_path / "s.csv").write_text("text,split\nLight carries sound.,train\nWho?,val\n", encoding="utf-8")
    written = prepare_speech([tmp_path / "s.csv"], tmp_path / "s.safetensors", 16000, "train", phonemize=phonemize)
    assert written == (1, 0)
    (fields,) = SpeechDataset(tmp_path / "s.safetensors").fields
    assert fields["text"] == "Light carries sound." and fields["phonemes"].strip("_") == phonemize(fields["text"])
    assert len(fields["seconds_per_phoneme"]) == len(fields["phonemes"])
    (tmp_path / "s.csv").write_text("words\nhello\n")
    with pytest.raises(ValueError, match="must have the columns text, has"):
        prepare_speech([tmp_path / "s.csv"], tmp_path / "s.safetensors", 16000, phonemize=phonemize)


def test_refusals(prepared, tmp_path):
    with pytest.raises(ValueError, match="not a folder or a .parquet"):
        prepare_speech([tmp_path / "nothing.zip"], tmp_path / "out.safetensors", 16000)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no readable clip"):
        prepare_speech([tmp_path / "empty"], tmp_path / "out.safetensors", 16000)
    (tmp_path / "bad.csv").write_text("sentence\nhello\n")
    with pytest.raises(ValueError, match="must have the columns text and phonemes"):
        prepare_speech([tmp_path / "bad.csv"], tmp_path / "out.safetensors", 16000)
    with pytest.raises(ValueError, match="no readable clip"):  # no row of this split
        prepare_speech([write_sentences(tmp_path / "s.csv")], tmp_path / "out.safetensors", 16000, "val")
    with pytest.raises(ValueError, match="is not a prepared speech file"):
        SpeechDataset(tmp_path / "nowhere.safetensors")
    audio = torch.zeros(10, dtype=torch.int16)
    path = save_tensors(tmp_path / "off.safetensors", audio=audio, offsets=torch.tensor([0, 11]),
                        sample_rate=torch.tensor(16000))
    path.with_suffix(".jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match="is inconsistent: 10 samples"):
        SpeechDataset(path)
    save_tensors(path, audio=audio, offsets=torch.tensor([0, 10]), sample_rate=torch.tensor(8000))
    with pytest.raises(ValueError, match=r"different sample rates \[8000, 16000\]"):
        SpeechDataset(path, prepared)
