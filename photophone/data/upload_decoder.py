"""``python -m photophone.data.upload_decoder FD``: decodes uploads, each in a process of its own, under limits.

Decoders of images and audio read what strangers made, so each upload gets a process that has nothing to lose: it takes
bytes, no paths, and gives bytes. A process that has read the libraries once waits for uploads on a socket and makes a
copy of itself (fork) for each: reading them takes ten times as long as decoding.

It tells that it is ready. A job comes as ``KIND SIZE`` with two open files: where the upload is read, and where the
answer is written. The answer is a byte, OK, REFUSED or BROKEN; behind it four bytes of the sample rate (0 for an image)
and a NumPy array, one line that says why the upload was refused, or what broke. No answer at all means that a limit
ended the process.
"""

from __future__ import annotations

import gc
import io
import math
import os
import resource
import signal
import socket
import sys
import traceback

import numpy as np

from photophone.core.limits import (
    DECODER_CPU_SECONDS,
    DECODER_MEMORY_BYTES,
    DECODER_WALL_SECONDS,
    DEMO_CLIP_SECONDS,
    DEMO_UPLOAD_BYTES,
    DEMO_UPLOAD_PIXELS,
)
from photophone.data.audio_stream import AudioReader
from photophone.data.image_decoding import decode_image, decode_mask

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
OK, REFUSED, BROKEN = 0, 2, 3
READY, LONGEST_ORDER = b"ready", 100


def limit_process() -> None:
    """Bound this process for the rest of its life: memory, time, and no files or processes of its own."""
    for kind, value in ((resource.RLIMIT_AS, DECODER_MEMORY_BYTES), (resource.RLIMIT_CPU, DECODER_CPU_SECONDS),
                        (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 16)):
        resource.setrlimit(kind, (value, value))


def decode_audio(data: bytes) -> tuple[np.ndarray, int]:
    """An audio file to float32 (C, T) and its rate.

    Raises:
        ValueError: see :class:`AudioReader`, or longer than ``DEMO_CLIP_SECONDS``.
    """
    reader = AudioReader(data, DEMO_CLIP_SECONDS)
    blocks = list(reader.blocks())
    if not blocks:
        raise ValueError("the recording holds no samples")
    return np.concatenate(blocks, axis=1), reader.sample_rate


def decode(kind: str, data: bytes, size: int) -> tuple[np.ndarray, int]:
    """An upload to uint8 (size, size, 3) and 0, or to float32 (C, T) and its rate.

    Args:
        kind: "image", "mask" (see :func:`photophone.data.image_decoding.decode_mask`) or "audio".
        data: the file.
        size: pixels per side of an image.

    Raises:
        ValueError: it is refused.
    """
    if not data:
        raise ValueError("the file is empty")
    if len(data) > DEMO_UPLOAD_BYTES:
        raise ValueError(f"the file is over the limit of {DEMO_UPLOAD_BYTES // 10**6} MB")
    if kind in ("image", "mask"):
        read = decode_image if kind == "image" else decode_mask
        return read(data, size, max_pixels=DEMO_UPLOAD_PIXELS, formats=IMAGE_FORMATS), 0
    return decode_audio(data)


def answer(kind: str, data: bytes, size: int) -> bytes:
    """What is written back for an upload."""
    try:
        array, rate = decode(kind, data, size)
    except ValueError as error:
        return bytes([REFUSED]) + str(error).partition("\n")[0][:300].encode("utf-8", "replace")
    except MemoryError:
        return bytes([REFUSED]) + b"the file needs too much memory to decode"
    except Exception:  # whatever a decoder did not foresee; the log has it
        return bytes([BROKEN]) + traceback.format_exc().encode("utf-8", "replace")
    result = io.BytesIO()
    np.save(result, array, allow_pickle=False)
    return bytes([OK]) + rate.to_bytes(4, "little") + result.getvalue()


def work(order: bytes, source: int, target: int) -> None:
    """The life of the process of one upload, until it has answered."""
    os.dup2(1, 2)  # what libraries grumble about files is not for the log of a server
    signal.alarm(math.ceil(DECODER_WALL_SECONDS))  # which ends it
    limit_process()
    kind, size = order.decode("ascii").split()
    with open(source, "rb") as file:
        data = file.read(DEMO_UPLOAD_BYTES + 1)
    with open(target, "wb") as file:
        file.write(answer(kind, data, int(size)))


def main() -> None:
    """Entry point: wait for jobs on a socket that was handed over, until the other side closes it."""
    jobs = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who are done
    gc.freeze()  # so that memory stays shared
    jobs.send(READY)
    while True:
        order, files, _, _ = socket.recv_fds(jobs, LONGEST_ORDER, 2)
        if not order:
            return
        if os.fork() == 0:
            try:
                jobs.close()
                work(order, *files)
            finally:
                os._exit(0)
        for file in files:
            os.close(file)


if __name__ == "__main__":
    main()
