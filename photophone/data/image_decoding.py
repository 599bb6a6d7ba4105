"""Encoded images to pixels. No torch here: the demo's decoding processes start quickly."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from photophone.core.limits import MAX_IMAGE_BYTES, MAX_PIXELS


def decode_image(data: bytes, size: int, *, max_pixels: int | None = None,
                 formats: tuple[str, ...] | None = None) -> np.ndarray:
    """Encoded bytes to uint8 (size, size, 3): centre crop to a square, on white where transparent.

    Args:
        data: the file.
        size: pixels per side of the result.
        max_pixels: a limit below the general one, ``MAX_PIXELS``.
        formats: Pillow's names of the formats that are read, None for all it knows.

    Raises:
        ValueError: not an image, damaged, or over the limit on pixels or ``MAX_IMAGE_BYTES``.
    """
    if not isinstance(data, bytes):
        raise ValueError(f"an image must be given as its bytes, got {type(data).__name__}")
    if len(data) > MAX_IMAGE_BYTES:
        raise ValueError(f"image file of {len(data)} bytes is over the limit of {MAX_IMAGE_BYTES}")
    limit = MAX_PIXELS if max_pixels is None else min(max_pixels, MAX_PIXELS)
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
        if image.width * image.height > limit:
            raise ValueError(f"image of {image.width}x{image.height} is over the limit of {limit} pixels")
        image = image.convert("RGBA")
    except UnidentifiedImageError as error:
        read = f" of a kind that is read ({', '.join(formats)})" if formats else ""
        raise ValueError(f"cannot read the image: the file is no image{read}, or it is damaged") from error
    except (OSError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the image: {error}") from error
    canvas = Image.new("RGBA", image.size, "white")
    canvas.alpha_composite(image)
    side = min(image.size)
    left = (image.width - side) // 2
    top = (image.height - side) // 2
    square = canvas.convert("RGB").crop((left, top, left + side, top + side))
    if side != size:
        square = square.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(square)
