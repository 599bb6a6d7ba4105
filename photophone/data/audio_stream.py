"""Audio of one or two channels in pieces, so that an hour costs no more memory than a minute.

Arrays are float32 (C, T) here, C at most 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from photophone.core.limits import MAX_AUDIO_BYTES
from photophone.data.audio_checks import (
    BLOCK_FRAMES,
    audio_handle,
    check_info,
    damaged,
    refuse_cut_riff,
)


@dataclass
class Levels:
    """What one look at a whole recording tells.

    Args:
        frames: samples of each channel.
        offset: mean of each channel, float32 (C, 1).
        peak: largest magnitude, without the offset about.
        rms: of the loud seconds, without the offset: those within 20 dB of the loudest.
    """

    frames: int
    offset: np.ndarray
    peak: float
    rms: float


def measure_levels(blocks: Iterable[np.ndarray], sample_rate: int, name: str) -> Levels:
    """Levels of a recording given as blocks (C, n).

    Raises:
        ValueError: it has no samples, or NaN or infinite ones.
    """
    frames = 0
    peak = 0.0
    sums = 0.0
    energies = []
    for block in blocks:
        if not np.isfinite(block).all():
            raise ValueError(f"{name} holds NaN or infinite samples")
        frames += block.shape[1]
        peak = max(peak, float(np.abs(block).max(initial=0)))
        sums = sums + block.sum(axis=1, dtype=np.float64)
        for start in range(0, block.shape[1], sample_rate):
            second = block[:, start:start + sample_rate].astype(np.float64)
            energies.append((second.var(axis=1).max(), second.shape[1]))
    if not frames:
        raise ValueError(f"{name} holds no samples")
    power, count = np.array(energies).T
    loud = power >= 0.01 * power.max()
    rms = float(np.sqrt((power[loud] * count[loud]).sum() / count[loud].sum()))
    return Levels(frames, (sums / frames).astype(np.float32)[:, None], peak, rms)


class AudioReader:
    """A checked audio file, read from front to back, any number of times.

    Args:
        source: path or bytes of a file that :func:`photophone.data.audio.read_audio` reads.
        max_seconds: a limit below the general one on frames.

    Raises:
        FileNotFoundError: no such file.
        ValueError: see :func:`photophone.data.audio.read_audio`.
    """

    def __init__(self, source: str | Path | bytes, max_seconds: float | None = None) -> None:
        self.source = source
        self.name = "the audio" if isinstance(source, bytes) else str(source)
        if not isinstance(source, bytes) and not Path(source).is_file():
            raise FileNotFoundError(f"no such audio file: {self.name}")
        size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
        if not 0 < size <= MAX_AUDIO_BYTES:
            raise ValueError(f"{self.name} has {size} bytes; audio files have 1 to {MAX_AUDIO_BYTES}")
        refuse_cut_riff(source, size, self.name)
        try:
            info = soundfile.info(audio_handle(source))
        except soundfile.SoundFileError as error:
            raise damaged(self.name, error) from error
        check_info(info, self.name, max_seconds)
        self.sample_rate = info.samplerate
        self.channels = info.channels
        self.format = info.format
        self.subtype = info.subtype
        self.told_frames = info.frames

    def blocks(self, frames: int = BLOCK_FRAMES) -> Iterator[np.ndarray]:
        """The whole file in blocks (C, at most ``frames``)."""
        left = self.told_frames
        try:
            with soundfile.SoundFile(audio_handle(self.source)) as file:
                while left > 0:
                    block = file.read(min(left, frames), dtype="float32", always_2d=True)
                    if not len(block):
                        break
                    left -= len(block)
                    yield block.T
        except soundfile.SoundFileError as error:
            raise damaged(self.name, error) from error
        if left and self.format != "MP3":  # the length of an MP3 is an estimate
            raise ValueError(f"{self.name} is cut short: {self.told_frames - left} of {self.told_frames} frames can be "
                             "read")

    def levels(self) -> Levels:
        """Reads all of it; see :func:`measure_levels`."""
        return measure_levels(self.blocks(), self.sample_rate, self.name)


class ArrayReader:
    """Samples in memory, with the interface of :class:`AudioReader`.

    Args:
        audio: float32 (C, T).
        sample_rate: in Hz.
    """

    def __init__(self, audio: np.ndarray, sample_rate: int) -> None:
        self.audio = audio
        self.sample_rate = sample_rate
        self.channels = len(audio)
        self.name = "the audio"

    def blocks(self, frames: int = BLOCK_FRAMES) -> Iterator[np.ndarray]:
        """All in blocks (C, at most ``frames``)."""
        for start in range(0, self.audio.shape[1], frames):
            yield self.audio[:, start:start + frames]

    def levels(self) -> Levels:
        """See :func:`measure_levels`."""
        return measure_levels(self.blocks(), self.sample_rate, self.name)


def overlapping(blocks: Iterator[np.ndarray], total: int, piece: int, margin: int) -> Iterator[tuple[int, int,
                                                                                                     np.ndarray]]:
    """Consecutive pieces with what lies around them.

    Args:
        blocks: the signal (C, n) in blocks.
        total: its samples.
        piece: samples of a piece; the last is shorter.
        margin: samples wanted before and after, as far as there are any.

    Yields:
        (before, count, audio): the piece is ``audio[:, before:before + count]``.
    """
    buffer = None
    start = 0  # of the buffer in the signal
    for begin in range(0, total, piece):
        first = max(0, begin - margin)
        last = min(total, begin + piece + margin)
        parts = [] if buffer is None else [buffer[:, first - start:]]
        have = first + sum(part.shape[1] for part in parts)
        while have < last:
            block = next(blocks)
            parts.append(block)
            have += block.shape[1]
        buffer = np.concatenate(parts, axis=1)
        start = first
        yield begin - first, min(piece, total - begin), buffer[:, :last - first]
