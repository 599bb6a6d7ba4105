"""`photophone evaluate speech`: what it reads, measures and writes, on voices whose quality is known."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from speech import small_codec, small_speech
from typer.testing import CliRunner

import photophone
from photophone import TextToSpeechPipeline
from photophone.cli import app
from photophone.evaluation.peers import speech as speech_peers
from photophone.evaluation.report import format_report
from photophone.evaluation.tasks.speech import evaluate_voices, our_voice, read_test_sentences
from photophone.text.speech_text import speech_pieces

SENTENCES = ["We walked along the river until it was dark.", "She put the letter back into the drawer."]


def test_sentences_of_a_table_and_of_lines(tmp_path):
    table, lines = tmp_path / "a.csv", tmp_path / "a.txt"
    table.write_text("text,split\n" + "".join(f"Sentence {i}.,{'test' if i % 2 else 'train'}\n" for i in range(20)))
    lines.write_text("One.\n\n Two. \n")
    assert read_test_sentences(table, limit=3) == ["Sentence 1.", "Sentence 9.", "Sentence 19."]
    assert len(read_test_sentences(table)) == 10 and len(read_test_sentences(table, None)) == 20
    assert read_test_sentences(lines) == ["One.", "Two."]


def test_the_hard_sentences_are_fifty_of_many_kinds_and_each_is_read():
    path = Path(photophone.__file__).parent / "evaluation" / "prompts" / "hard_sentences.txt"
    sentences = read_test_sentences(path)
    lengths = [len(sentence.split()) for sentence in sentences]
    assert len(set(sentences)) == 50 and lengths.count(1) >= 5 and max(lengths) >= 60
    assert sum(any(symbol.isdigit() for symbol in sentence) for sentence in sentences) >= 10
    for sentence in sentences:
        phonemes = "".join(piece.phonemes for piece in speech_pieces(sentence))
        assert phonemes and not any(symbol.isdigit() for symbol in phonemes)


def test_the_lone_words_begin_with_vowels():
    words = read_test_sentences(Path(photophone.__file__).parent / "evaluation" / "prompts" / "lone_words.txt")
    sounds = [next(iter(speech_pieces(word))).phonemes.lstrip("ˈˌ") for word in words]
    assert len(set(words)) == 20 and all(sound[0] in "AIOQWYaiuæɑɒɔəɐɛɜɪʊʌᵻ" for sound in sounds), sounds


@pytest.mark.parametrize(("name", "content", "options", "message"), [
    ("a.csv", b"words\nhello\n", {}, "no column text"), ("a.csv", b"text,split\nHello.,train\n", {}, "split 'test'"),
    ("a.txt", b"\n", {}, "no sentences"), ("a.txt", b"ab\xff", {}, "cannot be read"),
    ("a.txt", b"Yes.", {"limit": 0}, "at least 1")])
def test_what_is_no_list_of_sentences_is_refused(tmp_path, name, content, options, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_test_sentences(tmp_path / name, **options)
    with pytest.raises(ValueError, match="cannot be read"):
        read_test_sentences(tmp_path / "missing.txt")


def test_a_clear_voice_is_told_from_a_cut_and_an_endless_one():
    def cut(text):
        audio, rate = speech_peers.hibari(text)
        return audio[:len(audio) // 3], rate

    def endless(text):
        audio, rate = speech_peers.hibari(text)
        return np.concatenate([audio] * 3), rate

    voices = {"hibari": speech_peers.hibari, "cut": cut, "endless": endless}
    result = evaluate_voices(voices, SENTENCES)
    found = result["voices"]
    assert result["sentences"] == {"count": 2, "words": 17}
    clear = found["hibari"]
    assert clear["wer"] == 0 and clear["defects"] == 0 and clear["similarity"] > 0.85 and clear["ovrl"] > 2.8
    assert clear["rtf"] > 0 and [row["text"] for row in clear["rows"]] == SENTENCES
    assert found["cut"]["skip"] == 1 and found["cut"]["seconds"] == pytest.approx(clear["seconds"] / 3, rel=1e-3)
    assert found["endless"]["missed_stop"] == 1 and found["endless"]["wer"] > 0.4
    assert format_report("speech", result).count("\n") == 4


def test_a_voice_is_compared_with_its_own_teacher():
    def low(text):
        audio, rate = speech_peers.hibari(text)
        return audio, rate * 3 // 4

    voices = {"one": speech_peers.hibari, "other": speech_peers.hibari}
    found = evaluate_voices(voices, SENTENCES[:1], teachers={"other": low})["voices"]
    assert found["one"]["similarity"] > found["other"]["similarity"] + 0.1
    assert speech_peers.teacher("heart") is speech_peers.hibari
    with pytest.raises(ValueError, match="am_michael are Kokoro's; name its folder"):
        speech_peers.teacher("am_michael")


def test_pico_speaks():
    pytest.importorskip("py_nanotts")
    audio, rate = speech_peers.pico("Yes.")
    assert rate == 16000 and audio.dtype == np.float32 and 0.1 < np.abs(audio).max() <= 1 and len(audio) > 4000


def test_our_voice_draws_a_seed_for_each_sentence():
    speak = our_voice(TextToSpeechPipeline(small_speech(), small_codec()), seed=3, num_inference_steps=2)
    first, second = speak("Yes.")[0], speak("Yes.")[0]
    again = our_voice(TextToSpeechPipeline(small_speech(), small_codec()), seed=4, num_inference_steps=2)("Yes.")[0]
    assert np.abs(first - second).max() > 1e-3 and np.array_equal(second, again)


def test_peers_that_are_missing_say_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    usable, missing = speech_peers.VOICES.available(["hibari-tts", "flite"])
    assert list(usable) == ["hibari-tts"] and missing == {"flite": "flite is not installed (apt install flite)"}
    with pytest.raises(ValueError, match="unknown peers siri; known are hibari-tts, flite, espeak-ng, pico"):
        speech_peers.VOICES.available(["siri"])


def test_the_command_writes_its_report_and_what_was_said(tmp_path):
    TextToSpeechPipeline(small_speech(), small_codec()).save_pretrained(tmp_path / "model")
    (tmp_path / "a.txt").write_text("Yes.\n")
    result = CliRunner().invoke(app, [
        "evaluate", "speech", "--data", str(tmp_path / "a.txt"), "-m", str(tmp_path / "model"), "--peer", "none",
        "--steps", "2", "-o", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.exception
    printed = json.loads(result.stdout)
    assert printed == json.loads((tmp_path / "out" / "speech.json").read_text())
    (row,) = printed["voices"].values()
    assert row["rows"][0]["text"] == "Yes." and math.isfinite(row["ovrl"]) and printed["settings"]["seed"] == 0
    assert "1 sentences, 1 words" in (tmp_path / "out" / "speech.txt").read_text()
    (wav,) = (tmp_path / "out").rglob("*.wav")
    assert wav.with_suffix(".txt").read_text() == "Yes.\n"
