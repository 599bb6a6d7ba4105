"""`photophone speak` in other languages, from published folders, and with two voices."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
from official_streams import TTS, write_release, write_voice
from test_pocket_pipeline import folder
from typer.testing import CliRunner

from photophone import TextToSpeechPipeline, Voice
from photophone.cli import app
from photophone.cli.speakers import choose_model, speaking_entries
from photophone.text.pocket_tts import LANGUAGES

__all__ = ["folder"]  # the fixture of a tiny Pocket TTS
FRENCH = "il a dit: « oui »; où est l’ami?"


def run(*arguments):
    return CliRunner().invoke(app, ["speak", *map(str, arguments)])


def test_french_is_spoken_by_the_french_weights(folder, tmp_path):
    """The same sound as in Python, with the French rules for signs."""
    result = run(FRENCH, "-m", "pocket-tts", "--language", "French", "--weights", folder, "-o", tmp_path / "a.wav",
                 "--seed", 7)
    assert result.exit_code == 0, result.exception
    pipeline = TextToSpeechPipeline.from_original("pocket-tts-french", folder)
    pipeline.set_progress_bar_config(disable=True)
    assert [piece.text for piece in pipeline.front.pieces(FRENCH)] == ["Il a dit, oui , où est l'ami?"]
    (whole,) = pipeline(FRENCH, generator=torch.Generator().manual_seed(7)).audio
    audio, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    np.testing.assert_allclose(audio, whole.clip(-1, 1), atol=2e-4)
    facts = json.loads((tmp_path / "a.json").read_text())
    assert facts["model"] == "pocket-tts-french" and facts["text"] == FRENCH


def test_single_files_may_be_named(folder, tmp_path):
    weights = [f"{name}={folder / file}" for name, file in (("pocket_tts", "model.safetensors"),
                                                            ("text_tokenizer", "tokenizer.json"))]
    shutil.copytree(folder, tmp_path / "release")
    (tmp_path / "release" / "tokenizer.json").unlink()
    options = [part for one in [tmp_path / "release", *weights] for part in ("--weights", one)]
    result = run("oui", "-m", "pocket-tts-french", *options, "-o", tmp_path / "b.wav", "--seed", 1)
    assert result.exit_code == 0, result.exception
    assert (tmp_path / "b.wav").is_file()


def test_two_voices_speak_the_lines_in_turns(tmp_path, monkeypatch):
    from official_streams import MIMI

    write_release(tmp_path / "tts", TTS)
    voices = [tmp_path / f"{name}.safetensors" for name in ("ann", "bob")]
    for seed, path in enumerate(voices):
        write_voice(path, seed=seed, sig="abc", epoch=3)
    parts = {"part_configs": {"mimi": MIMI}}
    monkeypatch.setattr("photophone.cli.speakers.load_pipeline", lambda owner, name, device, dtype, files:
                        owner.from_original(name, **files, **parts))
    text = "où est-il?\nici"
    result = run(text, "-m", "kyutai/tts-1.6b-en_fr", "--language", "french", "--weights", tmp_path / "tts", "--voice",
                 voices[0], "--second-voice", voices[1], "-o", tmp_path / "c.wav", "--seed", 3)
    assert result.exit_code == 0, result.exception
    pipeline = TextToSpeechPipeline.from_original("kyutai-tts-1.6b-en-fr", tmp_path / "tts", **parts)
    (whole,) = pipeline(text, voice=[Voice(path) for path in voices], generator=torch.Generator().manual_seed(3)).audio
    audio, _ = soundfile.read(tmp_path / "c.wav", dtype="float32")
    np.testing.assert_allclose(audio, whole.clip(-1, 1), atol=2e-4)
    assert json.loads((tmp_path / "c.json").read_text())["voice"] == [str(path) for path in voices]


@pytest.mark.parametrize(("model", "language", "name"), [
    ("pocket-tts", "german", "pocket-tts-german"), ("pocket-tts", None, "pocket-tts-english"),
    ("phonon", "french", "phonon-40m-fr"), ("kyutai/tts-1.6b-en_fr", None, "kyutai-tts-1.6b-en-fr"),
    ("voxcpm-2", "french", "voxcpm-2"), ("photophone/tiny-speech", "english", "photophone/tiny-speech"),
    ("someone/else", None, "someone/else")])
def test_a_language_chooses_the_weights(model, language, name):
    assert choose_model(model, language) == name


@pytest.mark.parametrize(("arguments", "message"), [
    (("où", "--language", "french"), "photophone/tiny-speech speaks English, not french; french is spoken by kyutai"),
    (("où", "-m", "kyutai-tts-0.75b-en", "--language", "french"), "speaks english, not french"),
    (("où", "-m", "pocket-tts", "--language", "klingon"), "speaks dutch, english, french"),
    (("où", "-m", "someone/else", "--language", "french"), "nothing is known of someone/else"),
    (("...", "-m", "pocket-tts-french"), "no words"), (("a", "--weights", "x"), "--weights belongs to registered"),
    (("a", "-m", "voxcpm-2", "--weights", "x", "--weights", "y"), "two folders: x, y"),
    (("a", "--second-voice", "b"), "give --voice for the others"),
    (("a", "--voice", "b", "--second-voice", "c", "--voice-text", "d"), "leave out --voice-text")])
def test_refusals_before_anything_loads(arguments, message):
    result = run(*arguments)
    assert isinstance(result.exception, ValueError) and message in str(result.exception)


def test_a_published_folder_needs_its_name(folder):
    result = run("a hen", "-m", folder)
    assert "give -m its registered name" in str(result.exception)


def test_every_language_of_pocket_tts_has_its_rules():
    pocket = [entry.languages for entry in speaking_entries() if entry.name.startswith("pocket")]
    assert {language for spoken in pocket for language in spoken} == set(LANGUAGES)


