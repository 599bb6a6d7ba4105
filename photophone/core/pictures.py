"""Pictures as files, and side by side: plain grids for previews, labelled sheets for people."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

PICTURE_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}), ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}), ".webp": ("WEBP", {"lossless": True}), ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}), ".tiff": ("TIFF", {"compression": "tiff_deflate"})}
"""Format and options of Pillow by the suffix of a file name; all but JPEG keep every pixel."""


def write_picture(image: Image.Image, file: Path, suffix: str) -> None:
    """Write a picture in the format of a suffix, which the name of ``file`` need not have.

    Raises:
        ValueError: an unknown suffix.
    """
    if suffix.lower() not in PICTURE_FORMATS:
        raise ValueError(f"cannot write a picture as {suffix}; the name must end in {', '.join(PICTURE_FORMATS)}")
    kind, options = PICTURE_FORMATS[suffix.lower()]
    image.save(file, format=kind, **options)


def to_pil(images: Tensor) -> list[Image.Image]:
    """Images (B, 3, H, W) in [-1, 1] to PIL, clamped and rounded."""
    array = ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(image) for image in array]


def grid(images: list[Image.Image], columns: int, gap: int = 2) -> Image.Image:
    """Images of one size in rows of ``columns`` on white."""
    width, height = images[0].size
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        place = (gap + column * (width + gap), gap + row * (height + gap))
        sheet.paste(image, place, image if image.mode == "RGBA" else None)
    return sheet


def labelled_sheet(rows: list[tuple[str, list[Image.Image]]], scale: int = 2, label_width: int = 190,
                   heads: list[str] | None = None) -> Image.Image:
    """One line a label: the label on the left, its images enlarged beside it.

    Args:
        rows: (label, images), all images of one size.
        scale: enlargement, smooth.
        label_width: pixels for the labels.
        heads: of the columns.
    """
    width, height = (side * scale for side in rows[0][1][0].size)
    columns = max(len(images) for _, images in rows)
    gap = 6
    above = 24 if heads else 0
    whole = (label_width + columns * (width + gap), above + len(rows) * (height + gap) + gap)
    sheet = Image.new("RGB", whole, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    for column, head in enumerate(heads or ()):
        middle = label_width + column * (width + gap) + width // 2
        draw.text((middle, above), head, fill="black", font=font, anchor="ms")
    for index, (label, images) in enumerate(rows):
        top = above + gap + index * (height + gap)
        draw.multiline_text((10, top + height // 2), textwrap.fill(label, 22), fill="black", font=font, anchor="lm")
        for column, image in enumerate(images):
            large = image.resize((width, height), Image.Resampling.BICUBIC)
            sheet.paste(large, (label_width + column * (width + gap), top), large if large.mode == "RGBA" else None)
    return sheet


COLOURS = np.array([(0, 0, 6), (59, 15, 111), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191)], float)
"""From silence to loud, evenly spaced."""


def spectrogram(audio: Tensor, sample_rate: int, size: tuple[int, int] = (960, 240), seconds: float | None = None,
                range_db: float = 75.0, top_db: float = -15.0) -> Image.Image:
    """A picture of a waveform's short-time spectrum, low frequencies at the bottom.

    Args:
        audio: float (T,).
        sample_rate: in Hz.
        size: width and height in pixels.
        seconds: of the time axis; longer audio is cut, shorter leaves the rest dark. None fits the audio.
        range_db: from the darkest to the brightest colour.
        top_db: of the brightest colour; 0 dB is a full-scale sine.
    """
    window = torch.hann_window(2 ** round(np.log2(0.04 * sample_rate)))
    count = audio.shape[-1] if seconds is None else round(seconds * sample_rate)
    audio = torch.nn.functional.pad(audio.detach().float().cpu()[:count], (0, max(0, count - audio.shape[-1])))
    hop = max(1, min(len(window) // 4, count // size[0]))
    magnitude = torch.stft(audio, len(window), hop, window=window, pad_mode="constant", return_complex=True).abs()
    level = 20 * (magnitude / (window.sum() / 2)).clamp(min=1e-9).log10()  # (bins, frames), dB under full scale
    shade = ((level - top_db + range_db) / range_db).clamp(0, 1).numpy()[::-1]
    places = np.linspace(0, 1, len(COLOURS))
    colours = np.stack([np.interp(shade, places, channel) for channel in COLOURS.T], axis=-1)
    return Image.fromarray(colours.round().astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)


DIVERGING = np.array([(33, 78, 160), (140, 178, 222), (247, 247, 247), (238, 168, 138), (178, 40, 46)], float)
"""From low to high around zero, evenly spaced."""


def token_map(values: Tensor, grid_shape: tuple[int, int] | None = None, width: int = 640,
              largest: int = 480) -> Image.Image:
    """A picture of one sequence of tokens.

    Continuous tokens: a column for each, a row for each channel, coloured from three standard deviations under zero to
    three over it. Codes: a cell for each, equal codes in equal colours; several codebooks are rows.

    Args:
        values: float (N, D), or Long (N,) or (Q, N).
        grid_shape: rows and columns in which N codes lie, for images; None is one row for each codebook.
        width: pixels, at least one for each column.
        largest: most pixels of the height.
    """
    if values.is_floating_point():
        cells = values.detach().float().cpu().T
        cells = (cells / (6 * cells.std().clamp(min=1e-9)) + 0.5).clamp(0, 1).numpy()  # (D, N)
        places = np.linspace(0, 1, len(DIVERGING))
        colours = np.stack([np.interp(cells, places, channel) for channel in DIVERGING.T], axis=-1)
    else:
        codes = values.detach().cpu()
        codes = (codes.reshape(grid_shape) if grid_shape else codes.reshape(-1, codes.shape[-1])).numpy()
        turns = np.stack([codes * share for share in (0.6180339887, 0.7548776662, 0.5698402910)], axis=-1) % 1
        colours = 40 + 200 * turns  # irrational steps: near codes get far colours
    rows, columns = colours.shape[:2]
    width = max(width, columns)
    cell = max(1, min(width // columns, largest // rows))
    image = Image.fromarray(colours.round().astype(np.uint8))
    return image.resize((width if columns > 4 * rows else cell * columns, max(cell, 8) * rows if rows < 40
                         else cell * rows), Image.Resampling.NEAREST)
