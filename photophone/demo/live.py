"""Speech that plays while it is made: the server keeps the samples of running jobs, the page asks for the next ones."""

from __future__ import annotations

import base64
import secrets
import threading
import time
from typing import Any

import numpy as np

from photophone.data.audio_write import pcm16

WAIT_SECONDS = 0.4
"""So long a question waits for samples before it is answered with none."""
KEEP_SECONDS = 120.0
"""A finished stream is kept so long for a slow page."""


class LiveAudio:
    """Streams of 16-bit samples under random names."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.streams: dict[str, dict[str, Any]] = {}

    def open(self) -> str:
        """A new stream; its name cannot be guessed. Old streams are dropped."""
        name = secrets.token_urlsafe(16)
        with self.changed:
            now = time.monotonic()
            self.streams = {key: stream for key, stream in self.streams.items()
                            if stream["ended"] is None or now - stream["ended"] < KEEP_SECONDS}
            self.streams[name] = {"samples": bytearray(), "ended": None}
        return name

    def write(self, name: str, audio: np.ndarray) -> None:
        """Append float (T,) in [-1, 1]."""
        with self.changed:
            self.streams[name]["samples"] += pcm16(audio).tobytes()
            self.changed.notify_all()

    def close(self, name: str) -> None:
        """Nothing more will come."""
        with self.changed:
            self.streams[name]["ended"] = time.monotonic()
            self.changed.notify_all()

    def read(self, name: Any, position: Any) -> tuple[str, bool]:
        """What lies behind ``position`` bytes, as base64, and whether that is the end.

        An unknown name or a wrong position is the end of nothing: both come from visitors.
        """
        with self.changed:
            stream = self.streams.get(name) if isinstance(name, str) else None
            if stream is None or not isinstance(position, int) or not 0 <= position <= len(stream["samples"]):
                return "", True
            self.changed.wait_for(lambda: len(stream["samples"]) > position or stream["ended"] is not None,
                                  WAIT_SECONDS)
            return base64.b64encode(stream["samples"][position:]).decode("ascii"), stream["ended"] is not None
