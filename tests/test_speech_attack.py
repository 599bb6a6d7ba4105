"""The beginning of short words that begin with a vowel."""

import numpy as np
import pytest
import torch

from photophone.pipelines.speech_attack import FADE_SECONDS, LEVEL, SharpAttack, begins_softly
from photophone.pipelines.text_to_speech import TextToSpeechPipeline
from photophone.text.speech_text import speech_pieces

RATE = 16000


@pytest.mark.parametrize(("text", "soft"), [("Eight.", True), ("Apples!", True), ("It is.", True), ("Wait.", False),
                                            ("Yes.", False), ("Every day we walked along the river.", False)])
def test_which_pieces_are_sharpened(text, soft):
    assert begins_softly(next(iter(speech_pieces(text)))) is soft


def test_a_murmur_goes_and_what_follows_stays():
    murmur, vowel = torch.full((3200,), 0.02), torch.full((4800,), 0.2)
    audio = SharpAttack(RATE)(torch.cat([murmur, vowel]))
    assert not audio[:3200].any()
    assert torch.equal(audio[3200 + round(FADE_SECONDS * RATE):], vowel[round(FADE_SECONDS * RATE):])


def test_chunks_together_equal_the_whole_and_quiet_speech_is_not_lost():
    audio = torch.linspace(0, 1.5 * LEVEL, 9600)
    attack = SharpAttack(RATE)
    assert torch.equal(torch.cat([attack(chunk) for chunk in audio.split(1600)]), SharpAttack(RATE)(audio))
    quiet = torch.full((9600,), LEVEL / 2)
    assert torch.equal(SharpAttack(RATE)(quiet)[-3000:], quiet[-3000:])


def test_a_short_word_begins_with_its_vowel_and_a_sentence_as_it_did():
    pipeline = TextToSpeechPipeline.from_pretrained("photophone/tiny-speech")
    said = pipeline("Eight.", generator=torch.Generator().manual_seed(1)).audio[0]
    start = np.flatnonzero(said)[0]
    level = np.sqrt(np.mean(said[start:start + 320] ** 2))
    assert start > 0.1 * RATE and level > 0.8 * LEVEL
    chunks = [chunk.audio for chunk in pipeline.stream("Eight.", generator=torch.Generator().manual_seed(1))]
    assert np.abs(np.concatenate(chunks) - said).max() < 1e-4
