"""`photophone evaluate times`: words are matched, differences are told, and Whisper's times are those of the sound."""

import math

import numpy as np
import pytest
import torch

from photophone import TextToSpeechPipeline
from photophone.evaluation.metrics.judges import Transcriber
from photophone.evaluation.report import format_report
from photophone.evaluation.tasks.speech_times import SENTENCES, evaluate_times, match_words, spread
from photophone.text.delayed_streams import TimedWord


def timed(text, start=0.0):
    return [TimedWord(word, start + index, start + index + 0.5) for index, word in enumerate(text.split())]


def test_words_that_both_have_are_matched_in_order():
    pairs = match_words(timed("the old clock had stopped"), timed("The clock, has stopped.", 0.25))
    assert [(ours.text, theirs.text) for ours, theirs in pairs] == [("the", "The"), ("clock", "clock,"),
                                                                   ("stopped", "stopped.")]
    assert [ours.start - theirs.start for ours, theirs in pairs] == [-0.25, 0.75, 0.75]


def test_spread():
    found = spread([-0.2, 0.1, 0.1, 0.3])
    assert found == {"median": pytest.approx(0.15), "p90": pytest.approx(0.27), "shift": pytest.approx(0.1)}
    assert all(math.isnan(value) for value in spread([]).values())


def test_the_sentences_are_fifty_and_plain():
    assert len(SENTENCES) == len(set(SENTENCES)) == 50 and not any(map(str.isdigit, "".join(SENTENCES)))


def test_the_voice_says_words_when_it_tells():
    """The whole chain on two sentences: Whisper hears silence put in front as it is, and the times agree."""
    pipeline = TextToSpeechPipeline.from_pretrained("photophone/tiny-speech")
    pipeline.set_progress_bar_config(disable=True)
    result = evaluate_times(pipeline, SENTENCES[1:3])
    assert result["sentences"] == 2 and result["compared"] >= 13
    assert result["both"]["median"] < 0.1 and result["both"]["p90"] < 0.35
    assert "both" in format_report("times", result)
    audio = pipeline(SENTENCES[1], generator=torch.Generator().manual_seed(0)).audio[0]
    early, late = (Transcriber().words(np.concatenate([np.zeros(count, np.float32), audio]), 16_000)
                   for count in (0, 16_000))
    shifts = [after.end - before.end for before, after in zip(early[:-1], late[:-1], strict=True)]
    assert np.median(shifts) == pytest.approx(1.0, abs=0.1)
