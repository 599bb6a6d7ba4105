"""Recordings with their texts in every layout, and what is refused of them, by name and reason."""

import io
import json
import tarfile

import numpy as np
import pytest
import soundfile

from photophone.data.clip_cleaning import (
    AFTER_SECONDS,
    BEFORE_SECONDS,
    LEVEL_DBFS,
    VoiceClips,
    check_clip,
    clean_clip,
    speech_bounds,
)
from photophone.data.mixing import power
from photophone.data.recording_layouts import read_recordings
from photophone.data.speech import SpeechDataset, prepare_speech, speakers_of

RATE = 16_000


def speech(seconds=1.0, level=0.2, seed=0):
    """Noise in bursts, a second of it with half a second of silence before and behind."""
    rng = np.random.default_rng(seed)
    burst = level * rng.standard_normal(round(seconds * RATE)) * (np.sin(np.arange(round(seconds * RATE)) / 900) ** 2)
    return np.pad(burst, RATE // 2).astype(np.float32)


def found(path):
    return [(fields["text"], fields["speaker"], fields["clip"]) for _, fields in read_recordings(path)]


def write(path, audio=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, speech() if audio is None else audio, RATE)
    return path


def test_tables_name_recordings_beside_them(tmp_path):
    write(tmp_path / "takes" / "a.wav")
    (tmp_path / "list.csv").write_text("\ufeffpath,sentence,client_id,mood\ntakes/a.wav,Hello there.,mia,glad\n",
                                       "utf-8")
    (tmp_path / "list.tsv").write_text("path\tsentence\ntakes/a.wav\tHello there.\n", "utf-8")
    (tmp_path / "list.jsonl").write_text(json.dumps({"audio": "takes/a.wav", "text": "Hello there."}) + "\n", "utf-8")
    assert found(tmp_path / "list.csv") == [("Hello there.", "mia", "takes/a.wav")]
    assert [one[:1] for one in found(tmp_path / "list.tsv")] == [("Hello there.",)]
    assert found(tmp_path / "list.jsonl")[0][0] == "Hello there."
    assert next(iter(read_recordings(tmp_path / "list.csv")))[1]["mood"] == "glad"
    written = prepare_speech([tmp_path / "list.csv"], tmp_path / "out.safetensors", RATE)
    assert written == (1, 0) and SpeechDataset(tmp_path / "out.safetensors").fields[0]["clip"] == "takes/a.wav"


def test_a_folder_with_a_table_of_hugging_face_is_no_ljspeech(tmp_path):
    write(tmp_path / "a.wav")
    (tmp_path / "metadata.csv").write_text("file_name,transcription\na.wav,Hello.\n", "utf-8")
    assert found(tmp_path) == [("Hello.", tmp_path.name, "a.wav")]


def test_ljspeech_takes_other_kinds_of_files_and_lists_what_is_missing(tmp_path):
    write(tmp_path / "wavs" / "one.flac")
    (tmp_path / "metadata.csv").write_text("one|5 men|five men\ntwo|gone|gone\n", "utf-8")
    refused = {}
    assert prepare_speech([tmp_path], tmp_path / "out.safetensors", RATE, refused=refused) == (1, 1)
    assert "two.wav" in refused["two"] and SpeechDataset(tmp_path / "out.safetensors").fields[0]["text"] == "five men"


def test_librispeech_has_a_list_of_texts_a_folder(tmp_path):
    write(tmp_path / "84" / "121" / "84-121-0000.flac")
    (tmp_path / "84" / "121" / "84-121.trans.txt").write_text("84-121-0000 GO DO YOU HEAR\n", "utf-8")
    assert found(tmp_path) == [("GO DO YOU HEAR", "84", "84/121/84-121-0000.flac")]


def test_webdataset_shards(tmp_path):
    sound = io.BytesIO()
    soundfile.write(sound, speech(), RATE, format="FLAC")
    members = {"x.flac": sound.getvalue(), "x.json": json.dumps({"speaker": "tom", "text": "Hello."}).encode(),
               "y.flac": sound.getvalue(), "y.txt": b"Good bye."}
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))
    assert found(tmp_path / "shard.tar") == [("Hello.", "tom", "shard.tar 0"), ("Good bye.", "shard", "shard.tar 1")]
    assert prepare_speech([tmp_path / "shard.tar"], tmp_path / "out.safetensors", RATE) == (2, 0)
    (tmp_path / "torn.tar").write_bytes((tmp_path / "shard.tar").read_bytes()[:700])
    with pytest.raises(ValueError, match=r"torn\.tar"):
        list(read_recordings(tmp_path / "torn.tar"))


def test_a_list_without_recordings_says_so(tmp_path):
    (tmp_path / "list.jsonl").write_text('{"text": "Hello."}\n', "utf-8")
    with pytest.raises(ValueError, match="no column that names recordings"):
        list(read_recordings(tmp_path / "list.jsonl"))


def test_the_ends_are_trimmed_and_the_level_is_one(tmp_path):
    for level in (0.01, 0.3):
        audio = speech(1.0, level)
        first, last = speech_bounds(audio, RATE)
        assert first == pytest.approx(RATE // 2, abs=800) and last == pytest.approx(RATE * 3 // 2, abs=800)
        made = clean_clip(audio + 0.05, RATE)  # an offset goes too
        assert len(made) == pytest.approx(RATE * (1 + BEFORE_SECONDS + AFTER_SECONDS), abs=2000)
        assert 10 * np.log10(power(made, RATE)) == pytest.approx(LEVEL_DBFS, abs=0.5)
        assert abs(float(made.mean())) < 1e-3
    short = clean_clip(audio[RATE // 2:RATE * 3 // 2], RATE)  # cut at the first word: silence is added
    assert not short[:round(0.1 * RATE)].any() and not short[-round(0.1 * RATE):].any()


@pytest.mark.parametrize(("audio", "text", "words"), [
    (speech(), "", "no text"), (speech()[:1000], "a", "it lasts 0.06 s"), (np.zeros(RATE, np.float32), "a", "silent"),
    (np.clip(speech(1.0, 3.0), -0.9, 0.9), "a", "clipped"), (np.resize(speech(), 25 * RATE), "a", "cut long ones")])
def test_what_no_voice_is_learned_from(audio, text, words):
    with pytest.raises(ValueError, match=words):
        check_clip(audio, RATE, text)
    check_clip(speech(), RATE, "Hello.")


def test_one_speaker_is_chosen_and_all_are_counted(tmp_path):
    for name in ("mia/1.wav", "mia/2.wav", "tom/1.wav"):
        write(tmp_path / "in" / name)
        (tmp_path / "in" / name).with_suffix(".txt").write_text("Hello." if name != "mia/2.wav" else "")
    refused, chooser = {}, VoiceClips("mia")
    output = tmp_path / "out.safetensors"
    assert prepare_speech([tmp_path / "in"], output, RATE, clean=chooser, refused=refused) == (1, 1)
    assert list(refused) == ["mia/2.wav"] and "no text" in refused["mia/2.wav"]
    assert chooser.seen == {"mia": 4.0, "tom": 2.0}
    data = SpeechDataset(output)
    (clips, seconds), = speakers_of(data.fields, data.lengths, RATE).values()
    assert clips == 1 and seconds == pytest.approx(1 + BEFORE_SECONDS + AFTER_SECONDS, abs=0.15)
