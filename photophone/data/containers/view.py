"""Parts of a file as files of their own."""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

Buffer = bytes | mmap.mmap


class CutShort(ValueError):
    """A file that ends before it should; the text says how much there is, without the name of the file."""


@dataclass(frozen=True)
class Part:
    """One stream of a file.

    Args:
        begin, end: its bytes in the file.
        prefix: bytes that are read before it.
        patches: (place from ``begin`` on, bytes) that are read instead of those of the file.
        frames: how many it holds, where its structure tells; None leaves that to its header.
    """

    begin: int
    end: int
    prefix: bytes = b""
    patches: tuple[tuple[int, bytes], ...] = ()
    frames: int | None = None


@contextmanager
def open_buffer(source: str | Path | bytes) -> Iterator[Buffer]:
    """The bytes of a file, which are not read before they are looked at."""
    if isinstance(source, bytes):
        yield source
        return
    with open(source, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        yield buffer


class PartFile:
    """A part as a file for libsndfile.

    Args:
        file: the whole, open for reading.
        part: of it.
    """

    def __init__(self, file: BinaryIO, part: Part) -> None:
        self.file = file
        self.part = part
        self.place = 0
        self.size = len(part.prefix) + part.end - part.begin

    def read(self, count: int = -1) -> bytes:
        """What lies ahead, at most ``count`` bytes."""
        left = max(0, self.size - self.place)
        count = left if count < 0 else min(count, left)
        first = len(self.part.prefix)
        made = self.part.prefix[self.place:self.place + count]
        if len(made) < count:
            start = max(0, self.place - first)
            self.file.seek(self.part.begin + start)
            made += self.patched(self.file.read(count - len(made)), start)
        self.place += len(made)
        return made

    def patched(self, data: bytes, start: int) -> bytes:
        """Bytes of the part from ``start`` on, with what is read instead."""
        for place, other in self.part.patches:
            low = max(place, start)
            high = min(place + len(other), start + len(data))
            if low < high:
                data = data[:low - start] + other[low - place:high - place] + data[high - start:]
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, as in any file."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size}[whence]
        self.place = max(0, origin + offset)
        return self.place

    def tell(self) -> int:
        """The place in the part."""
        return self.place


def skip_id3(data: Buffer, place: int) -> int:
    """The place behind an ID3v2 tag, or the same place where there is none."""
    head = bytes(data[place:place + 10])
    if head[:3] != b"ID3" or len(head) < 10 or max(head[6:]) > 127:
        return place
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return place + 10 + size + (10 if head[5] & 0x10 else 0)
