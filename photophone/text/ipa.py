"""Pronunciations as people write them, in the symbols that the built-in voice was trained on."""

from __future__ import annotations

import re
import unicodedata

MOST_SYMBOLS = 100
"""Of one pronunciation: a piece of speech has to hold it."""
VOWELS = "AIOWYiuæɐɑɔəɛɜɪʊʌᵊᵻ"
KNOWN = frozenset(VOWELS + "Tbdfhjklmnpstvwzðŋɡɹʃʒʤʧθˈˌ ")
"""Symbols of the voice: A as in "day", I "my", O "go", W "now", Y "boy", T the flap of "water"."""
UNSTRESSED = frozenset("əᵊᵻɐ")
_LEFT_OUT = re.compile("[\u0361\u035c.\u203f·ʰʷʲˠˤ\u0303\u0325\u031a\u032f\u0330\u02de-]")
"""Ties, dots between syllables, and marks that the voice makes nothing of."""
_PLAIN: tuple[tuple[str, str], ...] = (
    ("dʒ", "ʤ"), ("tʃ", "ʧ"), ("eɪ", "A"), ("aɪ", "I"), ("ɔɪ", "Y"), ("oʊ", "O"), ("əʊ", "O"), ("aʊ", "W"),
    ("ɜːɹ", "ɜɹ"), ("ɜːr", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɝː", "ɜɹ"), ("eː", "A"), ("oː", "O"), ("aː", "ɑ"),
    ("n\u0329", "ᵊn"), ("l\u0329", "ᵊl"), ("m\u0329", "ᵊm"), ("ː", ""), ("ˑ", ""), ("ɝ", "ɜɹ"), ("ɚ", "əɹ"),
    ("Q", "O"), ("g", "ɡ"), ("r", "ɹ"), ("ɻ", "ɹ"), ("ʁ", "ɹ"), ("ɾ", "T"), ("ʔ", "t"), ("ɫ", "l"), ("e", "ɛ"),
    ("a", "ɑ"), ("ɒ", "ɑ"), ("o", "O"), ("ɨ", "ᵻ"), ("ʉ", "u"), ("ʍ", "w"), ("x", "k"), ("ç", "h"), ("ɲ", "nj"),
    ("ʎ", "lj"), ("β", "b"), ("'", "ˈ"))
"""In their order: spellings of the International Phonetic Alphabet, and the nearest symbol of the voice."""
MARKS = frozenset("ˈˌːəɛɜɪʊʌæɑɔɒɐɚɝðŋɡɹʃʒʤʧθɾɫᵊᵻ")
"""Characters by which phonemes are told from letters."""


def read_ipa(given: str) -> str:
    """A pronunciation in the symbols of the voice.

    The International Phonetic Alphabet is read, between slashes or without, and the voice's own alphabet. The stress is
    moved to the vowel; a word without any is stressed on its first full vowel. Sounds that English does not have become
    the nearest that it has.

    Args:
        given: of one word, or of several with spaces between.

    Raises:
        ValueError: it is empty, too long, or has a symbol that the voice does not know.
    """
    text = unicodedata.normalize("NFC", given).strip().strip("/[]").strip()
    if len(text) > MOST_SYMBOLS:
        raise ValueError(f"the pronunciation {given[:30]!r}... has {len(text)} symbols, the limit is {MOST_SYMBOLS}")
    text = _LEFT_OUT.sub("", text.replace("ɜ\u02de", "ɝ").replace("ə\u02de", "ɚ"))
    for spelling, symbol in _PLAIN:
        text = text.replace(spelling, symbol)
    unknown = next((symbol for symbol in text if symbol not in KNOWN), None)
    if unknown is not None:
        raise ValueError(f"the pronunciation {given!r} has {unknown!r} (U+{ord(unknown):04X}), which the voice does "
                         f"not know; write IPA, or its own symbols: {' '.join(sorted(KNOWN - {' '}))}")
    words = [_stressed(word) for word in text.split()]
    if not any(symbol.isalpha() and symbol not in "ˈˌ" for symbol in text):
        raise ValueError(f"the pronunciation {given!r} has no sounds")
    return " ".join(words)


def _stressed(word: str) -> str:
    word = re.sub(rf"([ˈˌ])([^ˈˌ{VOWELS}]*)(?=[{VOWELS}])", r"\2\1", word)
    if "ˈ" in word or "ˌ" in word:
        return word
    full = next((place for place, symbol in enumerate(word) if symbol in VOWELS and symbol not in UNSTRESSED), None)
    return word if full is None else f"{word[:full]}ˈ{word[full:]}"


def with_s(phonemes: str) -> str:
    """The same with the s of a possessive."""
    if phonemes[-1] in "ptkfθ":
        return phonemes + "s"
    return phonemes + ("ᵻz" if phonemes[-1] in "szʃʒʧʤ" else "z")
