"""Chunks of WAV and AIFF files: sizes that are unknown or wrong, and further recordings behind the first."""

from __future__ import annotations

import struct

from photophone.data.containers.view import Buffer, CutShort, Part

UNKNOWN = 0x7FFFF000
"""Sizes from here on say that a writer to a pipe did not know."""
STRAY_BYTES = 512
"""So many bytes behind the chunks are left alone: padding and remains of tools."""
TAGS = (b"TAG", b"ID3", b"APETAGEX")


def is_chunk(name: bytes) -> bool:
    """Whether four bytes may be the name of a chunk."""
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


def riff_parts(data: Buffer) -> list[Part]:
    """The recordings that follow each other in a WAV or AIFF file.

    Raises:
        CutShort: it ends within the sound.
        ValueError: behind the sound lies much that is no chunk: the header tells a wrong size.
    """
    parts = []
    place = 0
    while place < len(data):
        part = one_part(data, place)
        parts.append(part)
        place = part.end
        if bytes(data[place:place + 4]) not in (b"RIFF", b"FORM", b"RF64"):
            check_rest(data, place, len(data))
            break
    return parts


def check_rest(data: Buffer, place: int, end: int) -> None:
    """Refuse a file of which much lies between the chunks that are known and an end.

    Raises:
        ValueError: see :func:`riff_parts`.
    """
    rest = bytes(data[place:min(end, place + STRAY_BYTES + 4096)])
    if end - place > STRAY_BYTES and any(rest) and not rest.startswith(TAGS):
        raise ValueError(f"has {end - place} bytes behind the {place} that its header tells; the header is wrong: "
                         "repair it, for example with `ffmpeg -i IN.wav OUT.wav`")


def one_part(data: Buffer, begin: int) -> Part:
    """The recording that begins at that place, with the size of its sound put right.

    Raises:
        CutShort: see :func:`riff_parts`.
    """
    big = bytes(data[begin:begin + 4]) == b"FORM"
    sound, long = (b"SSND", False) if big else (b"data", bytes(data[begin:begin + 4]) == b"RF64")
    form = ">I" if big else "<I"
    (told,) = struct.unpack(form, bytes(data[begin + 4:begin + 8]).ljust(4, b"\0"))
    place = begin + 12
    while place + 8 <= len(data):
        name = bytes(data[place:place + 4])
        (size,) = struct.unpack(form, data[place + 4:place + 8])
        if long and name == b"ds64" and place + 32 <= len(data):
            told, long_size = struct.unpack("<QQ", data[place + 8:place + 24])
        if name == sound:
            if long and size == 0xFFFFFFFF:
                size = long_size
            return with_sound(data, begin, place, size, told, big)
        if not is_chunk(name):
            break
        place += 8 + size + (size & 1)
    if begin + 8 + told > len(data) and told < UNKNOWN:
        raise CutShort(f"is cut short: {len(data)} of {begin + 8 + told} bytes")
    end = min(len(data), begin + 8 + told) if told else len(data)
    return Part(begin, max(end, begin + 12))


def with_sound(data: Buffer, begin: int, place: int, size: int, told: int, big: bool) -> Part:
    """A recording whose sound is the chunk at ``place`` with ``size`` bytes, in a file that tells ``told``."""
    first = place + 8
    unknown = size >= UNKNOWN and size > len(data) - first
    if size == 0 and not big:
        unknown = told in (0, 8) or told >= UNKNOWN or not chunks_until(data, first, min(len(data), begin + 8 + told))
    if unknown:
        end = data.find(b"RIFF", first)
        while end >= 0 and bytes(data[end + 8:end + 16]) != b"WAVEfmt ":
            end = data.find(b"RIFF", end + 1)
        end = len(data) if end < 0 else end
        if end == first:
            return Part(begin, end)
        return Part(begin, end, patches=(() if big else ((4, struct.pack("<I", end - begin - 8)),
                                                         (place + 4 - begin, struct.pack("<I", end - first)))))
    if first + size > len(data):
        raise CutShort(f"is cut short: it holds {len(data) - first} of {size} bytes of sound")
    end = begin + 8 + told if told < UNKNOWN else len(data)
    if end > len(data):
        raise CutShort(f"is cut short: {len(data)} of {end} bytes")
    behind = first + size + (size & 1)
    if not chunks_until(data, behind, end, big):
        check_rest(data, behind, end)
    end = max(end, first + size)
    while is_chunk(bytes(data[end:end + 4])) and bytes(data[end:end + 4]) not in (b"RIFF", b"FORM", b"RF64") and (
            end + 8 <= len(data)):  # chunks that were added without telling
        (more,) = struct.unpack(">I" if big else "<I", data[end + 4:end + 8])
        if end + 8 + more > len(data):
            break
        end += 8 + more + (more & 1)
    return Part(begin, min(end, len(data)))


def chunks_until(data: Buffer, place: int, end: int, big: bool = False) -> bool:
    """Whether chunks fill the bytes from one place to another."""
    while place + 8 <= end and is_chunk(bytes(data[place:place + 4])):
        (size,) = struct.unpack(">I" if big else "<I", data[place + 4:place + 8])
        place += 8 + size + (size & 1)
    return end - 1 <= place <= end + 1
