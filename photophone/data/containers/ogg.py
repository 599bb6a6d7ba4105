"""The pages of Ogg files: where a further recording begins, and whether the last page is whole."""

from __future__ import annotations

from photophone.data.containers.view import Buffer, CutShort, Part

FIRST_PAGE = 2
"""Flag of the first page of a stream."""


def ogg_parts(data: Buffer) -> list[Part]:
    """The recordings that follow each other in an Ogg file.

    Raises:
        CutShort: it ends within a page.
    """
    starts = [0]
    place = 0
    inside = False  # behind the first pages of a recording
    while 0 <= place < len(data):
        head = bytes(data[place:place + 27])
        if head[:4] != b"OggS":
            place = data.find(b"OggS", place + 1)
            continue
        lacing = bytes(data[place + 27:place + 27 + head[26]]) if len(head) == 27 else b""
        end = place + 27 + len(lacing) + sum(lacing)
        if len(head) < 27 or len(lacing) < head[26] or end > len(data):
            raise CutShort(f"is cut short: its last page, {len(data) - place} bytes from the end, is not whole")
        first = bool(head[5] & FIRST_PAGE)
        if first and inside:
            starts.append(place)
        inside = not first
        place = end
    return [Part(begin, end) for begin, end in zip(starts, [*starts[1:], len(data)])]
