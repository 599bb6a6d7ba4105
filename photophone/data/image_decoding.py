"""Encoded images to pixels. No torch here: the demo's decoding processes start quickly."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

from photophone.core.limits import MAX_IMAGE_BYTES, MAX_PIXELS

PLAIN_MODES = {"1", "L", "P", "RGB", "RGBA", "LA", "PA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"}
"""Modes of Pillow that it converts to RGB itself, with what is transparent."""
DEEP_MODES = {"I;16", "I;16L", "I;16B", "I;16N"}
"""Grey of 16 bits, which Pillow would cut at 255."""
DEEP_FORMATS = {"PNG", "PPM"}
"""Formats whose mode "I" is grey of 16 bits; elsewhere it has 32 and no agreed white."""
CLEAR = 128
"""A pixel of a mask whose alpha is less is transparent."""
LARGE_PIXELS = 16_000_000
"""Images over it are reduced while they are read, where their format can."""
KEPT_SIDES = 4
"""What is read of a large image has at least so many times the pixels per side of the result."""
BAND_ROWS = 512


def decode_image(data: bytes, size: int, *, max_pixels: int | None = None,
                 formats: tuple[str, ...] | None = None) -> np.ndarray:
    """Encoded bytes to uint8 (size, size, 3): centre crop to a square, on white where transparent.

    Args:
        data: the file.
        size: pixels per side of the result.
        max_pixels: a limit below the general one, ``MAX_PIXELS``.
        formats: Pillow's names of the formats that are read, None for all it knows.

    Raises:
        ValueError: as :func:`open_image`.
    """
    return square_pixels(open_image(data, size, max_pixels=max_pixels, formats=formats), size)


def decode_mask(data: bytes, size: int, *, max_pixels: int | None = None,
                formats: tuple[str, ...] | None = None) -> np.ndarray:
    """Encoded bytes to uint8 (size, size, 3), white where something new is to be drawn: where the picture is
    transparent, as OpenAI's clients send it, or where nothing of it is, where it is white.

    Args:
        data, size, max_pixels, formats: see :func:`decode_image`.

    Raises:
        ValueError: as :func:`open_image`.
    """
    image = open_image(data, size, max_pixels=max_pixels, formats=formats)
    if image.has_transparency_data and image.mode in PLAIN_MODES:
        alpha = (image if image.mode in ("RGBA", "LA") else image.convert("RGBA")).getchannel("A")
        if alpha.getextrema()[0] < CLEAR:
            image = ImageChops.invert(alpha)
    return square_pixels(image, size)


def open_image(data: bytes, size: int, *, max_pixels: int | None = None,
               formats: tuple[str, ...] | None = None) -> Image.Image:
    """Encoded bytes to a decoded image of Pillow; arguments as of :func:`decode_image`.

    Raises:
        ValueError: not an image, damaged, of a mode without an agreed white, or over the limit on pixels or
            ``MAX_IMAGE_BYTES``.
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
        check_mode(image)
        read_pixels(image, size)
    except UnidentifiedImageError as error:
        read = f" of a kind that is read ({', '.join(formats)})" if formats else ""
        raise ValueError(f"cannot read the image: the file is no image{read}, or it is damaged") from error
    except (OSError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the image: {error}") from error
    return image


def square_pixels(image: Image.Image, size: int) -> np.ndarray:
    """An image of Pillow to uint8 (size, size, 3): centre crop to a square, on white where transparent.

    Raises:
        ValueError: of a mode without an agreed white.
    """
    check_mode(image)
    side = min(image.size)
    left = (image.width - side) // 2
    top = (image.height - side) // 2
    square = Image.new("RGB", (side, side))
    for row in range(0, side, BAND_ROWS):  # a large image with all its copies would take gigabytes
        band = image.crop((left, top + row, left + side, top + min(side, row + BAND_ROWS)))
        square.paste(on_white(band), (0, row))
    if side != size:
        square = square.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(square)


def read_pixels(image: Image.Image, size: int) -> None:
    """Decode an opened image, reduced by 2, 4 or 8 where it is large and the format can: JPEG.

    Args:
        image: as Pillow opened it.
        size: pixels per side of the result.
    """
    if image.width * image.height > LARGE_PIXELS:
        image.draft(None, (KEPT_SIDES * size, KEPT_SIDES * size))
    image.load()


def check_mode(image: Image.Image) -> None:
    """Refuse a mode that has no agreed white.

    Raises:
        ValueError: names the mode and what to do.
    """
    if image.mode in PLAIN_MODES or image.mode in DEEP_MODES or image.mode == "La" or (
            image.mode == "I" and image.format in DEEP_FORMATS):
        return
    kind = {"I": "grey of 32 bits", "F": "grey of floats"}.get(image.mode, "an unknown kind")
    raise ValueError(f"the image has Pillow's mode {image.mode}, {kind}, which has no agreed white; convert it to 8 or "
                     "16 bits")


def on_white(image: Image.Image) -> Image.Image:
    """An image of any mode that :func:`check_mode` lets pass as RGB, white where it is transparent."""
    if image.mode in DEEP_MODES or image.mode == "I":
        return deep_on_white(image)
    if image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    canvas = Image.new("RGBA", image.size, "white")
    canvas.alpha_composite(image)
    return canvas.convert("RGB")


def deep_on_white(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as RGB, rounded to 8; the one shade that a PNG may call transparent is white."""
    shades = np.asarray(image).astype(np.int64)
    clear = image.info.get("transparency")
    eight = ((shades.clip(0, 65_535) + 128) // 257).astype(np.uint8)
    if isinstance(clear, int):
        eight[shades == clear] = 255
    return Image.fromarray(eight).convert("RGB")
