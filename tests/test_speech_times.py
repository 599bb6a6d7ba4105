"""When words and phonemes are said: exact properties on small real parts, and files of times."""

import json
import re

import numpy as np
import pytest
import torch
from speech import small_codec, small_speech

from photophone import TextToSpeechPipeline
from photophone.pipelines.speech_output import at_rate
from photophone.pipelines.timestamps import CUE_CHARACTERS, cues, write_timestamps
from photophone.text.speech_text import speech_pieces
from photophone.text.spoken_words import SpokenPiece, place_words, sound_groups, time_piece

TEXTS = ["Light carries sound.", "She sells sea shells. Who goes there? Dr. Smith paid $5.50, well-known and (black).",
         "[pause 0.5s] No. [pause 1s] Yes, a [GIF](/dʒɪf/)!\n\nThe sun is warm. [pause 0.25s]",
         "<speak>One <prosody rate='fast'>two three</prosody> four.<break time='0.3s'/></speak>"]
FAST = {"num_inference_steps": 1}
LONG = " ".join(["The photophone sent speech over two hundred meters on a beam of light"] * 4) + "."


@pytest.fixture(scope="module")
def pipeline():
    return TextToSpeechPipeline(small_speech(), small_codec())


@pytest.fixture(scope="module")
def batch(pipeline):
    return pipeline(TEXTS, generator=seeds(), **FAST)


def seeds():
    return [torch.Generator().manual_seed(seed) for seed in range(len(TEXTS))]


def test_pieces_and_pauses_fill_the_speech(batch):
    for audio, sentences in zip(batch.audio, batch.sentences):
        ends = [0.0]
        for piece in sentences:
            assert piece.start >= ends[-1] and piece.end > piece.start
            ends.append(piece.end)
        assert ends[-1] <= len(audio) / batch.sample_rate
    light, plain, paused, _ = batch.sentences
    assert light[0].start == 0 and light[-1].end == len(batch.audio[0]) / batch.sample_rate
    assert [round(b.start - a.end, 3) for a, b in zip(plain, plain[1:])] == [0.15] * (len(plain) - 1)
    assert paused[0].start == 0.5 and round(paused[1].start - paused[0].end, 3) == 1.0
    assert round(len(batch.audio[2]) / batch.sample_rate - paused[-1].end, 3) == 0.25


def test_words_follow_each_other_and_phonemes_fill_them(batch):
    for row in batch.sentences:
        for piece in row:
            place = piece.start
            for word in piece.words:
                assert word.start >= place and word.phonemes and word.text
                assert (word.phonemes[0].start, word.phonemes[-1].end) == (word.start, word.end)
                for one, two in zip(word.phonemes, word.phonemes[1:]):
                    assert one.start < one.end == two.start
                place = word.end
            assert place <= piece.end


def test_every_sound_of_every_piece_has_a_word(batch):
    for row in batch.sentences:
        for piece in row:
            said = "".join(phoneme.text for word in piece.words for phoneme in word.phonemes)
            assert said == re.sub(r"[ ,.!?]", "", piece.phonemes)
    said = "She sells sea shells Who goes there Doctor Smith paid five dollars and fifty cents well-known and black"
    assert [word.text for word in batch.words[1]] == said.split()


def test_times_are_those_of_the_durations(pipeline, batch):
    """Against what the generator tells of the ids, symbol by symbol."""
    (piece,) = batch.sentences[0]
    ids = pipeline.front.front.ids(next(iter(speech_pieces(TEXTS[0]))))[None]
    counts = small_speech().durations(ids, torch.ones_like(ids, dtype=torch.bool))[0]
    rate = pipeline.codec.frame_rate
    ends = [0.0, *(counts.cumsum(0) / rate).tolist()]  # symbol i of the phonemes: from ends[i + 1] to ends[i + 2]
    spaces = [place for place, symbol in enumerate(piece.phonemes) if symbol == " "]
    bounds = [(ends[place + 1] + ends[place + 2]) / 2 for place in spaces]  # both words have half of it
    first, second, third = piece.words
    assert [first.end, second.start, second.end, third.start] == pytest.approx([bounds[0]] * 2 + [bounds[1]] * 2)
    assert first.start == pytest.approx(ends[1]) and third.end == pytest.approx(ends[-3])
    assert [one.text for one in first.phonemes] == ["l", "ˈI", "t"]
    assert first.phonemes[1].start == pytest.approx(ends[2]) and first.phonemes[1].end == pytest.approx(ends[4])


@pytest.mark.parametrize("row", range(len(TEXTS)))
def test_alone_streamed_explained_and_in_a_batch_the_times_are_the_same(pipeline, batch, row):
    alone = pipeline(TEXTS[row], generator=seeds()[row], **FAST)
    chunks = list(pipeline.stream(TEXTS[row], generator=seeds()[row], **FAST))
    assert alone.sentences[0] == batch.sentences[row] == pipeline.explain(TEXTS[row])
    assert [word for chunk in chunks for word in chunk.words] == batch.words[row]
    assert np.array_equal(np.concatenate([chunk.audio for chunk in chunks]).shape, batch.audio[row].shape)
    for chunk in chunks:
        end = chunk.start + len(chunk.audio) / chunk.sample_rate
        assert all(chunk.start <= word.start < end for word in chunk.words)


def test_latents_have_times_too(pipeline, batch):
    latent = pipeline(TEXTS, generator=seeds(), output_type="latent", **FAST)
    assert latent.sentences == batch.sentences


def test_speed_and_rate_shorten_words(pipeline):
    def seconds(text, **options):
        return sum(word.end - word.start for piece in pipeline.explain(text, **options) for word in piece.words)

    usual = seconds(LONG)
    fast, marked = seconds(LONG, speed=1.5), seconds(f"<speak><prosody rate='150%'>{LONG}</prosody></speak>")
    assert fast == marked < usual
    with pytest.raises(ValueError, match="the speed 2 and the rate 1.5 of the markup make 3"):
        seconds(f"<speak><prosody rate='150%'>{LONG}</prosody></speak>", speed=2.0)


def test_sounds_may_come_before_their_tokens():
    words = place_words([("a", 1), ("bc", 2)], "a bc.")
    plain, early = (time_piece("a bc.", "a bc.", words, [2, 1, 2, 3, 3, 1, 4], 40, 40, lead) for lead in (0.0, 0.05))
    assert [(word.start, word.end) for word in plain.words] == [(1.05, 1.1), (1.1, 1.275)]
    assert [(word.start, round(word.end, 6)) for word in early.words] == [(1.0, 1.05), (1.05, 1.225)]
    assert (early.start, early.end) == (plain.start, plain.end) == (1.0, 1.4)
    late = time_piece("a bc.", "a bc.", words, [1, 1, 2, 3, 3, 1, 4], 40, 40, 0.05)
    assert late.words[0].start == late.start  # not before the piece


def test_words_keep_their_place_where_phonemes_are_tidied_or_cut():
    placed = place_words([("a", 1), ("-", 0), ("bc", 2)], "a, bc.")
    assert [("a, bc."[word.first:word.last], word.text) for word in placed] == [("a", "a"), ("bc", "bc")]
    long = next(iter(speech_pieces("9" * 300)))
    assert [word.text for word in long.words][0] and long.words[0].first == 0
    assert sound_groups("ˈIˌAtː b") == [(0, 2), (2, 4), (4, 6), (7, 8)]
    with pytest.raises(ValueError, match="3 durations for 2 phonemes"):
        time_piece("a", "a.", (), [1, 2, 3], 0, 40)


def test_chunks_at_another_rate_keep_speech_and_words(pipeline, batch):
    chunks = list(at_rate(pipeline.stream(TEXTS[1], generator=seeds()[1], **FAST), batch.sample_rate, 24_000))
    made = np.concatenate([chunk.audio for chunk in chunks])
    np.testing.assert_allclose(made, batch.resampled(24_000).audio[1], atol=1e-4)
    assert [word for chunk in chunks for word in chunk.words] == batch.words[1]
    assert {chunk.sample_rate for chunk in chunks} == {24_000}


def test_files_of_times(batch, tmp_path):
    facts = json.loads(batch.save_timestamps(tmp_path / "a.json", 1).read_text())
    assert facts["text"] == TEXTS[1] and facts["seed"] == 1
    words = [word for piece in facts["sentences"] for word in piece["words"]]
    assert [word["text"] for word in words] == [word.text for word in batch.words[1]]
    assert words[3]["phonemes"][0]["start"] == batch.words[1][3].phonemes[0].start
    srt = batch.save_timestamps(tmp_path / "a.srt", 1).read_text()
    assert srt.startswith("1\n00:00:00,") and "Who goes there?" in srt and "\n\n2\n" in srt
    times = re.findall(r"(\d\d):(\d\d):(\d\d),(\d{3}) --> (\d\d):(\d\d):(\d\d),(\d{3})", srt)
    assert len(times) == len(batch.sentences[1])
    vtt = batch.save_timestamps(tmp_path / "a.vtt", 1).read_text()
    assert vtt.startswith("WEBVTT\n\n00:00:00.") and vtt.count(" --> ") == len(times)
    with pytest.raises(FileExistsError):
        batch.save_timestamps(tmp_path / "a.vtt")
    with pytest.raises(ValueError, match="must end in .json, .srt, .vtt"):
        batch.save_timestamps(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="does not tell when"):
        type(batch)([], 16000, ["a"], [1]).save_timestamps(tmp_path / "b.srt")


def test_long_sentences_become_several_subtitles(pipeline, tmp_path):
    made = list(cues(pipeline.explain(LONG)))
    assert len(made) > 3 and all(len(cue.text) <= CUE_CHARACTERS for cue in made)
    assert all(one.end <= two.start for one, two in zip(made, made[1:]))
    assert " ".join(cue.text for cue in made) == LONG
    hours = SpokenPiece("a <b> & c", "", 0, 0, ())
    late = time_piece("late <now", "lA nW.", place_words([("late", 2), ("now", 2)], "lA nW."), [0] + [1] * 7, 7200, 1)
    text = write_timestamps(tmp_path / "late.vtt", [hours, late]).read_text()
    assert "02:00:00.000 --> 02:00:05.000\nlate &lt;now" in text
