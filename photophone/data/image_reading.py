"""Pictures to the images that a model was trained to read."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from photophone.core.limits import MAX_IMAGE_BYTES, MAX_PIXELS
from photophone.data.image_decoding import check_mode, on_white

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ImageReading:
    """How pictures become images; their size is the model's.

    Args:
        resample: of Pillow, in lower case.
        crop: the shorter side gets the size and the middle is cut out; else both sides get it.
        scale, shift: of pixels 0 .. 255, for all or each channel: ``pixel * scale + shift``.
    """

    resample: str = "bicubic"
    crop: bool = True
    scale: tuple[float, ...] = (1 / 127.5,)
    shift: tuple[float, ...] = (-1.0,)

    def __call__(self, image: Image.Image, size: int) -> Tensor:
        """A picture, on white where it is transparent, as float32 (3, size, size).

        Raises:
            ValueError: a mode without an agreed white, or too many pixels.
        """
        check_picture(image)
        image, method = on_white(image), Image.Resampling[self.resample.upper()]
        if self.crop:
            ratio = size / min(image.size)
            width, height = (max(size, round(side * ratio)) for side in image.size)
            left, top = (width - size) // 2, (height - size) // 2
            image = image.resize((width, height), method).crop((left, top, left + size, top + size))
        else:
            image = image.resize((size, size), method)
        pixels = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)
        return pixels * torch.tensor(self.scale)[:, None, None] + torch.tensor(self.shift)[:, None, None]


CLIP_READING = ImageReading("bilinear", False, tuple(1 / 255 / std for std in CLIP_STD),
                            tuple(-mean / std for mean, std in zip(CLIP_MEAN, CLIP_STD)))
"""CLIP's mean and deviation, and its size on both sides."""


def check_picture(image: Image.Image) -> None:
    """Refuse a picture that is too large or has no agreed white.

    Raises:
        ValueError: names its size or mode.
    """
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"image of {image.width}x{image.height} is over the limit of {MAX_PIXELS} pixels; make it "
                         "smaller")
    check_mode(image)


def open_picture(file: str | Path) -> Image.Image:
    """A file as a picture whose pixels were read.

    Raises:
        ValueError: no image, damaged, or over a limit; names the file.
    """
    try:
        size = Path(file).stat().st_size
        if size > MAX_IMAGE_BYTES:
            raise ValueError(f"{file}: image file of {size} bytes is over the limit of {MAX_IMAGE_BYTES}")
        image = Image.open(io.BytesIO(Path(file).read_bytes()))
        check_picture(image)
        image.load()
    except UnidentifiedImageError as error:
        raise ValueError(f"{file} is no image, or it is damaged") from error
    except (OSError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} cannot be read as an image: {error}") from error
    return image
