"""How loud a recording is over time, whatever clicks, bangs and changes of speakers it has. No torch here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from photophone.data.audio_decode import regrouped

FRAME_SECONDS = 0.02
LOUD_SHARE = 0.85
"""A seventh of the frames of a second may be clicks: those of more than ``LIMIT`` times the power of the loudest others
count as these. Of a stretch of time, the loudest second or two may be bangs: they count for ``LIMIT`` times the next.
"""
LIMIT = 4.0
RANGE = 0.01
"""Of the loudest power: seconds under it are pauses."""
AROUND_SECONDS = 8
"""The level at a time is that of so many seconds before and after it."""


@dataclass
class Levels:
    """What one look at a whole recording tells.

    Args:
        frames: samples of each channel.
        offset: mean of each channel without clicks, float32 (C, 1).
        peak: largest magnitude, the offset included.
        powers: of each second without clicks and offset, the louder channel's, float64 (N,).
        lengths: samples of each second, (N,); the last is shorter.
    """

    frames: int
    offset: np.ndarray
    peak: float
    powers: np.ndarray
    lengths: np.ndarray

    @property
    def limit(self) -> float:
        """No sample may lie beyond it when the offset is taken off: 1, or more for floats with larger peaks."""
        return 1.0 if self.peak <= 1 else self.peak + float(np.abs(self.offset).max())

    @property
    def rms(self) -> float:
        """Of the loud seconds of the whole recording; 0 for silence."""
        return loud_power(self.powers, self.lengths) ** 0.5

    def rms_at(self, quietest: float) -> np.ndarray:
        """The level around each second, float64 (N,), at least ``quietest`` times that of the whole; a recording of up
        to ``AROUND_SECONDS`` and one more has the same level all along."""
        count = len(self.powers)
        found = np.empty(count)
        for second in range(count):
            around = slice(max(0, second - AROUND_SECONDS), second + AROUND_SECONDS + 1)
            found[second] = loud_power(self.powers[around], self.lengths[around])
        return np.sqrt(found).clip(min=quietest * self.rms)


def loud_power(powers: np.ndarray, lengths: np.ndarray) -> float:
    """Mean power of the loud seconds: those within 20 dB of the loudest but one (of 4 and more) or two (of 16)."""
    passed = (len(powers) >= 4) + (len(powers) >= 16)
    top = float(np.sort(powers)[-1 - passed])
    if top == 0:
        top = float(powers.max(initial=0))
    loud = powers >= RANGE * top
    return float((powers[loud].clip(max=LIMIT * top) * lengths[loud]).sum() / lengths[loud].sum())


def second_power(second: np.ndarray, sample_rate: int) -> tuple[float, np.ndarray]:
    """Power of (C, n) about its middle, the louder channel's; frames far over most others count as those.

    Returns:
        The power, and which samples lie in such frames, (C, n).
    """
    size = max(1, round(FRAME_SECONDS * sample_rate))
    count = second.shape[1] // size
    whole = second.astype(np.float64)
    if count < 1 / (1 - LOUD_SHARE):
        return float(whole.var(axis=1).max()), np.zeros(second.shape, bool)
    frames = whole[:, :count * size].reshape(len(second), count, size)
    frames = frames - np.median(frames.mean(axis=2), axis=1)[:, None, None]
    powers = np.square(frames).mean(axis=2)
    most = np.quantile(powers, LOUD_SHARE, axis=1, keepdims=True)
    clicks = (powers > LIMIT * most) & (most > 0)  # a word in digital silence is none
    far = np.zeros(second.shape, bool)
    far[:, :count * size] = clicks.repeat(size, axis=1)
    return float(np.where(clicks, most, powers).mean(axis=1).max()), far


def measure_levels(blocks: Iterable[np.ndarray], sample_rate: int, name: str) -> Levels:
    """Levels of a recording given as blocks (C, n) of any length.

    Raises:
        ValueError: it has no samples.
    """
    peak = 0.0
    sums = 0.0
    counts = 0
    powers = []
    lengths = []
    for second in regrouped(blocks, sample_rate):
        peak = max(peak, float(np.abs(second).max(initial=0)))
        power, far = second_power(second, sample_rate)
        sums = sums + second.sum(axis=1, dtype=np.float64, where=~far)
        counts = counts + (~far).sum(axis=1)
        powers.append(power)
        lengths.append(second.shape[1])
    if not lengths:
        raise ValueError(f"{name} holds no samples")
    return Levels(sum(lengths), (sums / counts).astype(np.float32)[:, None], peak, np.array(powers), np.array(lengths))
