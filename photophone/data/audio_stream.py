"""Audio of one or two channels in pieces, so that an hour costs no more memory than a minute.

Arrays are float32 (C, T) here, C at most 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from photophone.core.limits import MAX_AUDIO_BYTES
from photophone.data.audio_checks import BLOCK_FRAMES, check_samples, check_size
from photophone.data.audio_decode import open_decoder, regrouped
from photophone.data.audio_levels import Levels, measure_levels


class AudioReader:
    """A checked audio file, read from front to back to its real end, any number of times.

    Args:
        source: path or bytes of a file that :func:`photophone.data.audio.read_audio` reads.
        max_seconds: a limit below the general one on frames.

    Attributes:
        sample_rate, channels: of the sound.
        format, subtype: libsndfile's names of container and codec, or FFmpeg's.
        told_frames: samples of each channel that the file tells, or None.

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
        self.decoder = open_decoder(source, self.name, max_seconds)
        self.max_seconds = max_seconds
        self.sample_rate = self.decoder.sample_rate
        self.channels = self.decoder.channels
        self.format = self.decoder.format
        self.subtype = self.decoder.subtype
        self.told_frames = self.decoder.frames

    def blocks(self, frames: int = BLOCK_FRAMES) -> Iterator[np.ndarray]:
        """The whole file in blocks (C, at most ``frames``), the same samples for every size of blocks."""
        done = 0
        for block in regrouped(self.decoder.blocks(frames), frames):
            done += block.shape[1]
            check_size(self.channels, self.sample_rate, done, self.name, self.max_seconds)
            check_samples(block, self.name)
            yield block

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
        check_samples(self.audio, self.name)
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
