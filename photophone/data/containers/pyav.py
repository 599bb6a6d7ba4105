"""Files that libsndfile does not read (MP4, WebM, AAC, WMA, AMR, CAF), through the package PyAV of the extra ``av``."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from photophone.core.limits import MAX_CHANNELS

KINDS = {"mov": "MP4 or M4A", "matroska": "WebM or Matroska", "aac": "AAC", "asf": "WMA", "amr": "AMR", "caf": "CAF"}
"""FFmpeg's names of containers. No others are tried: some of them open further files."""
MATROSKA = b"\x1aE\xdf\xa3"
ASF = b"0&\xb2u\x8ef\xcf\x11"
SHORT_FRAMES = 4
"""Frames of the codec by which a length that a container tells may differ from what there is."""


def av_kind(head: bytes) -> str | None:
    """FFmpeg's name of the container that begins with these bytes, at least 12; None for all that are not read here."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "mov"
    for start, kind in ((MATROSKA, "matroska"), (ASF, "asf"), (b"#!AMR", "amr"), (b"caff", "caf")):
        if head.startswith(start):
            return kind
    if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xF6 == 0xF0:  # ADTS; MP3 has bits for its layer
        return "aac"
    return None


class AvFile:
    """The first sound in such a file.

    Args:
        source: path or bytes.
        kind: from :func:`av_kind`.

    Attributes:
        sample_rate, channels, subtype: of the sound; the subtype is FFmpeg's name of the codec.
        frames: what the container tells, or None.

    Raises:
        ValueError: PyAV is missing, or there is no sound that it reads.
    """

    def __init__(self, source: str | Path | bytes, kind: str) -> None:
        self.source = source
        self.kind = kind
        with self.open() as container:
            stream = self.sound(container)
            self.sample_rate = stream.codec_context.sample_rate
            self.channels = stream.codec_context.channels
            self.subtype = stream.codec_context.name.upper()
            told = stream.duration is not None and kind == "mov"
            if not self.sample_rate:
                raise ValueError(f"is damaged {KINDS[kind]}, or cut short: its rate is not told")
            self.frames = round(stream.duration * stream.time_base * self.sample_rate) if told else None

    @contextmanager
    def open(self) -> Iterator[Any]:
        """The container; errors of FFmpeg become ours."""
        try:
            import av
        except ImportError as error:
            raise ValueError(f"is {KINDS[self.kind]}, which `pip install 'photophone[av]'` reads; or convert it: "
                             "`ffmpeg -i IN OUT.wav`") from error
        with io.BytesIO(self.source) if isinstance(self.source, bytes) else open(self.source, "rb") as file:
            try:
                with av.open(file, format=self.kind, metadata_errors="ignore") as container:
                    yield container
            except av.error.FFmpegError as error:
                raise ValueError(f"is damaged {KINDS[self.kind]}, or cut short: {error}") from error

    def sound(self, container: Any) -> Any:
        """The first stream with sound."""
        if not container.streams.audio:
            raise ValueError(f"is {KINDS[self.kind]} without sound")
        return container.streams.audio[0]

    def blocks(self) -> Iterator[np.ndarray]:
        """All samples in blocks float32 (C, n).

        Raises:
            ValueError: damaged, cut short, or of a rate or number of channels that changes.
        """
        import av
        done = 0
        size = 0
        with self.open() as container:
            stream = self.sound(container)
            layout = {1: "mono", 2: "stereo"}[min(self.channels, MAX_CHANNELS)]
            planes = av.AudioResampler(format="fltp", layout=layout, rate=self.sample_rate)
            for frame in container.decode(stream):
                if (frame.sample_rate, frame.layout.nb_channels) != (self.sample_rate, self.channels):
                    raise ValueError(f"changes from {self.sample_rate} Hz and {self.channels} channels to "
                                     f"{frame.sample_rate} Hz and {frame.layout.nb_channels} after "
                                     f"{done / self.sample_rate:.2f} s; split it there")
                size = max(size, frame.samples)
                frame.pts = None
                for part in planes.resample(frame):
                    done += part.samples
                    yield part.to_ndarray()
        if self.frames is not None and done < self.frames - SHORT_FRAMES * max(size, 1):
            raise ValueError(f"is cut short: {done} of {self.frames} frames can be read")
