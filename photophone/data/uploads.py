"""What strangers upload is decoded in a process of its own under limits. No torch here, and none there."""

from __future__ import annotations

import io
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np

from photophone.core.limits import DECODER_WALL_SECONDS
from photophone.data.upload_decoder import OK, READY, REFUSED

DECODERS = threading.BoundedSemaphore(2)
"""Decoding processes at a time."""
PART = 1 << 20
"""Bytes that are read at a time."""
START_SECONDS = 60.0
"""That the process may take to read its libraries, on a machine that has much else to do."""


class Decoder:
    """The process that makes a decoding process for each upload; it ends with this one.

    It knows nothing of the environment but where programs and packages are: a token, for one, is not its business.
    """

    def __init__(self) -> None:
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG")}
        self.jobs, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "photophone.data.upload_decoder", str(other.fileno())],
                pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                env={**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})
        self.jobs.settimeout(START_SECONDS)
        with suppress(OSError):
            self.jobs.recv(len(READY))  # nothing, where it has ended: a job then tells

    def close(self) -> None:
        """End it."""
        self.jobs.close()
        self.process.kill()
        self.process.wait()

    @property
    def is_there(self) -> bool:
        """Whether it takes jobs."""
        return self.process.poll() is None

    def send(self, kind: str, size: int, source: int, target: int) -> None:
        """Start a job; the two files are its own afterwards.

        Raises:
            OSError: the process is gone.
        """
        socket.send_fds(self.jobs, [f"{kind} {size}".encode("ascii")], [source, target])


_LOCK = threading.Lock()
_DECODERS: dict[int, Decoder] = {}
"""By the process that it belongs to: a fork of it starts its own."""


def send_job(kind: str, size: int, source: int, target: int) -> None:
    """Give a job to the decoder, which is started where there is none, or none any more."""
    with _LOCK:
        own = os.getpid()
        for _ in range(2):
            if own in _DECODERS and not _DECODERS[own].is_there:
                _DECODERS.pop(own).close()
            if own not in _DECODERS:
                _DECODERS[own] = Decoder()
            try:
                _DECODERS[own].send(kind, size, source, target)
                return
            except OSError:  # it ended since
                _DECODERS.pop(own).close()
        raise ValueError("the file cannot be decoded")


@contextmanager
def in_memory(data: bytes) -> Iterator[int]:
    """An open file that holds these bytes, and has no name."""
    if hasattr(os, "memfd_create"):
        file = open(os.memfd_create("upload"), "r+b")  # noqa: SIM115 (closed below)
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115
    with file:
        file.write(data)
        file.seek(0)
        yield file.fileno()


def run_decoder(kind: str, data: bytes, size: int) -> tuple[np.ndarray, int]:
    """Decode in a process of its own; see :mod:`photophone.data.upload_decoder`.

    Raises:
        ValueError: it refused the data, was killed by a limit, or took too long.
    """
    with DECODERS:
        made = ask_decoder(kind, data, size)
        if not made and has_ended():  # not the process of this upload, but the one that makes them
            made = ask_decoder(kind, data, size)
    if not made:
        raise ValueError("the file cannot be decoded")
    code, content = made[0], made[1:]
    if code == REFUSED:
        raise ValueError(content.decode("utf-8", "replace").strip() or "the file cannot be read")
    if code != OK:
        print(content.decode("utf-8", "replace"), file=sys.stderr)
        raise ValueError("the file cannot be decoded")
    return np.load(io.BytesIO(content[4:]), allow_pickle=False), int.from_bytes(content[:4], "little")


def ask_decoder(kind: str, data: bytes, size: int) -> bytes:
    """The answer to one upload; nothing where a process ended before it answered.

    Raises:
        ValueError: it took too long.
    """
    reading, writing = os.pipe()
    try:
        with in_memory(data) as source:
            try:
                send_job(kind, size, source, writing)
            finally:
                os.close(writing)
            return read_answer(reading)
    finally:
        os.close(reading)


def has_ended() -> bool:
    """Whether the decoder is gone, or goes."""
    with _LOCK, suppress(subprocess.TimeoutExpired):
        _DECODERS[os.getpid()].process.wait(timeout=0.1)
        return True
    return False


def read_answer(reading: int) -> bytes:
    """All that a decoder writes.

    Raises:
        ValueError: it takes too long.
    """
    limit, parts = time.monotonic() + DECODER_WALL_SECONDS, []
    while True:
        ready, _, _ = select.select([reading], [], [], max(0.0, limit - time.monotonic()))
        if not ready:
            raise ValueError("the file took too long to decode")
        part = os.read(reading, PART)
        if not part:
            return b"".join(parts)
        parts.append(part)
