"""``python -m photophone.data.upload_decoder``: decodes an upload from standard input under limits, prints the samples.

A process of its own, because decoders of images and audio read what strangers made. It takes bytes, no paths, and
gives bytes: four of the sample rate (0 for an image) and a NumPy array. Exit code 2 means that the upload was refused;
standard output then holds one line that says why.
"""

from __future__ import annotations

import io
import resource
import sys

import numpy as np

from photophone.core.limits import (
    DECODER_CPU_SECONDS,
    DECODER_MEMORY_BYTES,
    DEMO_CLIP_SECONDS,
    DEMO_UPLOAD_BYTES,
    DEMO_UPLOAD_PIXELS,
)
from photophone.data.audio_stream import AudioReader
from photophone.data.image_decoding import decode_image, decode_mask

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
REFUSED = 2


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


def main() -> None:
    """Entry point of the process: ``decoder image SIZE``, ``decoder mask SIZE`` or ``decoder audio 0``."""
    limit_process()
    kind = sys.argv[1]
    size = int(sys.argv[2])
    try:
        array, rate = decode(kind, sys.stdin.buffer.read(DEMO_UPLOAD_BYTES + 1), size)
    except ValueError as error:
        print(str(error).partition("\n")[0][:300])
        sys.exit(REFUSED)
    except MemoryError:
        print("the file needs too much memory to decode")
        sys.exit(REFUSED)
    result = io.BytesIO()
    np.save(result, array, allow_pickle=False)
    sys.stdout.buffer.write(rate.to_bytes(4, "little") + result.getbuffer())


if __name__ == "__main__":
    main()
