"""Sound that comes in on a pipe without an end: raw samples, or a WAV whose header may not know its length."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from photophone.core.limits import MAX_CHANNELS
from photophone.data.audio_checks import check_rate

READ_BYTES = 1 << 16
"""Taken from the pipe at a time, at most; what is there is taken at once."""
HEADER_BYTES = 1 << 16
"""Of chunks before the samples of a WAV, at most."""
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
FORMS = {(PCM, 16): "<i2", (FLOAT, 32): "<f4"}
"""Samples of a WAV that are read."""


class SoundStream:
    """Samples of a pipe as they come.

    A stream that begins as a WAV does is read as one; any other holds raw 16-bit samples, little-endian, one channel.

    Args:
        pipe: open for reading bytes; :meth:`chunks` reads with ``read1``, so it does not wait for more than there is.
        raw_rate: of raw samples in Hz.

    Attributes:
        is_wav: whether it began as a WAV.
        sample_rate, channels: of the sound.

    Raises:
        ValueError: a rate outside the limits, or a WAV of another kind.
    """

    def __init__(self, pipe: BinaryIO, raw_rate: int) -> None:
        self.pipe, self.pending = pipe, b""
        self.sample_rate, self.channels, self.form = raw_rate, 1, "<i2"
        self.left: int | None = None  # bytes of samples that are told to come
        start = self._exactly(4)
        self.is_wav = start == b"RIFF"
        if self.is_wav:
            self._read_header()
        else:
            self.pending = start
        check_rate(self.sample_rate, "the stream")

    def chunks(self) -> Iterator[np.ndarray]:
        """What has come, float32 (C, n) with n > 0, until the end; a sample that breaks off there is left out."""
        size = np.dtype(self.form).itemsize * self.channels
        while True:
            whole = len(self.pending) // size * size
            if whole:
                frames = np.frombuffer(self.pending[:whole], self.form).reshape(-1, self.channels).T
                self.pending = self.pending[whole:]
                yield np.ascontiguousarray(frames, np.float32) / (32768 if self.form == "<i2" else 1)
            data = self.pipe.read1(READ_BYTES if self.left is None else min(READ_BYTES, self.left))
            if not data:
                return
            if self.left is not None:
                self.left -= len(data)
            self.pending += data

    def _exactly(self, count: int) -> bytes:
        """The next bytes, fewer at the end of the pipe."""
        data = b""
        while len(data) < count and (more := self.pipe.read1(count - len(data))):
            data += more
        return data

    def _read_header(self) -> None:
        """Up to the samples of a WAV."""
        if self._exactly(8)[4:] != b"WAVE":
            raise ValueError("the stream begins as a RIFF file and is no WAV")
        done, known = 12, False
        while done < HEADER_BYTES:
            head = self._exactly(8)
            if len(head) < 8:
                break
            name, size = head[:4], struct.unpack("<I", head[4:])[0]
            if name == b"data":
                if not known:
                    break
                frame = np.dtype(self.form).itemsize * self.channels
                # programs that write a stream tell 0, the largest size, or about that
                self.left = size if 0 < size < 0x7FFFF000 and size % frame == 0 else None
                return
            if size > HEADER_BYTES:
                break
            body = self._exactly(size + size % 2)
            done += 8 + len(body)
            if name == b"fmt ":
                self._read_form(body)
                known = True
        raise ValueError("the stream begins as a WAV and has no samples of a known kind")

    def _read_form(self, body: bytes) -> None:
        """The chunk that tells of the samples."""
        if len(body) < 16:
            raise ValueError("the stream is a WAV with a damaged header")
        kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", body[:16])
        if kind == EXTENSIBLE and len(body) >= 26:
            kind = struct.unpack("<H", body[24:26])[0]
        if (kind, bits) not in FORMS or not 1 <= channels <= MAX_CHANNELS:
            raise ValueError(f"the stream is a WAV of kind {kind} with {bits} bits and {channels} channels; read are "
                             f"16 bits and 32-bit floats, at most {MAX_CHANNELS} channels")
        self.form, self.channels, self.sample_rate = FORMS[kind, bits], channels, rate
