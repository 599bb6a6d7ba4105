"""Images side by side: plain grids for previews, labelled sheets for people."""

from __future__ import annotations

import textwrap

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor


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
        sheet.paste(image, (gap + column * (width + gap), gap + row * (height + gap)))
    return sheet


def labelled_sheet(rows: list[tuple[str, list[Image.Image]]], scale: int = 2, label_width: int = 190) -> Image.Image:
    """One line a label: the label on the left, its images enlarged beside it.

    Args:
        rows: (label, images), all images of one size.
        scale: enlargement, smooth.
        label_width: pixels for the labels.
    """
    width, height = (side * scale for side in rows[0][1][0].size)
    columns, gap = max(len(images) for _, images in rows), 6
    sheet = Image.new("RGB", (label_width + columns * (width + gap), len(rows) * (height + gap) + gap), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for index, (label, images) in enumerate(rows):
        top = gap + index * (height + gap)
        draw.multiline_text((10, top + height // 2), textwrap.fill(label, 22), fill="black", font=font, anchor="lm")
        for column, image in enumerate(images):
            large = image.resize((width, height), Image.Resampling.BICUBIC)
            sheet.paste(large, (label_width + column * (width + gap), top))
    return sheet
