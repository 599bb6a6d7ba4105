"""The samples of an audio file, from its beginning to its real end, in blocks. No torch here."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from photophone.data.audio_checks import check_size, check_sound, damaged
from photophone.data.containers.flac import flac_parts
from photophone.data.containers.mp3 import mp3_parts
from photophone.data.containers.ogg import ogg_parts
from photophone.data.containers.pyav import AvFile, av_kind
from photophone.data.containers.riff import riff_parts
from photophone.data.containers.view import Buffer, Part, PartFile, open_buffer, skip_id3

UNKNOWN_FRAMES = 1 << 62
"""libsndfile tells more where a file does not say its length."""
LOOSE_FRAMES = 4 * 1152
"""By so many the length that an MP3 tells may differ from what is decoded: its ends are cut in several ways."""


class Sequential(soundfile.SoundFile):
    """A file that is read from front to back. Otherwise each read is followed by a seek, which changes MP3."""

    def seekable(self) -> bool:
        """Never."""
        return False


def find_parts(data: Buffer) -> list[Part] | None:
    """The recordings in a file that libsndfile may read; None leaves it to libsndfile.

    Raises:
        ValueError: it is cut short, or its header is wrong; the text lacks the name of the file.
    """
    head = bytes(data[:4])
    if head in (b"RIFF", b"FORM", b"RF64"):
        return riff_parts(data) if len(data) >= 12 else None
    if head == b"OggS":
        return ogg_parts(data)
    behind = skip_id3(data, 0)
    if bytes(data[behind:behind + 4]) == b"fLaC":
        return flac_parts(data)
    if head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1] & 0xE6 == 0xE2):
        return mp3_parts(data) or None
    return None


class SoundFiles:
    """One or several recordings that libsndfile reads, one behind the other.

    Args:
        source: path or bytes.
        name: for messages.
        max_seconds: a limit on all of them.

    Attributes:
        sample_rate, channels, format, subtype: of the sound.
        frames: what the headers tell, or None.

    Raises:
        ValueError: see :func:`photophone.data.audio.read_audio`.
    """

    def __init__(self, source: str | Path | bytes, name: str, max_seconds: float | None) -> None:
        self.source = source
        self.name = name
        try:
            with open_buffer(source) as data:
                size = len(data)
                parts = find_parts(data)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from error
        self.parts = parts or [Part(0, size)]
        self.whole = len(self.parts) == 1 and self.parts[0] == Part(0, size, frames=self.parts[0].frames)
        self.told: list[int | None] = []
        for part in self.parts:
            self.look(part, max_seconds)
        known = [frames for frames in self.told if frames is not None]
        self.frames = sum(known) if len(known) == len(self.told) else None
        check_size(self.channels, self.sample_rate, sum(known), name, max_seconds)

    def look(self, part: Part, max_seconds: float | None) -> None:
        """Check the header of a part, and that it continues what is before."""
        with self.open(part) as file:
            check_sound(file.format, file.subtype, self.name)
            facts = (file.samplerate, file.channels)
            if not self.told:
                self.sample_rate, self.channels = facts
                self.format, self.subtype = file.format, file.subtype
            elif facts != (self.sample_rate, self.channels):
                before = sum(frames or 0 for frames in self.told) / self.sample_rate
                raise ValueError(f"{self.name} joins different sounds: {before:.2f} s of {self.sample_rate} Hz with "
                                 f"{self.channels} channels, then {facts[0]} Hz with {facts[1]}; split it there")
            frames = part.frames or file.frames
        self.told.append(None if frames > UNKNOWN_FRAMES else frames)
        check_size(*reversed(facts), self.told[-1] or 0, self.name, max_seconds)

    @contextmanager
    def open(self, part: Part) -> Iterator[Sequential]:
        """A part for libsndfile, whose errors become ours."""
        try:
            if self.whole and not isinstance(self.source, bytes):
                with Sequential(str(self.source)) as file:
                    yield file
                return
            with (io.BytesIO(self.source) if isinstance(self.source, bytes) else open(self.source, "rb")) as whole, \
                    Sequential(whole if self.whole else PartFile(whole, part)) as file:
                yield file
        except soundfile.SoundFileError as error:
            raise damaged(self.name, error) from error

    def blocks(self, frames: int) -> Iterator[np.ndarray]:
        """All samples in blocks float32 (C, at most ``frames``).

        Raises:
            ValueError: damaged, or fewer samples than a header tells.
        """
        for part, told in zip(self.parts, self.told):
            done = 0
            with self.open(part) as file:
                while told is None or done < told:
                    block = file.read(frames if told is None else min(frames, told - done), dtype="float32",
                                      always_2d=True)
                    if not len(block):
                        break
                    done += len(block)
                    yield block.T
            if told is not None and done < told - (LOOSE_FRAMES if self.format == "MP3" else 0):
                raise ValueError(f"{self.name} is cut short: {done} of {told} frames can be read")


class AvFiles:
    """A file that PyAV reads, with the interface of :class:`SoundFiles`."""

    def __init__(self, source: str | Path | bytes, name: str, max_seconds: float | None, kind: str) -> None:
        self.name = name
        with self.named():
            self.file = AvFile(source, kind)
        self.sample_rate, self.channels = self.file.sample_rate, self.file.channels
        self.format, self.subtype, self.frames = kind.upper(), self.file.subtype, self.file.frames
        check_size(self.channels, self.sample_rate, self.frames or 0, name, max_seconds)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors begin with the name of the file."""
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{self.name} {error}") from error

    def blocks(self, frames: int) -> Iterator[np.ndarray]:
        """All samples in blocks float32 (C, n) of its own size."""
        with self.named():
            yield from self.file.blocks()


def regrouped(blocks: Iterator[np.ndarray], frames: int) -> Iterator[np.ndarray]:
    """Blocks (C, n) of any length as blocks of ``frames``, the last shorter."""
    waiting: list[np.ndarray] = []
    count = 0
    for block in blocks:
        waiting.append(block)
        count += block.shape[1]
        if count >= frames:
            whole = np.concatenate(waiting, axis=1)
            for start in range(0, count - frames + 1, frames):
                yield whole[:, start:start + frames]
            waiting = [whole[:, count - count % frames:]] if count % frames else []
            count %= frames
    if count:
        yield np.concatenate(waiting, axis=1)


def open_decoder(source: str | Path | bytes, name: str, max_seconds: float | None) -> SoundFiles | AvFiles:
    """What decodes a file.

    Args:
        source: path or bytes.
        name: for messages.
        max_seconds: a limit on the length that headers tell.

    Raises:
        ValueError: see :func:`photophone.data.audio.read_audio`.
    """
    if isinstance(source, bytes):
        head = source[:12]
    else:
        with open(source, "rb") as file:
            head = file.read(12)
    kind = av_kind(head)
    return SoundFiles(source, name, max_seconds) if kind is None else AvFiles(source, name, max_seconds, kind)
