"""The one place that writes sound: whole samples are rounded, what does not fit is counted, a full disk is an error.

No torch here: the demo's decoding processes start quickly.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from photophone.core.files import atomic_write
from photophone.core.limits import MAX_CHANNELS
from photophone.data.audio_checks import (
    CODED_RATES,
    KEPT_SUBTYPES,
    WHOLE_BITS,
    WRITE_FORMATS,
    check_rate,
    check_samples,
)

UNKNOWN_SIZE = 0xFFFFFFFF
"""In the header of a stream, whose length nobody knows yet."""
WRITE_FRAMES = 1 << 14
"""Frames handed to an encoder at a time: libsndfile's Vorbis encoder puts a whole call on the stack."""


def to_whole(audio: np.ndarray, bits: int = 16, dither: np.random.Generator | None = None) -> np.ndarray:
    """Float samples in [-1, 1] as whole numbers, rounded to the nearest; what lies outside is cut.

    One step is 2 ** (1 - bits), so that whole samples that were read come back as they were; 1.0 itself, which whole
    samples do not have, becomes the largest.

    Args:
        audio: any shape.
        bits: 16 or 24.
        dither: adds triangular noise of two steps before rounding, so that the error does not depend on the sound.

    Returns:
        int16, or int32 with 24 bits at its upper end, as libsndfile takes them.

    Raises:
        ValueError: NaN, infinity, or samples far outside [-1, 1].
    """
    audio = np.asarray(audio)
    check_samples(audio, "what was made")
    scale = 2.0 ** (bits - 1)
    steps = audio.astype(np.float64) * scale
    if dither is not None:
        draws = dither.random((*steps.shape, 2))
        steps = steps + draws[..., 0] - draws[..., 1]
    whole = np.rint(steps).clip(-scale, scale - 1)
    return whole.astype(np.int16) if bits == 16 else whole.astype(np.int32) << (32 - bits)


def pcm16(audio: np.ndarray) -> np.ndarray:
    """Float in [-1, 1], of any shape, as little-endian 16-bit samples."""
    return to_whole(audio).astype("<i2")


def stream_header(sample_rate: int, channels: int = 1) -> bytes:
    """44 bytes of a 16-bit WAV whose length is not known: the sizes are 0xFFFFFFFF, as players expect."""
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", UNKNOWN_SIZE, b"WAVE", b"fmt ", 16, 1, channels, sample_rate,
                       2 * channels * sample_rate, 2 * channels, 16, b"data", UNKNOWN_SIZE)


def check_format(name: str | Path, sample_rate: int, channels: int) -> str:
    """The suffix of a name in lower case, where sound of this rate can be written to it.

    Raises:
        ValueError: an unknown suffix, or a rate or number of channels that the format does not have.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in WRITE_FORMATS:
        raise ValueError(f"cannot write audio to {Path(name).name!r}; the name must end in {', '.join(WRITE_FORMATS)}")
    check_rate(sample_rate, str(name))
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"{channels} channels cannot be written, at most {MAX_CHANNELS}")
    rates = CODED_RATES.get(suffix)
    if rates is not None and sample_rate not in rates:
        raise ValueError(f"{suffix} files hold {', '.join(map(str, rates))} Hz, not {sample_rate} Hz; write .wav, "
                         ".flac or .ogg, or resample the sound first")
    return suffix


class Sink:
    """A file that libsndfile writes to, which keeps an error of the disk: libsndfile itself tells of none.

    Args:
        file: open for reading and writing bytes, without a buffer of its own.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write all, or keep the error and say that all is written."""
        left = memoryview(data)
        while left and self.error is None:
            try:
                left = left[self.file.write(left):]
            except OSError as error:
                self.error = error
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """What lies ahead."""
        return self.file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move."""
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """The place in the file."""
        return self.file.tell()


class AudioWriter:
    """Appends sound to an open file; see :func:`open_audio`.

    Args:
        file: open for reading and writing bytes.
        suffix: one of ``WRITE_FORMATS``; says the format.
        sample_rate: in Hz.
        channels: 1 or 2.
        subtype: of an input, kept where the format has it.
        dither: see :func:`to_whole`; the noise is always the same.
        name: for messages.
        is_stream: nothing is written twice: an MP3 has a constant rate of bits, because its header, which would tell
            the length, cannot be completed at the end, and readers tell the length from the rate.

    Attributes:
        samples: of each channel, written so far.
        cut: samples outside [-1, 1] that the format cannot hold, written so far as -1 or 1.
        subtype: what is written.
    """

    def __init__(self, file: BinaryIO, suffix: str, sample_rate: int, channels: int = 1, *, subtype: str | None = None,
                 dither: bool = False, name: str = "the audio", is_stream: bool = False) -> None:
        kind, own = WRITE_FORMATS[suffix]
        coding = {"bitrate_mode": "CONSTANT", "compression_level": 0.5} if is_stream and kind == "MP3" else {}
        self.subtype = subtype if subtype in KEPT_SUBTYPES.get(suffix, ()) else own
        self.name = name
        self.samples = 0
        self.cut = 0
        self.sink = Sink(file)
        self.noise = np.random.default_rng(0) if dither else None
        try:
            self.sound = soundfile.SoundFile(self.sink, "w", sample_rate, channels, self.subtype, format=kind,
                                             **coding)
        except soundfile.SoundFileError as error:
            self.check_disk()
            raise ValueError(f"{name} cannot be written: {getattr(error, 'error_string', error)}") from error

    def write(self, audio: np.ndarray) -> None:
        """Append float (T,), or (C, T).

        Raises:
            ValueError: NaN, infinity, or samples far outside [-1, 1].
            OSError: the disk is full.
        """
        audio = np.atleast_2d(np.asarray(audio, np.float32))
        check_samples(audio, f"what was to be written to {self.name}")
        for start in range(0, audio.shape[1], WRITE_FRAMES):
            self.sound.write(self.encoded(audio[:, start:start + WRITE_FRAMES].T))
        self.samples += audio.shape[1]
        self.check_disk()

    def encoded(self, frames: np.ndarray) -> np.ndarray:
        """(n, C) in the type that the format stores."""
        if self.subtype == "FLOAT":
            return np.ascontiguousarray(frames)
        self.cut += int((np.abs(frames) > 1).sum())
        if self.subtype in WHOLE_BITS:
            return to_whole(frames, WHOLE_BITS[self.subtype], self.noise)
        return np.ascontiguousarray(frames.clip(-1, 1))

    def close(self) -> None:
        """Write what the format ends with.

        Raises:
            OSError: the disk is full.
        """
        self.sound.close()
        self.check_disk()

    def check_disk(self) -> None:
        """Raise the error that the disk gave, if it gave one."""
        if self.sink.error is not None:
            error = self.sink.error
            raise OSError(error.errno, f"{self.name} could not be written: {error.strerror}") from error


@contextmanager
def open_audio(target: str | Path | io.BytesIO, sample_rate: int, channels: int = 1, *, subtype: str | None = None,
               dither: bool = False, overwrite: bool = True) -> Iterator[AudioWriter]:
    """A file to append sound to, which takes its name only when the block ends without error; or WAV in a buffer.

    Args:
        target: its suffix says the format; see ``WRITE_FORMATS``.
        sample_rate: in Hz.
        channels: 1 or 2.
        subtype: of the input, kept where the format has it.
        dither: see :func:`to_whole`.
        overwrite: whether it may replace a file.

    Raises:
        ValueError: an unknown suffix, or a rate or number of channels that the format does not have.
        FileExistsError: it is there, and ``overwrite`` is not set.
        OSError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    if isinstance(target, io.BytesIO):
        check_format("buffer.wav", sample_rate, channels)
        writer = AudioWriter(target, ".wav", sample_rate, channels, subtype=subtype, dither=dither)
        with closing(writer):
            yield writer
        return
    suffix = check_format(target, sample_rate, channels)
    with atomic_write(target, overwrite=overwrite) as partial, open(partial, "wb+", buffering=0) as file:
        writer = AudioWriter(file, suffix, sample_rate, channels, subtype=subtype, dither=dither, name=str(target))
        with closing(writer):
            yield writer


def write_pieces(target: str | Path | io.BytesIO, pieces: Iterable[np.ndarray], sample_rate: int, channels: int,
                 subtype: str | None = None, watch: Callable[[int], None] | None = None, *,
                 dither: bool = False, overwrite: bool = True) -> AudioWriter:
    """Write pieces (C, n) to a file, atomically, or as WAV to a buffer; see :func:`open_audio`.

    Args:
        watch: called with the samples written so far.

    Returns:
        What wrote them: ``samples``, ``cut`` and ``subtype`` tell what is in the file.
    """
    with open_audio(target, sample_rate, channels, subtype=subtype, dither=dither, overwrite=overwrite) as writer:
        for piece in pieces:
            writer.write(piece)
            if watch is not None:
                watch(writer.samples)
    return writer
