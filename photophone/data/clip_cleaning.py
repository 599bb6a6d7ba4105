"""Recordings of a voice made ready to learn from: refused when damaged, trimmed at the ends, of one loudness."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from photophone.data.mixing import power
from photophone.data.speech_sources import Clip

SHORTEST_SECONDS = 0.4
LONGEST_SECONDS = 20.0
"""Of a clip of a voice; a longer one is a paragraph, whose middle nobody hears at once."""
LEVEL_DBFS = -25.0
"""Of the active frames: about that of the built-in voice."""
PEAK = 0.98
SILENT_RMS = 1e-4
CLIPPED_SHARE = 2e-3
"""Of the samples at the largest value: more is audible."""
FRAME_SECONDS = 0.01
ACTIVE_DB = -38.0
"""Frames down to so much under the loud ones are speech."""
LOUD_SHARE = 0.95
BEFORE_SECONDS, AFTER_SECONDS = 0.2, 0.25
"""Silence that stays at the ends, added where there is less."""


@dataclass
class VoiceClips:
    """Chooses the recordings of a voice and makes them ready: what ``prepare_speech`` calls for each.

    Args:
        speaker: whose clips are taken; None for those of all.
        minutes: of all clips together; what comes later is left out. None for no limit.
        seen: seconds of each speaker, also of those who are not taken.
    """

    speaker: str | None = None
    minutes: float | None = None
    seen: dict[str, float] = field(default_factory=dict)
    taken: float = field(default=0.0, init=False)

    def __call__(self, clip: Clip) -> Clip | None:
        """The clip to learn from; None for one that is not asked for.

        Raises:
            ValueError: see :func:`check_clip`.
        """
        name, seconds = clip.fields.get("speaker", ""), len(clip.audio) / clip.sample_rate
        self.seen[name] = self.seen.get(name, 0.0) + seconds
        if self.speaker not in (None, name) or (self.minutes is not None and self.taken >= 60 * self.minutes):
            return None
        check_clip(clip.audio, clip.sample_rate, clip.fields.get("text") or "")
        self.taken += seconds
        return Clip(clean_clip(clip.audio, clip.sample_rate), clip.sample_rate, clip.fields)


def check_clip(audio: np.ndarray, sample_rate: int, text: str | None = None) -> None:
    """Refuse a recording that a voice cannot be learned from.

    Args:
        audio: float32 (T,).
        sample_rate: in Hz.
        text: its words; None where none are needed.

    Raises:
        ValueError: it is too short, too long, silent or clipped, or has no words.
    """
    seconds = len(audio) / sample_rate
    if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
        raise ValueError(f"it lasts {seconds:.2f} s; a clip of a voice lasts {SHORTEST_SECONDS} to {LONGEST_SECONDS:g} "
                         "s: cut long ones at pauses, with their text")
    if float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) < SILENT_RMS:
        raise ValueError("it is silent")
    peak = float(np.abs(audio).max())
    share = float(np.mean(np.abs(audio) > 0.999 * peak))
    if peak > 0.5 and share > CLIPPED_SHARE:
        raise ValueError(f"it is clipped: {100 * share:.1f} % of its samples are at the largest value; record it at a "
                         "lower level")
    if text is not None and not any(character.isalpha() for character in text):
        raise ValueError("it has no text; put its words into a .txt of the same name")


def speech_bounds(audio: np.ndarray, sample_rate: int) -> tuple[int, int]:
    """First and last sample (exclusive) of what is not silence at the ends of float32 (T,)."""
    size = max(1, round(FRAME_SECONDS * sample_rate))
    count = len(audio) // size
    if not count:
        return 0, len(audio)
    powers = np.square(audio[:count * size].reshape(count, size), dtype=np.float64).mean(axis=1)
    loud = np.quantile(powers, LOUD_SHARE)
    active = np.flatnonzero(powers > loud * 10 ** (ACTIVE_DB / 10))
    if not len(active):
        return 0, len(audio)
    return int(active[0]) * size, min(len(audio), (int(active[-1]) + 1) * size)


def clean_clip(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """A clip float32 (T,) with short silences at its ends, its active speech at ``LEVEL_DBFS``, without an offset."""
    audio = audio - np.float32(audio.mean(dtype=np.float64))
    first, last = speech_bounds(audio, sample_rate)
    before, after = (round(seconds * sample_rate) for seconds in (BEFORE_SECONDS, AFTER_SECONDS))
    kept = audio[max(0, first - before):last + after]
    kept = np.pad(kept, (max(0, before - first), max(0, last + after - len(audio))))
    return levelled(kept, sample_rate)


def levelled(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """A clip float32 (T,) whose active speech lies at ``LEVEL_DBFS``, lower where its peak would pass ``PEAK``."""
    level = power(audio, sample_rate)
    gain = np.sqrt(10 ** (LEVEL_DBFS / 10) / max(level, 1e-12))
    return (audio * min(gain, PEAK / max(float(np.abs(audio).max()), 1e-9))).astype(np.float32)
