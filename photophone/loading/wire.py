"""Protocol buffers, read field by field without the schema's own package: ONNX files, vocabularies of SentencePiece."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers and values of the fields of a message, in their order: whole numbers as they are, all else as bytes.

    Raises:
        ValueError: a field is cut off or of no known kind.
        IndexError: a number is cut off.
    """
    place = 0
    while place < len(data):
        key, place = varint(data, place)
        field, kind = key >> 3, key & 7
        if kind == VARINT:
            value, place = varint(data, place)
            yield field, value
            continue
        if kind == BYTES:
            size, place = varint(data, place)
        else:
            size = {FIXED64: 8, FIXED32: 4}.get(kind, -1)
        if size < 0 or place + size > len(data):
            raise ValueError("a field is cut off or of no known kind")
        yield field, data[place:place + size]
        place += size


def varint(data: memoryview, place: int) -> tuple[int, int]:
    """The whole number from ``place`` on, and the place behind it.

    Raises:
        ValueError: it has more than 64 bits.
        IndexError: it is cut off.
    """
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def whole_numbers(value: int | memoryview) -> list[int]:
    """A number of a field, or several that are packed."""
    if isinstance(value, int):
        return [value]
    numbers, place = [], 0
    while place < len(value):
        number, place = varint(value, place)
        numbers.append(number - (1 << 64) if number >> 63 else number)
    return numbers
