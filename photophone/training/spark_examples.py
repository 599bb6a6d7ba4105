"""Examples to train Spark-TTS on: prompts and answers of clips of one gender.

The authors' estimates: the level of an attribute is the fifth of the corpus that a clip's value lies in; pitch is the
mean of voiced frames on the mel scale, speed is in syllables a second (arXiv 2503.01710).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from photophone.text.sparktts import (
    LEVELS,
    VoiceAttributes,
    answer,
    clone_prompt,
    creation_prompt,
    number_token,
)

VOWELS = set("AIOQWYaeiouæɑɐɒɔəɚɛɜɪʊʌᵊᵻ")


def mean_pitch(pitch: Sequence[float]) -> int:
    """Mean pitch in mel of values in Hz, 0 where there is no voice."""
    voiced = [value for value in pitch if value]
    return round(2595 * math.log10(1 + float(np.mean(voiced)) / 700)) if voiced else 0


def syllables_a_second(fields: dict[str, Any]) -> float:
    """Vowels of the phonemes over the seconds of a clip."""
    return sum(symbol in VOWELS for symbol in fields["phonemes"]) / sum(fields["seconds_per_phoneme"])


def levels(values: Sequence[float]) -> list[str]:
    """The level of each value: which fifth of all values it lies in."""
    borders = np.quantile(values, [0.2, 0.4, 0.6, 0.8])
    return [LEVELS[int(np.searchsorted(borders, value, side="right"))] for value in values]


@dataclass(frozen=True)
class SparkClip:
    """A clip as the model reads and writes it.

    Attributes:
        text: its words.
        voice, speech: voice codes and semantic codes.
        attributes: what its voice is like, in words.
        pitch, speed: the same in numbers.
    """

    text: str
    voice: list[int]
    speech: list[int]
    attributes: VoiceAttributes
    pitch: int
    speed: int

    def examples(self) -> list[tuple[str, str]]:
        """Prompt and answer with a recorded voice, and with one that is described."""
        values = number_token("pitch", self.pitch) + number_token("speed", self.speed)
        return [(clone_prompt(self.text, self.voice), answer(self.voice, self.speech)),
                (creation_prompt(self.text, self.attributes), answer(self.voice, self.speech, values))]


def spark_clips(fields: Sequence[dict[str, Any]], codes: Sequence[list[int]], num_voice_tokens: int,
                gender: str) -> list[SparkClip]:
    """Clips of one gender.

    Args:
        fields: with text, phonemes, seconds_per_phoneme and pitch.
        codes: of BiCodec, one row for each clip.
        num_voice_tokens: voice codes in front of each row.
        gender: of all.
    """
    pitches, speeds = [mean_pitch(own["pitch"]) for own in fields], [syllables_a_second(own) for own in fields]
    voices = [VoiceAttributes(gender, *own) for own in zip(levels(pitches), levels(speeds), strict=True)]
    return [SparkClip(own["text"], row[:num_voice_tokens], row[num_voice_tokens:], voice, pitch, round(speed))
            for own, row, voice, pitch, speed in zip(fields, codes, voices, pitches, speeds, strict=True)]


def word_spans(fields: dict[str, Any], offsets: Sequence[tuple[int, int]], start: int,
               times: Sequence[float]) -> np.ndarray | None:
    """Which ids of a prompt are the word that is spoken at a time.

    Args:
        fields: of the clip.
        offsets: first and last character behind, of each id of the prompt.
        start: where the text begins in the prompt.
        times: in seconds.

    Returns:
        int64 (len(times), 2), first id and the one behind the last; None where the phonemes have more words than the
        text, or fewer.
    """
    sounds, ends = fields["phonemes"].strip("_"), np.cumsum(fields["seconds_per_phoneme"])[:-1]
    words, spoken = list(re.finditer(r"\S+", fields["text"])), sounds.split(" ")
    if len(words) != len(spoken):
        return None
    closes = ends[np.cumsum([len(word) + 1 for word in spoken]) - 1]  # the pause in front counts as a symbol
    spans = []
    for word in words:
        first, last = start + word.start(), start + word.end()
        ids = [place for place, (begin, end) in enumerate(offsets) if begin < last and end > first]
        spans.append((ids[0], ids[-1] + 1))
    return np.array([spans[min(place, len(spans) - 1)] for place in np.searchsorted(closes, times, side="right")])
