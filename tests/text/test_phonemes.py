"""The alphabet of phonemes and the reader behind it."""

import json
from pathlib import Path

import hibari
import pytest

from photophone.text.phonemes import SYMBOLS, encode_phonemes, phonemize


def test_the_alphabet_is_the_pause_and_hibaris_vocabulary_in_its_order():
    vocabulary = json.loads((Path(hibari.__file__).parent / "assets" / "vocab.json").read_text(encoding="utf-8"))
    assert ("_", *sorted(vocabulary, key=vocabulary.get)) == SYMBOLS and len(set(SYMBOLS)) == 115


def test_a_pause_stands_at_both_ends_and_unknown_symbols_are_left_out():
    ids = encode_phonemes("həlˈO 中_")
    assert ids.tolist() == [0, *(SYMBOLS.index(symbol) for symbol in "həlˈO "), 0]
    assert encode_phonemes("").tolist() == [0, 0]


@pytest.mark.parametrize(("sentence", "phonemes"), [  # of American dictionaries, in misaki's alphabet
    ("Hello there.", "həlˈO ðˈɛɹ."),
    ("The eyes of the future became the eyes of God.", "ði ˈIz ʌv ðə fjˈuʧəɹ bəkˈAm ði ˈIz ʌv ɡˈɑd."),
    ("Nobody else is at risk.", "nˈObˌɑdi ˈɛls ɪz æt ɹˈɪsk."),
    ("...", "..."),
    ("", ""),
])
def test_phonemes_of_a_sentence(sentence, phonemes):
    assert phonemize(sentence) == phonemes


def test_all_phonemes_of_a_sentence_are_in_the_alphabet():
    phonemes = phonemize("On the 3rd of March 2024, 1,250 people paid $9.99 each; “why?” asked Zoë — no one knew…")
    assert phonemes and set(phonemes) <= set(SYMBOLS)
