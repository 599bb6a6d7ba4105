"""A text with what is to be done while it is read: pauses, pronunciations, pace and loudness.

A text is taken as markup where it begins with ``<speak``, see :mod:`photophone.text.ssml`. In any other text there are
two plain forms, ``[pause 0.5s]`` and ``[GIF](/dʒɪf/)``; the rest of it is words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from photophone.core.limits import MAX_PAUSE_SECONDS, MAX_TEXT_CHARACTERS
from photophone.text.ipa import MARKS

ENDS = ("clause", "sentence", "paragraph")
"""What may end with a piece, the least first."""
_PAUSE = re.compile(r"\[pause (\d{1,4}(?:\.\d{1,3})?) ?(ms|s)\]|"
                    r"<break time=[\"'](\d{1,4}(?:\.\d{1,3})?)(ms|s)[\"'] ?/>")
_INLINE = re.compile(r"\[([^\[\]\n]{1,100})\]\(/([^/()\n]{1,100})/\)")
_SPEAK = re.compile(r"\s*(?:<\?xml\s|<!DOCTYPE\s|<speak[\s/>])")


@dataclass(frozen=True)
class Manner:
    """How something is said.

    Attributes:
        rate: 1 is the voice's own pace, 2 is twice as fast.
        volume: louder by so many decibels.
    """

    rate: float = 1.0
    volume: float = 0.0


@dataclass(frozen=True)
class Span:
    """A part of a text.

    Attributes:
        text: its words.
        phonemes: of them, as :func:`photophone.text.ipa.read_ipa` takes them; None: as they are read.
        manner: how it is said.
    """

    text: str
    phonemes: str | None = None
    manner: Manner = Manner()


@dataclass(frozen=True)
class Stop:
    """A place where speech stops.

    Attributes:
        ends: what ends there, one of ``ENDS``.
        seconds: of silence; None: what is usual where that ends.
    """

    ends: str = "clause"
    seconds: float | None = None


@dataclass(frozen=True)
class Script:
    """What is to be said, in order."""

    items: tuple[Span | Stop, ...]

    @cached_property
    def plain(self) -> str:
        """The words alone."""
        return "".join(item.text if isinstance(item, Span) else ("\n\n" if item.ends == "paragraph" else " ")
                       for item in self.items)

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing but one text."""
        return len(self.items) == 1 and self.items[0] == Span(self.plain)


@dataclass(frozen=True)
class Directed:
    """A piece of a text and what is done around it.

    Attributes:
        piece: see :class:`photophone.text.speech_text.SpeechPiece` and :class:`photophone.text.voxcpm.WrittenPiece`.
        manner: how it is said.
        before: seconds of silence in front of it.
        behind: seconds of silence behind it; None: what is usual where ends what ends with the piece.
    """

    piece: Any
    manner: Manner = Manner()
    before: float = 0.0
    behind: float | None = None


def read_script(text: str, markup: bool | None = None, phonemes: bool = True) -> Script:
    """What is to be said.

    Args:
        text: words, or markup.
        markup: whether it is markup; None: where it begins with ``<speak``.
        phonemes: whether ``[GIF](/dʒɪf/)`` is a pronunciation; where not, it stays a link.

    Raises:
        ValueError: markup that cannot be read, or a pause over the limit.
    """
    if not isinstance(text, str):
        raise ValueError(f"the text must be a string, got {type(text).__name__}")
    if markup or markup is None and _SPEAK.match(text):
        if len(text) > MAX_TEXT_CHARACTERS:
            raise ValueError(f"the text has {len(text)} characters, the limit is {MAX_TEXT_CHARACTERS}; split it")
        from photophone.text.ssml import parse_ssml  # most texts are none

        return Script(tuple(parse_ssml(text)))
    return Script(tuple(_plain_items(text, phonemes)) or (Span(text),)) if markup is None else Script((Span(text),))


def _plain_items(text: str, phonemes: bool) -> Iterator[Span | Stop]:
    place = 0
    if "[" in text or "<break" in text:
        for match in re.finditer(f"{_PAUSE.pattern}|{_INLINE.pattern}" if phonemes else _PAUSE.pattern, text):
            said = match.group(6) if phonemes else None
            if said is not None and not MARKS & set(said):
                continue  # a link to a path
            if match.start() > place:
                yield Span(text[place:match.start()])
            if said is None:
                yield Stop(seconds=pause_seconds(match.group(1) or match.group(3), match.group(2) or match.group(4)))
            else:
                yield Span(match.group(5), said)
            place = match.end()
    if place < len(text):
        yield Span(text[place:])


def pause_seconds(number: str, unit: str) -> float:
    """Seconds of a pause such as "500" "ms".

    Raises:
        ValueError: it is over the limit.
    """
    seconds = float(number) / (1000 if unit == "ms" else 1)
    if seconds > MAX_PAUSE_SECONDS:
        raise ValueError(f"a pause of {number}{unit} is over the limit of {MAX_PAUSE_SECONDS:g} s; use several")
    return seconds


def direct(items: Iterable[Directed | Stop]) -> Iterator[Directed]:
    """Pieces with the stops around them, made as they are asked for.

    Stops that follow each other are one: their seconds add up, and the most ends that any of them ends.
    """
    last: Directed | None = None
    before = 0.0
    for item in items:
        if isinstance(item, Directed):
            if last is not None:
                yield last
            last, before = replace(item, before=before), 0.0
        elif last is None:
            before += item.seconds or 0.0
        else:
            ends = max(last.piece.ends, item.ends, key=ENDS.index)
            silence = last.behind if item.seconds is None else (last.behind or 0.0) + item.seconds
            last = replace(last, piece=replace(last.piece, ends=ends), behind=silence)
    if last is not None:
        yield last
