"""Sound as bytes of a format, while it is made or whole."""

from __future__ import annotations

import io
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from photophone.data.audio_write import AudioWriter, check_format, pcm16, stream_header
from photophone.data.resampling import ResamplingStream, resample_audio


@dataclass(frozen=True)
class SoundFormat:
    """What an answer is written as.

    Args:
        media_type: of HTTP.
        suffix: that :class:`photophone.data.audio_write.AudioWriter` knows; None for samples without a header.
    """

    media_type: str
    suffix: str | None


FORMATS = {"mp3": SoundFormat("audio/mpeg", ".mp3"), "opus": SoundFormat("audio/ogg", ".opus"),
           "flac": SoundFormat("audio/flac", ".flac"), "wav": SoundFormat("audio/wav", ".wav"),
           "pcm": SoundFormat("audio/pcm", None)}
"""By ``response_format``; pcm is 16-bit little-endian, as everywhere."""


class Tape(io.RawIOBase):
    """A file in memory whose beginning is given away while its end is written.

    Encoders go back to complete their headers when they close. On what was given away that has no effect, and the
    formats are such that it need not: their headers then say that the length is not known.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.taken = 0
        self.place = 0

    def write(self, data: bytes) -> int:
        """Write at the place, as far as that was not given away."""
        size, gone = len(data), max(0, self.taken - self.place)
        kept = memoryview(data)[gone:]
        start = self.place + min(gone, size) - self.taken
        if len(kept):
            self.data[start:start + len(kept)] = kept
        self.place += size
        return size

    def read(self, size: int = -1) -> bytes:
        """What lies at the place; nothing of what was given away."""
        start = max(0, self.place - self.taken)
        found = bytes(self.data[start:] if size < 0 else self.data[start:start + size])
        self.place += len(found)
        return found

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.taken + len(self.data)}[whence]
        self.place = base + offset
        return self.place

    def tell(self) -> int:
        """The place."""
        return self.place

    def take(self) -> bytes:
        """Give away what was written."""
        found = bytes(self.data)
        self.taken += len(found)
        self.data.clear()
        return found


class SoundStream:
    """Mono sound as bytes of a format, part by part.

    Args:
        name: a key of FORMATS.
        source_rate: of what comes in, in Hz.
        sample_rate: of what goes out.

    Raises:
        ValueError: the format does not have the rate.
    """

    def __init__(self, name: str, source_rate: int, sample_rate: int) -> None:
        self.rates = ResamplingStream(source_rate, sample_rate)
        self.source_rate, self.samples = source_rate, 0
        self.head = stream_header(sample_rate) if name == "wav" else b""
        self.tape = Tape()
        self.writer = None
        suffix = FORMATS[name].suffix
        if name not in ("wav", "pcm"):
            check_format(f"speech{suffix}", sample_rate, 1)
            self.writer = AudioWriter(self.tape, suffix, sample_rate, name="the speech", is_stream=True)

    def add(self, audio: np.ndarray) -> bytes:
        """What more sound float32 (T,) adds; resampling and encoders keep some of it back."""
        self.samples += len(audio)
        return self._encoded(self.rates.push(torch.from_numpy(audio)))

    @property
    def seconds(self) -> float:
        """Of the sound that came in."""
        return self.samples / self.source_rate

    def end(self) -> bytes:
        """What comes last."""
        last = self._encoded(self.rates.finish())
        if self.writer is None:
            return last
        self.writer.close()
        return last + self.tape.take()

    def _encoded(self, audio: torch.Tensor) -> bytes:
        if self.writer is None:
            head, self.head = self.head, b""
            return head + pcm16(audio.numpy()).tobytes()
        self.writer.write(audio.numpy())
        return self.tape.take()


def whole_sound(name: str, audio: np.ndarray, source_rate: int, sample_rate: int) -> bytes:
    """A complete file of float32 (T,) or (C, T); its header knows the length.

    Args:
        name: a key of FORMATS.
        source_rate, sample_rate: of the sound and of the file, in Hz.

    Raises:
        ValueError: the format does not have the rate.
    """
    channels = resample_audio(torch.from_numpy(np.atleast_2d(audio)), source_rate, sample_rate).numpy()
    suffix = FORMATS[name].suffix
    if suffix is None:
        return pcm16(channels.T).tobytes()
    check_format(f"sound{suffix}", sample_rate, len(channels))
    file = io.BytesIO()
    with closing(AudioWriter(file, suffix, sample_rate, len(channels), name="the sound")) as writer:
        writer.write(channels)
    return file.getvalue()
