"""Phonemes: the alphabet that the speech generator reads, and how English text becomes it.

Phonemes come from the package hibari-tts (Apache-2.0): its wheel holds a lexicon of 130,000 English words, a small
network for words outside it, and the reading of numbers, dates and money, and nothing downloads at run time. The
alternatives fall short of that: misaki downloads a spaCy model, espeak-ng is GPL, gruut's lexicon is smaller and its
numbers are read by a further package. The alphabet is that of misaki (Apache-2.0), in which ``A`` is the vowel of
"day", ``I`` of "my", ``O`` of "go" and ``W`` of "now".
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from photophone.text.accents import british_sounds
from photophone.text.hibari_reader import hibari_g2p
from photophone.text.homographs import correct

PAUSE = "_"
"""Id 0: the silence before and after a sentence, and padding."""
SYMBOLS: tuple[str, ...] = (PAUSE, *(
    ";:,.!?—…\"()“” \u0303ʣʥʦʨᵝꭧAIOQSTWYᵊabcdefhijklmnopqrstuvwxyzɑɐɒæβɔɕçɖðʤəɚɛɜɟɡɥɨɪʝɯɰ"
    "ŋɳɲɴøɸθœɹɾɻʁɽʂʃʈʧʊʋʌɣɤχʎʒʔˈˌːʰʲ↓→↗↘ᵻ"))
"""Every symbol at its id: the pause, then the 114 symbols of hibari's vocabulary in its order."""
_IDS = {symbol: index for index, symbol in enumerate(SYMBOLS)}
_LOCK = threading.Lock()


def encode_phonemes(phonemes: str) -> Tensor:
    """Ids Long (L,) of a phoneme string: a pause, the symbols that the alphabet knows, a pause."""
    known = [_IDS[symbol] for symbol in phonemes if symbol in _IDS and symbol != PAUSE]
    return torch.tensor([0, *known, 0])


def phonemize(sentence: str, british: bool = False) -> str:
    """The phonemes of one sentence of English, in the alphabet :data:`SYMBOLS`; empty when nothing can be read.

    Args:
        sentence: as it is written.
        british: as in the south of England, by a lexicon of its own; else American.
    """
    with _LOCK:  # the reader keeps its network's state
        reader = _reader(british)
        try:
            phonemes = reader(sentence)
        except (IndexError, ValueError):  # a number beyond its names of powers of ten: digit by digit
            phonemes = reader(re.sub(r"\d", r"\g<0> ", sentence))
    return "".join(symbol for symbol in phonemes if symbol in _IDS and symbol != PAUSE).strip()


@dataclass(frozen=True)
class Reading:
    """A word, or what stands between words, and how it is said.

    Attributes:
        text: as it stands.
        phonemes: in the alphabet :data:`SYMBOLS`; of punctuation the mark itself, or nothing.
        space: white space follows.
    """

    text: str
    phonemes: str
    space: bool


def pronounce(words: str) -> str:
    """The phonemes of words as they stand: nothing is rewritten, homographs are told by :mod:`.homographs`.

    Args:
        words: a sentence of :func:`photophone.text.written_forms.rewrite`; an A before U+2060 is the letter.
    """
    return join_readings(read_words(words))


def join_readings(readings: Iterable[Reading]) -> str:
    """The phonemes of a sentence."""
    return "".join(reading.phonemes + (" " if reading.space else "") for reading in readings).strip()


def read_words(words: str, known: Mapping[str, str] | None = None, british: bool = False) -> list[Reading]:
    """How each word of a sentence is said; see :func:`pronounce`.

    Args:
        words: the sentence.
        known: phonemes of words that the reader need not read; they are said as they stand.
        british: see :func:`phonemize`.
    """
    with _LOCK:
        reader = _reader(british)
        tokens = reader.tokenize(words)
        for token in tokens:
            if token.text.startswith("A\u2060"):
                token.phonemes = "ˈA" + ("z" if token.text.endswith("s") else "")
            elif known and token.text in known:
                token.phonemes = known[token.text]
        given = {id(token) for token in tokens if token.phonemes is not None}
        correct(tokens, has_readings)
        for token in tokens if british else ():
            if token.phonemes is not None and id(token) not in given:
                token.phonemes = british_sounds(token.phonemes)
        said = reader.phonemize_tokens(tokens)
    return [Reading(token.text, "".join(symbol for symbol in token.phonemes or "" if symbol in _IDS
                                        and symbol != PAUSE), bool(token.whitespace)) for token in said]


def is_word(word: str) -> bool:
    """Whether the lexicon has a small word, or one that it is a form of."""
    golds, silvers = _reader().lexicon.golds.d, _reader().lexicon.silvers.d
    stems = [word, *(word[:-len(end)] for end in ("s", "es", "ed", "d", "ing", "'s") if word.endswith(end))]
    return any(len(stem) > 2 and (stem in golds or stem in silvers) for stem in stems) or word in golds


def has_readings(word: str) -> bool:
    """Whether the lexicon reads a small word by its part of speech."""
    readings = _reader().lexicon.golds.d.get(word)
    if word in ("consist", "entail", "confine") or not isinstance(readings, dict):
        return False
    return not {"VERB", "NOUN", "ADJ"}.isdisjoint(readings)


@functools.cache
def _reader(british: bool = False) -> Any:
    return hibari_g2p().G2P(british=british)  # reads its lexicon: a third of a second
