"""American phonemes as British ones: equal to the British lexicon where the words differ in accent alone."""

import pytest

from photophone.text.accents import british_sounds
from photophone.text.phonemes import phonemize, read_words

ALIKE = ("read", "reading", "tear", "lead", "close", "live", "wind", "row", "wound", "dove", "desert", "house", "tours",
         "far", "nurse", "north", "square", "near", "goat", "go over", "hot")


@pytest.mark.parametrize("word", ALIKE)
def test_words_that_differ_in_accent_alone(word):
    assert british_sounds(phonemize(word)) == phonemize(word, british=True)


def test_r_is_said_before_vowels_alone():
    assert british_sounds("fˈɑɹ") == "fˈɑː" and british_sounds("vˈɛɹi") == "vˈɛɹi"
    assert british_sounds("kˈɑɹz") == "kˈɑːz" and british_sounds("bˈɛɹɪŋ") == "bˈɛɹɪŋ"
    assert british_sounds(british_sounds("fˈɑɹ")) == "fˈɑː"


def test_homographs_and_given_phonemes_of_a_british_reader():
    told = {one.text: one.phonemes for one in read_words("They tear it, and a GIF.", {"GIF": "dʒˈoʊf"}, british=True)}
    assert told["tear"] == "tˈɛː" and told["GIF"] == "dʒˈoʊf"
