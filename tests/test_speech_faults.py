"""Faults of speech that tokens tell: no end, gaps, loops."""

import pytest
import torch

from photophone.pipelines.speech_faults import loop_length, token_faults

CHANGING = torch.arange(400) * 7919 % 6007
RATE = 25.0


@pytest.mark.parametrize(("period", "times", "loop"), [
    (1, 60, 60), (1, 40, 0), (10, 6, 60), (20, 3, 60), (30, 2, 0), (50, 3, 150), (51, 3, 0), (7, 10, 70)])
def test_loops_are_found_by_their_period(period, times, loop):
    """At least three times, two seconds in all, and at most two seconds a time."""
    tokens = torch.cat([CHANGING[:100], 7000 + torch.arange(period).repeat(times), CHANGING[100:150]])
    assert loop_length(tokens, RATE) == loop
    assert loop_length(tokens[100:100 + period * times], RATE) == loop


def test_speech_that_changes_has_no_fault():
    assert token_faults("a hen", CHANGING, rate=RATE, least=10, most=500) == []
    assert loop_length(CHANGING, RATE) == loop_length(CHANGING[:2], RATE) == loop_length(CHANGING[:0], RATE) == 0


def test_each_fault_is_told():
    assert token_faults("a hen", CHANGING[:0], rate=RATE, least=1, most=9) == ["made no speech: 'a hen'"]
    assert token_faults("a hen", CHANGING[:5], rate=RATE, least=6, most=9) == [
        "ended after 5 tokens, which cannot hold all words (6 are the least): 'a hen'"]
    assert token_faults("a hen", CHANGING[:9], rate=RATE, least=6, most=9) == [
        "stopped at the limit of 9 tokens: 'a hen'"]
    assert token_faults("a hen", torch.ones(75, dtype=torch.long), rate=RATE, least=6, most=75) == [
        "stopped at the limit of 75 tokens: 'a hen'", "repeats itself for 3.0 s, a loop or silence: 'a hen'"]
