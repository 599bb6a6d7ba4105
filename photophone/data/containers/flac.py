"""FLAC: where a further recording begins, and how many samples there really are.

The header may tell no number of samples (a streaming encoder) or a wrong one. The last frame knows its own number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from photophone.core.limits import MAX_AUDIO_FRAMES
from photophone.data.containers.view import Buffer, CutShort, Part, skip_id3

BLOCKS = {1: 192, **{2 + n: 576 << n for n in range(4)}, **{8 + n: 256 << n for n in range(8)}}
MARKER = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
"""The beginning of a file: its first block of facts is always of one kind and size."""
LOOKED_AT = 1 << 20
"""Bytes at the end in which the last frame lies."""
TOTAL_PLACE = 21
"""Of the five bytes of the header whose lower 36 bits are the number of samples."""


def crc_table(polynomial: int, bits: int) -> tuple[int, ...]:
    """Checksums of single bytes."""
    table = []
    for value in range(256):
        crc = value << (bits - 8)
        for _ in range(8):
            crc = (crc << 1) ^ polynomial if crc >> (bits - 1) & 1 else crc << 1
        table.append(crc & ((1 << bits) - 1))
    return tuple(table)


CRC8 = crc_table(0x07, 8)
CRC16 = crc_table(0x8005, 16)


def crc8(data: bytes) -> int:
    """Of the header of a frame; 0 with its own checksum at the end."""
    crc = 0
    for byte in data:
        crc = CRC8[crc ^ byte]
    return crc


def crc16(data: bytes) -> int:
    """Of a whole frame; 0 with its own checksum at the end."""
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFF00) ^ CRC16[crc >> 8 ^ byte]
    return crc


@dataclass(frozen=True)
class Frame:
    """A frame of FLAC: its place in the data, and the number of the sample behind it."""

    place: int
    last: int


def read_number(data: bytes) -> tuple[int, int] | None:
    """A number as FLAC writes it (UTF-8 with up to seven bytes), and its bytes."""
    first = data[0]
    if first < 0x80:
        return first, 1
    size = 8 - (~first & 0xFF).bit_length()  # ones at the top
    if size < 2 or size > 7 or len(data) < size or any(byte >> 6 != 2 for byte in data[1:size]):
        return None
    number = first & (0x7F >> size)
    for byte in data[1:size]:
        number = number << 6 | byte & 0x3F
    return number, size


def read_frame(data: Buffer, place: int, block: int) -> Frame | None:
    """The frame that begins at that place, if one does; ``block`` is the size of blocks that the file tells."""
    head = bytes(data[place:place + 16])
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8 or head[3] & 1 or head[3] >> 4 > 10:
        return None
    code, rate = head[2] >> 4, head[2] & 15
    number = read_number(head[4:11])
    if code == 0 or rate == 15 or number is None:
        return None
    place_of_size = 4 + number[1]
    extra = {6: 1, 7: 2}.get(code, 0)
    size = BLOCKS.get(code) or 1 + int.from_bytes(head[place_of_size:place_of_size + extra], "big")
    length = place_of_size + extra + {12: 1, 13: 2, 14: 2}.get(rate, 0) + 1
    if len(head) < length or crc8(head[:length]):
        return None
    return Frame(place, (number[0] if head[1] & 1 else number[0] * block) + size)


def real_total(data: Buffer, begin: int, end: int, told: int, block: int) -> int:
    """The samples up to the end of the last whole frame.

    Args:
        data: the file.
        begin, end: the bytes of the frames.
        told: the number in the header, 0 for none.
        block: see :func:`read_frame`.

    Raises:
        CutShort: the last frame is not whole.
    """
    stop = end
    place = end
    while True:
        place = data.rfind(b"\xff", max(begin, end - LOOKED_AT), place)
        if place < 0:
            return told
        frame = read_frame(data, place, block)
        if frame is None:
            continue
        if frame.last == told:
            return told
        if not crc16(bytes(data[place:stop])):
            if stop < end and not told:
                raise CutShort(f"is cut short: it holds {frame.last} samples, and a part of one more frame")
            return frame.last
        stop = place


def flac_parts(data: Buffer) -> list[Part]:
    """The recordings that follow each other in a FLAC file.

    Raises:
        CutShort: fewer samples than a header tells, or a last frame that is not whole.
    """
    starts = [match.start() for match in MARKER.finditer(data, skip_id3(data, 0))]
    return [one_part(data, begin, end) for begin, end in zip(starts, [*starts[1:], len(data)])]


def one_part(data: Buffer, begin: int, end: int) -> Part:
    """A recording with the number of its samples put right."""
    frames = begin + 4
    while frames + 4 <= end:  # the blocks of facts before the frames
        head = bytes(data[frames:frames + 4])
        frames += 4 + int.from_bytes(head[1:], "big")
        if head[0] & 0x80:
            break
    if bytes(data[end - 128:end - 125]) == b"TAG" and end - 128 >= frames:
        end -= 128
    facts = bytes(data[begin + 8:begin + 42])
    block = int.from_bytes(facts[2:4], "big")
    told = int.from_bytes(facts[13:18], "big") & (1 << 36) - 1
    if told > MAX_AUDIO_FRAMES:
        return Part(begin, end, frames=told)
    found = real_total(data, frames, end, told, block)
    if found < told:
        raise CutShort(f"is cut short: it holds {found} of {told} samples")
    if found == told:
        return Part(begin, end, frames=told or None)
    total = (facts[13] & 0xF0) << 32 | found
    return Part(begin, end, patches=((TOTAL_PLACE, total.to_bytes(5, "big")),), frames=found)
