"""Texts that are spoken together get what they would get alone, whenever they join and leave."""

import numpy as np
import pytest
import torch

from photophone.pipelines.speech_rounds import SpeechRounds
from photophone.pipelines.text_to_speech import TextToSpeechPipeline

TEXTS = ["Light carries sound.", "Eight.",
         "The sun is warm. That was the start, and the boats came home.\n\nThen it rained.",
         "A book is read aloud by a machine that nobody sees."]


@pytest.fixture(scope="module")
def speak():
    pipeline = TextToSpeechPipeline.from_pretrained("photophone/tiny-speech")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def run(rounds, made):
    while rounds.active:
        for utterance, audio in rounds.step():
            made.setdefault(utterance, []).append(audio)
    return made


@pytest.fixture(scope="module")
def alone(speak):
    return [speak(text, generator=seeded(seed)).audio[0] for seed, text in enumerate(TEXTS)]


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_seed_gives_the_same_alone_and_among_others(speak, alone, is_streamed):
    rounds = SpeechRounds(speak, most=6)
    ours = [rounds.join(text, generator=seeded(seed), is_streamed=is_streamed and seed != 1)
            for seed, text in enumerate(TEXTS)]
    made = run(rounds, {})
    for utterance, whole in zip(ours, alone):
        audio = np.concatenate(made[utterance])
        assert audio.shape == whole.shape
        assert np.abs(audio - whole).max() <= 1e-4
    counts = [len(made[utterance]) for utterance in ours]
    assert (counts[0] > 1) == is_streamed and counts[1] == 1


def test_texts_join_leave_and_have_their_own_settings(speak, alone):
    rounds = SpeechRounds(speak, most=2)
    first = rounds.join(TEXTS[2], generator=seeded(2))
    gone = rounds.join(TEXTS[3], generator=seeded(3))
    made = {}
    for utterance, audio in rounds.step():
        made.setdefault(utterance, []).append(audio)
    rounds.leave(gone)
    fast = rounds.join(TEXTS[0], generator=seeded(0), speed=2.0)
    late = rounds.join(TEXTS[0], generator=seeded(0))
    run(rounds, made)
    assert np.abs(np.concatenate(made[first]) - alone[2]).max() <= 1e-4
    assert np.abs(np.concatenate(made[late]) - alone[0]).max() <= 1e-4
    assert len(np.concatenate(made[fast])) < 0.7 * len(alone[0])
    assert rounds.active == []


def test_what_cannot_be_spoken_does_not_join(speak):
    rounds = SpeechRounds(speak)
    for text, options in (("", {}), ("Свет", {}), ("Hi.", {"speed": 9.0}), ("Hi.", {"instruction": "sadly"})):
        with pytest.raises(ValueError):
            rounds.join(text, generator=seeded(0), **options)
    assert rounds.active == [] and list(rounds.step()) == []
