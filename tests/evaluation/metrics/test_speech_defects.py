"""Skips, repeats and missed stops, on sentences where people would agree."""

import pytest

from photophone.evaluation.metrics.audio import edit_distance
from photophone.evaluation.metrics.speech_defects import align, find_defects

GIVEN = "the light carries the sound over the wide water".split()  # noqa: SIM905
PHONEMES = 35


@pytest.mark.parametrize(("heard", "seconds", "expected"), [
    ("the light carries the sound over the wide water", 2.5, (False, False, False)),
    ("the light carries a sound over wide waters", 2.5, (False, False, False)),  # a recogniser's slips
    ("the light carries over the wide water", 2.5, (True, False, False)),
    ("the light", 1.0, (True, False, False)),
    ("", 1.0, (True, False, False)),
    ("the light carries the light carries the sound over the wide water", 3.0, (False, True, False)),
    ("the light carries the sound over the wide water wide water", 3.0, (False, True, True)),
    ("the light carries the sound over the wide water and so on", 3.0, (False, False, True)),
    ("the light carries the sound over the wide water", 20.0, (False, False, True)),
])
def test_defects(heard, seconds, expected):
    found = find_defects(GIVEN, heard.split(), seconds, PHONEMES)
    assert (found.skip, found.repeat, found.missed_stop) == expected
    assert found.any == any(expected)


@pytest.mark.parametrize("heard", ["", "a b", "the sound the light water", "over the wide water the light"])
def test_the_alignment_has_the_fewest_edits(heard):
    operations = align(GIVEN, heard.split())
    assert sum(kind != "equal" for kind, _, _ in operations) == edit_distance(GIVEN, heard.split())


def test_the_only_word_can_be_skipped():
    assert find_defects(["no"], [], 0.3, 2).skip and not find_defects(["no"], ["know"], 0.3, 2).skip


@pytest.mark.parametrize(("given", "heard"), [("s t w two inch", "stw two inch"), ("newgate", "new gate"),
                                              ("the end of s t w", "the end of stw")])
def test_words_parted_elsewhere_are_heard(given, heard):
    assert not find_defects(given.split(), heard.split(), 2, 12).any
    assert find_defects([*given.split(), "and", "more"], heard.split(), 2, 12).skip
