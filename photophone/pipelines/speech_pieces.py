"""Pieces of a text on their way to speech: what each needs, when it is said, what is done to its sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from photophone.core.limits import SPEED_RANGE
from photophone.data.time_stretch import TimeStretch
from photophone.generators.sampler import Sampler
from photophone.pipelines.speech_faults import Listener, hurried_pieces
from photophone.pipelines.speech_fronts import Request, SpeechFront, SpokenVoice
from photophone.text.lexicon import Lexicon
from photophone.text.script import Manner, Script
from photophone.text.speech_text import SpeechPiece
from photophone.text.spoken_words import SpokenPiece, SpokenWord, time_piece
from photophone.text.voxcpm import WrittenPiece

RAMP_SECONDS = 0.005
"""In which a piece takes its loudness."""


@dataclass
class Row:
    """What the pieces of a text share.

    Attributes:
        voice: that speaks them.
        faults: what went wrong.
        spoken: the pieces that have been begun, with their times, where the generator tells them.
        heard: how each piece was said.
    """

    voice: SpokenVoice | None
    faults: list[str] = field(default_factory=list)
    spoken: list[SpokenPiece] = field(default_factory=list)
    heard: list[Listener] = field(default_factory=list)

    def close(self) -> None:
        """Judge the sound of all pieces."""
        for listener in self.heard:
            self.faults += listener.faults()
        self.faults += hurried_pieces(self.heard)


@dataclass
class Piece:
    """One part of a text to generate.

    Attributes:
        part: its words.
        seed: of its own.
        pause: silent tokens behind it.
        row: of its text.
        manner: how it is said.
        before: silent tokens in front of it.
        counts: tokens that each symbol takes, where the generator tells them.
    """

    part: SpeechPiece | WrittenPiece
    seed: int
    pause: int
    row: Row
    manner: Manner = Manner()
    before: int = 0
    counts: list[int] | None = None

    @property
    def request(self) -> Request:
        """The piece, and its row's voice as it is known now."""
        return Request(self.part, self.row.voice, self.manner.rate)

    def begin(self, first: int, rate: float, lead: float = 0.0) -> None:
        """Note when it is said.

        Args:
            first: the token of the speech that it begins with.
            rate: tokens a second.
            lead: seconds by which sounds come before their tokens, as the generator's config has it.
        """
        if self.counts is not None:
            part = self.part
            self.row.spoken.append(time_piece(part.text.replace("\u2060", ""), part.phonemes, part.words, self.counts,
                                              first, rate, lead))


@dataclass(frozen=True)
class SpeechCall:
    """What a call asks for, checked: a row of pieces for each text."""

    front: SpeechFront
    rows: list[list[Piece]]
    sampler: Sampler
    stretch: float
    voice: SpokenVoice | None
    seeds: list[int]
    scripts: list[Script]
    lexicon: Lexicon
    options: dict[str, Any]


PAUSE = "pause"
Part = tuple[Tensor, Piece | str | None]
"""Tokens, and the piece that begins with them; of silence around a piece, PAUSE."""


def count_of(values: Tensor) -> int:
    """How many tokens these are: (1, N, D), or (1, N) or (1, Q, N) of whole numbers."""
    return values.shape[1 if values.is_floating_point() else -1]


def keep_times(parts: Iterable[Part], rate: float, lead: float) -> Iterator[Part]:
    """The same parts, while their pieces note when they are said."""
    done = 0
    for values, opened in parts:
        if isinstance(opened, Piece):
            opened.begin(done, rate, lead)
        done += count_of(values)
        yield values, opened


class Effects:
    """What is done to the sound of one piece, chunk by chunk.

    Args:
        sample_rate: in Hz.
        volume: louder by so many decibels; what gets over full scale is cut.
        stretch: how many times as fast, for generators that know one pace.
    """

    def __init__(self, sample_rate: int, volume: float = 0.0, stretch: float = 1.0) -> None:
        self.gain = 10 ** (volume / 20)
        self.ramp = torch.linspace(1, self.gain, round(RAMP_SECONDS * sample_rate))
        self.stretch = None if stretch == 1 else TimeStretch(sample_rate, stretch)

    def __call__(self, audio: Tensor) -> Tensor:
        """The next samples (T,); with a stretch there may be fewer or more."""
        if self.gain != 1:
            audio = self._louder(audio)
        return audio if self.stretch is None else self.stretch(audio)

    def finish(self) -> Tensor:
        """What is left behind the last samples."""
        return torch.zeros(0) if self.stretch is None else self.stretch.finish()

    def _louder(self, audio: Tensor) -> Tensor:
        ramp, self.ramp = self.ramp[:len(audio)], self.ramp[len(audio):]
        made = audio * self.gain
        made[:len(ramp)] = audio[:len(ramp)] * ramp.to(audio)
        return made.clamp(-1, 1)


class WordClock:
    """Gives out the words of a stream with the chunk in which each begins.

    Args:
        row: its pieces note their times there.
        sample_rate: in Hz.
    """

    def __init__(self, row: Row, sample_rate: int) -> None:
        self.row, self.sample_rate = row, sample_rate
        self.samples, self.pieces = 0, 0
        self.waiting: list[SpokenWord] = []

    def next(self, count: int) -> tuple[float, tuple[SpokenWord, ...]]:
        """Of the next ``count`` samples: when they begin, in seconds, and the words that begin in them."""
        start = self.samples / self.sample_rate
        self.samples += count
        for piece in self.row.spoken[self.pieces:]:
            self.waiting += piece.words
        self.pieces = len(self.row.spoken)
        end = self.samples / self.sample_rate
        words = tuple(word for word in self.waiting if word.start < end)
        self.waiting = self.waiting[len(words):]
        return start, words


def check_pace(speed: float, rate: float) -> None:
    """Refuse a speed of a call and a rate of its markup that are too much together.

    Raises:
        ValueError: names both and the limits.
    """
    if not SPEED_RANGE[0] <= speed * rate <= SPEED_RANGE[1]:
        raise ValueError(f"the speed {speed:g} and the rate {rate:g} of the markup make {speed * rate:g}; it "
                         f"must be {SPEED_RANGE[0]:g} to {SPEED_RANGE[1]:g}")


def script_settings(lexicon: Lexicon, scripts: list[Script], markup: bool | None) -> dict[str, Any]:
    """What was given beside the texts, for the facts beside their speech: of a lexicon the entries that they have."""
    used = lexicon.among(" ".join(script.plain for script in scripts)) if lexicon.given else {}
    return {**({"pronounce": used} if used else {}), **({} if markup is None else {"markup": markup})}
