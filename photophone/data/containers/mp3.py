"""The frames of MPEG audio, layer III: how many there really are, and where a further recording begins.

A file tells its length in its first frame (Xing, Info or VBRI), or nowhere: a decoder then guesses from the size and
the first frame's bit rate, which is wrong where that varies. The frames are counted here instead.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from photophone.core.limits import MAX_AUDIO_FRAMES
from photophone.data.containers.view import Buffer, CutShort, Part, skip_id3

BIT_RATES = {3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
             2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)}
RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8000)}
LAYER_III = 1
SURE = 3
"""So many frames one behind the other are no accident."""


@dataclass(frozen=True)
class Header:
    """Four bytes of a frame: version (3, 2 or 0 for 2.5), rate, whether mono, its bytes and samples."""

    version: int
    rate: int
    mono: bool
    size: int

    @property
    def kind(self) -> tuple[int, int, bool]:
        """What all frames of one recording share."""
        return self.version, self.rate, self.mono

    @property
    def samples(self) -> int:
        """Of each channel in a frame."""
        return 1152 if self.version == 3 else 576

    @property
    def side(self) -> int:
        """Bytes before the main data, where Xing and Info stand."""
        return 4 + ((17 if self.mono else 32) if self.version == 3 else (9 if self.mono else 17))


@dataclass
class Stream:
    """One recording: its first frame, where it begins and ends, and how many frames with sound it has.

    ``told`` are the frames, ``told_bytes`` the bytes that its first frame tells; ``count_at`` is the place of the
    number of frames in that first frame, ``lame_at`` that of the encoder's delay and padding.
    """

    header: Header
    begin: int
    end: int
    count: int = 0
    told: int | None = None
    told_bytes: int | None = None
    count_at: int | None = None
    lame_at: int | None = None
    headless: bool = True


def read_header(data: Buffer, place: int) -> Header | None:
    """The header of a frame at that place, or None."""
    head = bytes(data[place:place + 4])
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bits, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer != LAYER_III or bits in (0, 15) or rate == 3 or head[3] & 3 == 2:
        return None
    hertz = RATES[version][rate]
    size = (144_000 if version == 3 else 72_000) * BIT_RATES[3 if version == 3 else 2][bits] // hertz
    return Header(version, hertz, head[3] >> 6 == 3, size + (head[2] >> 1 & 1))


def begins_here(data: Buffer, place: int) -> bool:
    """Whether frames of one kind follow each other from there on, as far as there are any."""
    kind = None
    for number in range(SURE):
        header = read_header(data, place)
        if header is None:
            return number > 0 and (place >= len(data) or is_tag(data, place))
        if kind not in (None, header.kind):
            return number > 1 or starts_stream(data, place, header)
        kind = header.kind
        place += header.size
    return True


def starts_stream(data: Buffer, place: int, header: Header) -> bool:
    """Whether the frame tells of a recording instead of holding sound."""
    mark = bytes(data[place + header.side:place + header.side + 4])
    return mark in (b"Xing", b"Info") or bytes(data[place + 36:place + 40]) == b"VBRI"


def is_tag(data: Buffer, place: int) -> bool:
    """Whether something other than sound begins there that players skip."""
    head = bytes(data[place:place + 8])
    return head[:3] in (b"ID3", b"TAG") or head == b"APETAGEX"


def skip_tag(data: Buffer, place: int) -> int:
    """The place behind a tag."""
    head = bytes(data[place:place + 32])
    if head[:3] == b"TAG":
        return place + 128
    if head[:8] == b"APETAGEX" and len(head) == 32:
        return place + 32 + (struct.unpack("<I", head[12:16])[0] if head[23] & 0x20 else 0)
    return max(place + 1, skip_id3(data, place))


def open_stream(data: Buffer, place: int, header: Header) -> Stream:
    """A recording whose first frame lies there."""
    stream = Stream(header, place, place)
    frame = bytes(data[place:place + header.size])
    mark = header.side
    if frame[mark:mark + 4] in (b"Xing", b"Info") and len(frame) >= mark + 16:
        (flags,) = struct.unpack_from(">I", frame, mark + 4)
        stream.headless = not flags & 1
        stream.count = -1
        if flags & 1:
            stream.count_at = mark + 8
            (stream.told,) = struct.unpack_from(">I", frame, mark + 8)
        if flags & 3 == 3:
            (stream.told_bytes,) = struct.unpack_from(">I", frame, mark + 12)
        lame = mark + 8 + sum(size for bit, size in ((1, 4), (2, 4), (4, 100), (8, 4)) if flags & bit)
        if len(frame) >= lame + 24:
            stream.lame_at = lame + 21
    elif frame[36:40] == b"VBRI" and len(frame) >= 54:
        stream.headless, stream.count, stream.count_at = False, -1, 50
        stream.told_bytes, stream.told = struct.unpack_from(">II", frame, 46)
    return stream


def find_streams(data: Buffer) -> tuple[list[Stream], int | None]:
    """All recordings, and where a last frame begins that is not whole."""
    streams: list[Stream] = []
    place = 0
    current = None
    while place < len(data):
        header = read_header(data, place)
        if header is not None and (current is None or header.kind != current.header.kind or (
                place != current.end)) and not begins_here(data, place):
            header = None
        if header is None:
            place = skip_tag(data, place) if is_tag(data, place) else next_sync(data, place + 1)
            continue
        if place + header.size > len(data):
            return streams, place
        if current is None or header.kind != current.header.kind or starts_stream(data, place, header):
            current = open_stream(data, place, header)
            streams.append(current)
        current.count += 1
        place += header.size
        current.end = place
        if current.count * header.samples > MAX_AUDIO_FRAMES:
            raise ValueError(f"has over {current.count * header.samples} frames, the limit is {MAX_AUDIO_FRAMES}; "
                             "cut it")
    return streams, None


def next_sync(data: Buffer, place: int) -> int:
    """The next byte that may begin a frame or a tag."""
    found = [at for mark in (b"\xff", b"ID3") if (at := data.find(mark, place)) >= 0]
    return min(found, default=len(data))


def head_frame(data: Buffer, stream: Stream) -> bytes:
    """A frame that tells the number of those that follow, for a recording that has none."""
    head = bytearray(data[stream.begin:stream.begin + 4])
    head[2] = head[2] & 0x0F | 0x90  # a bit rate whose frames have room for it
    header = read_header(bytes(head), 0)
    frame = bytes(head) + bytes(header.side - 4) + b"Xing" + struct.pack(">II", 1, stream.count)
    return frame + bytes(header.size - len(frame))


def as_part(data: Buffer, stream: Stream, last_cut: int | None) -> Part | None:
    """What libsndfile is given of a recording, or None where it holds no sound.

    Raises:
        CutShort: fewer frames than it tells.
    """
    header = stream.header
    found = stream.count
    missing = (stream.told or 0) - found
    size = len(data) - stream.begin
    if missing > 1 or (missing == 1 and stream.told_bytes is not None and stream.told_bytes > size) or last_cut:
        seconds = found * header.samples / header.rate
        told = f" of {stream.told} frames, {seconds:.2f} of {stream.told * header.samples / header.rate:.2f} s" if (
            stream.told is not None) else f" whole frames, {seconds:.2f} s, and a part of one more"
        raise CutShort(f"is cut short: it holds {found}{told}")
    if found < 1:
        return None
    if stream.headless:
        skipped = read_header(data, stream.begin).size if stream.count_at is None and starts_stream(
            data, stream.begin, header) else 0
        return Part(stream.begin + skipped, stream.end, prefix=head_frame(data, stream))
    if missing >= -1:
        return Part(stream.begin, stream.end)
    patches = [(stream.count_at, struct.pack(">I", found))]
    if stream.lame_at is not None:  # what the encoder added at an end that is none
        delay = bytes(data[stream.begin + stream.lame_at:stream.begin + stream.lame_at + 2])
        patches.append((stream.lame_at, bytes((delay[0], delay[1] & 0xF0, 0))))
    return Part(stream.begin, stream.end, patches=tuple(patches))


def mp3_parts(data: Buffer) -> list[Part]:
    """The recordings of an MP3 file, none where it is of another kind.

    Raises:
        CutShort: it ends within a frame, or before the frame that its beginning tells.
        ValueError: over the limit on frames.
    """
    streams, cut = find_streams(data)
    parts = [as_part(data, stream, cut if stream is streams[-1] else None) for stream in streams]
    return [part for part in parts if part is not None]
