"""What goes wrong when a model speaks, as far as its tokens and its sound tell: no end, gaps, loops, lost words.

One judgement for all systems. Tokens, codes or continuous frames, tell where speech was cut, and where it repeats
itself: codes that are the same again, frames that are almost the same again. The sound tells silence, and words that
are left out, where so many go that what is left is too short for them: nobody speaks more than 25 letters a second, and
no piece of a text is spoken twice as fast as the others. What is left out in smaller parts nothing here finds.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

LOOP_SECONDS, LOOP_TIMES = 2.0, 3
"""Speech that repeats itself at least so long, and so often, is a loop."""
LONGEST_PERIOD = 2.0
"""Seconds of what a loop repeats."""
SIMILAR, SMOOTH_SECONDS = 0.2, 0.2
"""Frames repeat others whose mean square distance, over so many seconds, is below this share of that of unrelated ones:
sentences of the built-in voice come to 0.9 s at most, loops are found up to a tenth of noise."""
SILENT_SECONDS, FRAME_SECONDS, QUIET = 2.0, 0.02, 0.002
"""A silence lasts at least so long; frames of sound with a smaller root mean square are quiet."""
LETTERS_A_SECOND, WIDE_LETTERS, DIGIT_LETTERS = 25.0, 2.5, 2.0
"""Of the fastest speech; a Chinese character, or another of that width, and a digit count as more than one."""
TAG = re.compile(r"<[^<>]*>|\[[a-z]+\]")
"""What a text has beside words, such as breaks and laughter."""
HURRY, LEAST_PIECES, LEAST_LETTERS = 2.0, 4, 15
"""So much faster than the others a piece of a text must not be, of so many at least, with so many letters each."""


@dataclass(frozen=True)
class Limit:
    """Where speech was to be cut.

    Args:
        count: of tokens.
        words: how it is called; None: the number of tokens.
    """

    count: float
    words: str | None = None


def letters_in(text: str) -> float:
    """How much there is to say, in letters."""
    plain = TAG.sub(" ", text)
    wide = sum(sign.isalpha() and unicodedata.east_asian_width(sign) in "WF" for sign in plain)
    digits = sum(sign.isdigit() for sign in plain)
    return sum(sign.isalpha() for sign in plain) + (WIDE_LETTERS - 1) * wide + DIGIT_LETTERS * digits


def least_seconds(text: str, speed: float = 1.0) -> float:
    """Seconds that nobody needs less of to say a text; ``speed``: how much faster than a voice's own it is said."""
    return letters_in(text) / (LETTERS_A_SECOND * max(1.0, speed))


def token_faults(text: str, tokens: Tensor, *, rate: float, limit: Limit | None = None, least: float = 0,
                 unit: str = "tokens") -> list[str]:
    """Faults of the speech of a text that its tokens tell, in words; none where it went well.

    Args:
        text: what was to be said.
        tokens: Long (N,) or float (N, D), what was written, without what ends it.
        rate: tokens a second.
        limit: where the speech was to be cut; None: nowhere.
        least: fewer tokens cannot say the text, as the family knows it.
        unit: how tokens are called.
    """
    count, what = len(tokens), f"{text!r:.40}"
    if not count:
        return [f"made no speech: {what}"]
    faults = []
    if limit is not None and count >= limit.count:
        faults.append(f"stopped at the limit of {limit.words or f'{limit.count:g} {unit}'}: {what}")
    elif count < least:
        faults.append(f"ended after {count} {unit}, which cannot hold all words ({least:g} are the least): {what}")
    seconds = loop_length(tokens, rate) / rate
    if seconds:
        faults.append(f"repeats itself for {seconds:.1f} s, a loop or silence: {what}")
    return faults


def loop_length(tokens: Tensor, rate: float) -> int:
    """Tokens of the longest stretch of Long (N,) or float (N, D) that repeats itself, 0 if there is no loop."""
    count = len(tokens)
    periods = torch.arange(1, min(round(LONGEST_PERIOD * rate), count // LOOP_TIMES) + 1)
    if count < LOOP_SECONDS * rate or not len(periods):
        return 0
    places = torch.arange(count)
    behind = places[None] >= count - periods[:, None]  # tokens that have none a period after them
    differ = differing(tokens.cpu(), periods.tolist(), rate) | behind
    last = torch.where(differ, places, -1).cummax(dim=1).values  # the nearest that differs, at or before each
    stretch = periods + (places - last).amax(dim=1)
    loops = stretch[stretch >= (LOOP_TIMES * periods).clamp(min=LOOP_SECONDS * rate)]
    return int(loops.max()) if len(loops) else 0


def differing(tokens: Tensor, periods: list[int], rate: float) -> Tensor:
    """Bool (periods, N), where tokens differ from those a period after; the last of each row mean nothing."""
    if not tokens.is_floating_point():
        return torch.stack([tokens != tokens.roll(-period) for period in periods])
    frames = tokens.float()
    spread = 2 * (frames - frames.mean(dim=0)).square().sum(dim=1).mean()
    size = max(1, round(SMOOTH_SECONDS * rate))
    places = torch.arange(-(size // 2), len(frames) + (size - 1) // 2)
    rows = []
    for period in periods:
        distance = torch.linalg.vector_norm(frames[period:] - frames[:-period], dim=1)
        rows.append(distance[places.clamp(0, len(distance) - 1)])  # the ends go on
    return functional.avg_pool1d(torch.stack(rows).square()[:, None], size, 1)[:, 0] > SIMILAR * spread


class Listener:
    """Hears the sound of one piece of a text, in parts; nothing grows with it.

    Args:
        text: what was to be said.
        sample_rate: of the sound, in Hz.
        speed: how much faster than the voice's own it is said.
        pause: seconds of silence that the text asks for.
    """

    def __init__(self, text: str, sample_rate: int, speed: float = 1.0, pause: float = 0.0) -> None:
        self.text, self.speed, self.allowed = text, speed, SILENT_SECONDS + pause
        self.sample_rate, self.size = sample_rate, max(1, round(FRAME_SECONDS * sample_rate))
        self.rest = torch.zeros(0)
        self.samples = self.loud = self.run = self.longest = 0

    def hear(self, audio: Tensor) -> None:
        """The next samples (T,)."""
        self.samples += len(audio)
        held = torch.cat([self.rest, audio.detach().float().cpu()])
        count = len(held) // self.size
        self.rest = held[count * self.size:]
        for quiet in (held[:count * self.size].view(count, self.size).square().mean(dim=1).sqrt() < QUIET).tolist():
            self.run = self.run + 1 if quiet else 0
            self.loud += not quiet
            self.longest = max(self.longest, self.run)

    @property
    def letters_a_second(self) -> float:
        """How fast it is said where it is not quiet; infinite where all is quiet."""
        return letters_in(self.text) / (self.loud * self.size / self.sample_rate) if self.loud else math.inf

    def faults(self) -> list[str]:
        """What the sound tells, in words; none where it went well, or where there is none."""
        what, faults = f"{self.text!r:.40}", []
        seconds, silent = self.samples / self.sample_rate, self.longest * self.size / self.sample_rate
        least = least_seconds(self.text, self.speed)
        if 0 < seconds < least:
            faults.append(f"lasts {seconds:.2f} s, which cannot hold all words ({least:.2f} s are the least): {what}")
        if silent > self.allowed:
            faults.append(f"is silent for {silent:.1f} s: {what}")
        return faults


def hurried_pieces(heard: Sequence[Listener]) -> list[str]:
    """Pieces of a text that are said much faster than the others, so that words may be missing, in words."""
    known = [one for one in heard if one.loud and letters_in(one.text) >= LEAST_LETTERS]
    if len(known) < LEAST_PIECES:
        return []
    usual = median(one.letters_a_second for one in known)
    return [f"is said {one.letters_a_second / usual:.1f} times as fast as the rest of the text, words may be missing: "
            f"{one.text!r:.40}" for one in known if one.letters_a_second > HURRY * usual]
