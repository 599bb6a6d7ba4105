"""Faults of speech that tokens and sound tell: no end, gaps, loops, silence, lost words."""

import numpy as np
import pytest
import torch

from photophone import TextToSpeechPipeline
from photophone.pipelines.speech_faults import (
    Limit,
    Listener,
    differing,
    hurried_pieces,
    least_seconds,
    letters_in,
    loop_length,
    token_faults,
)

CHANGING = torch.arange(400) * 7919 % 6007
RATE, SAMPLE_RATE = 25.0, 8000
TEXTS = ["the light of the sun carries it.", "a hen sat on the old stone wall.", "the men of the hill go home now.",
         "no one had seen the bird so far."]


@pytest.mark.parametrize(("period", "times", "loop"), [
    (1, 60, 60), (1, 40, 0), (10, 6, 60), (20, 3, 60), (30, 2, 0), (50, 3, 150), (51, 3, 0), (7, 10, 70)])
def test_loops_are_found_by_their_period(period, times, loop):
    """At least three times, two seconds in all, and at most two seconds a time."""
    tokens = torch.cat([CHANGING[:100], 7000 + torch.arange(period).repeat(times), CHANGING[100:150]])
    assert loop_length(tokens, RATE) == loop
    assert loop_length(tokens[100:100 + period * times], RATE) == loop


def frames(count, seed=0, dim=8):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("period", "times", "noise"), [(1, 60, 0.1), (12, 6, 0.0), (20, 4, 0.1), (30, 4, 0.1)])
def test_loops_of_continuous_frames_are_found_by_likeness(period, times, noise):
    """Frames that are drawn anew differ a little; ``noise`` is the share of their variance that does."""
    loop = frames(period, 1).repeat(times, 1)
    speech = torch.cat([frames(100), loop + noise**0.5 * frames(len(loop), 2), frames(50, 3)])
    assert abs(loop_length(speech, RATE) - period * times) <= 6
    assert abs(loop_length(3 + 100 * speech.double(), RATE) - period * times) <= 6  # whatever their scale is


@pytest.mark.parametrize(("period", "times", "noise"), [(30, 2, 0.0), (12, 6, 0.6), (51, 3, 0.0)])
def test_frames_that_only_resemble_each_other_are_no_loop(period, times, noise):
    loop = frames(period, 1).repeat(times, 1)
    speech = torch.cat([frames(100), loop + noise**0.5 * frames(len(loop), 2), frames(50, 3)])
    assert loop_length(speech, RATE) == loop_length(frames(400), RATE) == loop_length(frames(2), RATE) == 0


def test_unrelated_frames_are_as_far_as_their_spread():
    assert differing(frames(3000), [7], RATE).all() and not differing(torch.ones(100, 4), [7], RATE).any()


def test_the_built_in_voice_repeats_nothing_where_the_text_does_not():
    """And where the text does, so does the speech, which is what is told."""
    speak = TextToSpeechPipeline.from_pretrained("photophone/tiny-speech")
    speak.set_progress_bar_config(disable=True)
    text = "The photophone carried speech on a beam of sunlight over two hundred metres. Go. Go. Go. Go. Go. Go."
    assert speak(text[:76], generator=torch.Generator().manual_seed(2)).faults == [()]
    result = speak("Go on. " * 6, generator=torch.Generator().manual_seed(2), output_type="latent")
    assert loop_length(result.audio[0].values[0], speak.codec.frame_rate)


def test_speech_that_changes_has_no_fault():
    assert token_faults("a hen", CHANGING, rate=RATE, least=10, limit=Limit(500)) == []
    assert loop_length(CHANGING, RATE) == loop_length(CHANGING[:2], RATE) == loop_length(CHANGING[:0], RATE) == 0


def test_each_fault_is_told():
    assert token_faults("a hen", CHANGING[:0], rate=RATE, least=1, limit=Limit(9)) == ["made no speech: 'a hen'"]
    assert token_faults("a hen", CHANGING[:5], rate=RATE, least=6, limit=Limit(9)) == [
        "ended after 5 tokens, which cannot hold all words (6 are the least): 'a hen'"]
    assert token_faults("a hen", CHANGING[:9], rate=RATE, least=6, limit=Limit(9)) == [
        "stopped at the limit of 9 tokens: 'a hen'"]
    assert token_faults("a hen", torch.ones(75, dtype=torch.long), rate=RATE, least=6, limit=Limit(75)) == [
        "stopped at the limit of 75 tokens: 'a hen'", "repeats itself for 3.0 s, a loop or silence: 'a hen'"]
    assert token_faults("a hen", frames(9), rate=RATE, limit=Limit(8, "4 patches"), unit="frames") == [
        "stopped at the limit of 4 patches: 'a hen'"]


# sound ----------------------------------------------------------------------------------------------------------


def listen(text, audio, sizes=(10_000,), **options):
    listener, start, count = Listener(text, SAMPLE_RATE, **options), 0, 0
    while start < len(audio):
        size = sizes[count % len(sizes)]
        listener.hear(audio[start:start + size])
        start, count = start + size, count + 1
    return listener


def tone(seconds, level=0.1):
    return level * torch.sin(torch.arange(round(SAMPLE_RATE * seconds)) * 0.3)


def test_letters_are_what_there_is_to_say():
    assert letters_in("a hen, 12!") == 8 and letters_in("光能传声。") == 10
    assert letters_in('a <break time="2s"/> hen [laughter] <|en|>') == 4
    assert least_seconds("a" * 50) == 2 and least_seconds("a" * 50, speed=2.0) == 1


@pytest.mark.parametrize("sizes", [(10_000,), (7,), (161, 3, 900)])
def test_silence_is_heard_in_parts_of_any_size(sizes):
    audio = torch.cat([tone(1.0), 0.5e-3 * tone(2.5), tone(0.5)])
    (fault,) = listen("a hen", audio, sizes).faults()
    assert fault == "is silent for 2.5 s: 'a hen'"
    assert listen("a hen", audio, sizes, pause=1.0).faults() == []
    assert listen("a hen", torch.cat([tone(1.0), torch.zeros(15_000), tone(0.5)]), sizes).faults() == []


def test_speech_that_is_too_short_for_its_words_is_told():
    text = "x" * 30
    assert listen(text, tone(1.1)).faults() == [
        "lasts 1.10 s, which cannot hold all words (1.20 s are the least): '" + text + "'"]
    assert listen(text, tone(1.1), speed=1.2).faults() == listen(text, tone(1.3)).faults() == []
    assert listen(text, torch.zeros(0)).faults() == []


def test_a_piece_that_is_said_much_faster_than_the_others_is_told():
    usual = [listen(text, tone(2.0)) for text in TEXTS]
    assert hurried_pieces(usual) == hurried_pieces(usual[:1]) == []
    (fault,) = hurried_pieces([*usual[1:], listen(TEXTS[0], tone(0.95))])
    assert fault.startswith("is said 2.") and TEXTS[0][:30] in fault
    assert hurried_pieces([*usual[1:], listen("no.", tone(0.1))]) == []  # too short to judge


def test_pieces_are_heard_without_the_pauses_between_them():
    """One listener a piece; silence that was asked for is none of theirs, however long."""
    speak = TextToSpeechPipeline.from_pretrained("photophone/tiny-speech")
    speak.set_progress_bar_config(disable=True)
    text = "Light carries sound. Who goes there?"
    result = speak(text, generator=torch.Generator().manual_seed(1), pause=3.0)
    assert result.faults == [()]
    loud = np.abs(result.audio[0]).reshape(-1)
    assert len(loud) > 5 * speak.sample_rate
