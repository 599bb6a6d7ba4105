"""American phonemes as a speaker from the south of England says them, for the few words that no lexicon reads.

British voices have a lexicon of their own. Homographs are told apart by tables of American phonemes, which this
rewrites: r is said before vowels alone, and vowels have their British signs.
"""

from __future__ import annotations

import re

VOWELS = "AIOQWYaeiouæɑɒɔəɚɛɜɪʊʌᵊᵻ"
WITH_R = {"ɑɹ": "ɑː", "ɔɹ": "ɔː", "ɜɹ": "ɜː", "əɹ": "ə", "ɛɹ": "ɛː", "ɪɹ": "ɪə", "ʊɹ": "ʊə"}
ALONE = {"O": "Q", "T": "t"}
"""O is the vowel of "go"; T is the American t between vowels."""
_R = re.compile(rf"({'|'.join(WITH_R)})(?![ˈˌ]?[{VOWELS}])")
_LONG = re.compile(rf"([ˈˌ][^ˈˌ {VOWELS}]*)([iu])(?!ː)")


def british_sounds(phonemes: str) -> str:
    """British phonemes for American ones, in the alphabet of :mod:`photophone.text.phonemes`."""
    said = _R.sub(lambda match: WITH_R[match.group(1)], phonemes)
    said = re.sub(r"ɑ(?!ː)", "ɒ", said)
    said = "".join(ALONE.get(symbol, symbol) for symbol in said)
    return _LONG.sub(r"\1\2ː", said)
