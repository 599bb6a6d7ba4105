"""The words and phonemes of speech with their times, and which symbols of a piece belong to which word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from photophone.text.delayed_streams import TimedWord

BEFORE_SOUND, BEHIND_SOUND = "ˈˌ", "ːʰʲ\u0303"
"""Symbols of a phoneme that follows, and of the one before."""
NO_SOUND = frozenset(" ;:,.!?—…\"()“”")
"""Symbols that no word has: what is between words."""


@dataclass(frozen=True)
class TimedPhoneme:
    """A sound of a word.

    Attributes:
        text: in the alphabet of :mod:`photophone.text.phonemes`, with its mark of stress.
        start, end: in seconds from the begin of the speech.
    """

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class SpokenWord(TimedWord):
    """A word of speech.

    Attributes:
        text: as it is read, without punctuation.
        start, end: in seconds from the begin of the speech.
        phonemes: its sounds; each begins where the one before ends, but where a pause is within a word.
    """

    phonemes: tuple[TimedPhoneme, ...] = ()


@dataclass(frozen=True)
class SpokenPiece:
    """A part of a text that is spoken in one go, mostly a sentence.

    Attributes:
        text: the words as they are read, with punctuation.
        phonemes: what the voice reads.
        start, end: in seconds from the begin of the speech; pieces and the pauses between them fill it.
        words: in order; each begins where the one before it ends, but for pauses at punctuation.
    """

    text: str
    phonemes: str
    start: float
    end: float
    words: tuple[SpokenWord, ...]

    def facts(self) -> dict[str, Any]:
        """As it is written to JSON."""
        return asdict(self)


@dataclass(frozen=True)
class PlacedWord:
    """A word of a piece.

    Attributes:
        text: as it is read.
        first, last: its symbols are ``phonemes[first:last]``.
    """

    text: str
    first: int
    last: int


def place_words(words: Sequence[tuple[str, int]], phonemes: str, skipped: int = 0) -> tuple[PlacedWord, ...]:
    """Where the words of a sentence stand in its tidied phonemes.

    Tidying changes punctuation and spaces only, so sounds are counted.

    Args:
        words: each with the number of its symbols that are sounds.
        phonemes: of :func:`photophone.text.speech_text.tidy_phonemes`, or a part of it.
        skipped: sounds of the sentence before that part.
    """
    sounds = [place for place, symbol in enumerate(phonemes) if symbol not in NO_SOUND]
    placed, end = [], -skipped
    for text, count in words:
        start, end = end, end + count
        own = sounds[max(start, 0):max(end, 0)]
        if own:
            placed.append(PlacedWord(text, own[0], own[-1] + 1))
    return tuple(placed)


def sound_groups(symbols: str) -> list[tuple[int, int]]:
    """The phonemes of a word: the first and behind the last symbol of each, marks of stress with their sounds."""
    groups: list[tuple[int, int]] = []
    open_from: int | None = None
    for place, symbol in enumerate(symbols):
        if symbol in NO_SOUND:
            open_from = None
        elif symbol in BEFORE_SOUND:
            open_from = place if open_from is None else open_from
        elif symbol in BEHIND_SOUND and groups and groups[-1][1] == place:
            groups[-1] = groups[-1][0], place + 1
        else:
            groups.append((place if open_from is None else open_from, place + 1))
            open_from = None
    return groups


def time_piece(text: str, phonemes: str, words: Sequence[PlacedWord], counts: Sequence[int], first: int,
               rate: float, lead: float = 0.0) -> SpokenPiece:
    """A piece with its times.

    Args:
        text, phonemes, words: of the piece.
        counts: tokens that each symbol takes: the pause in front, the phonemes, the pause behind.
        first: the token of the speech that the piece begins with.
        rate: tokens a second.
        lead: seconds by which sounds come before their tokens.

    Raises:
        ValueError: counts of other symbols.
    """
    if len(counts) != len(phonemes) + 2:
        raise ValueError(f"{len(counts)} durations for {len(phonemes)} phonemes and two pauses")
    starts = symbol_starts(phonemes, counts)  # of the phonemes, and where the last one ends
    seconds = [max(first, first + start - lead * rate) / rate for start in starts]
    timed = []
    for word in words:
        sounds = tuple(TimedPhoneme(phonemes[word.first + start:word.first + end], seconds[word.first + start],
                                    seconds[word.first + end])
                       for start, end in sound_groups(phonemes[word.first:word.last]))
        timed.append(SpokenWord(word.text, seconds[word.first], seconds[word.last], sounds))
    return SpokenPiece(text, phonemes, first / rate, (first + sum(counts)) / rate, tuple(timed))


def symbol_starts(phonemes: str, counts: Sequence[int]) -> list[float]:
    """The token with which each symbol begins, and behind the last; a space between sounds both have half of.

    Args:
        phonemes: of a piece.
        counts: tokens of the pause in front, the phonemes, the pause behind.
    """
    starts: list[float] = list(accumulate(counts))
    for place in range(1, len(phonemes) - 1):
        if phonemes[place] == " " and phonemes[place - 1] not in NO_SOUND and phonemes[place + 1] not in NO_SOUND:
            starts[place] = starts[place + 1] = (starts[place] + starts[place + 1]) / 2
    return starts
