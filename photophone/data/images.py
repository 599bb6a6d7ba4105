"""Captioned images for training: a prepared file, how it is made, how it is read.

The prepared format is ``NAME.safetensors`` with ``images`` uint8 (N, H, W, 3) and beside it ``NAME.jsonl`` with one
object a line: caption, label, style, tags, colours (the last four may be empty), and what else a source says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from photophone.core.files import atomic_write
from photophone.data.image_decoding import decode_image
from photophone.data.image_sources import read_lines, read_source

FIELDS = ("caption", "label", "style", "tags", "colours")


def as_text(value: Any) -> str:
    """A field as text: lists, as tags often are, become words."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


def prepare_images(sources: list[Path], output: Path, size: int, rest: list[str] | None = None) -> tuple[int, int]:
    """Write the prepared format atomically.

    Args:
        sources: parquet files, tar shards or folders.
        output: the ``.safetensors`` file to write; the ``.jsonl`` goes beside it.
        size: pixels per side.
        rest: gets the names of files in tar shards that belong to no image.

    Returns:
        (images written, corrupt images skipped)
    """
    images = []
    rows = []
    skipped = 0
    for source in sources:
        for data, fields in read_source(source, rest):
            try:
                images.append(decode_image(data, size))
            except ValueError:
                skipped += 1
                continue
            rows.append({name: as_text(fields.get(name)) for name in FIELDS})
    if not images:
        raise ValueError(f"no readable image in {', '.join(map(str, sources))} ({skipped} corrupt)")
    write_prepared(images, rows, output)
    return len(images), skipped


def write_prepared(images: list[np.ndarray], rows: list[dict[str, str]], output: Path,
                   alphas: list[np.ndarray] | None = None) -> None:
    """Write the prepared format atomically.

    Args:
        images: uint8 (H, W, 3), all of one size.
        rows: the fields of each image: those of ``FIELDS``, and others such as ``source`` and ``licence``.
        output: the ``.safetensors`` file to write; the ``.jsonl`` goes beside it.
        alphas: opacity of each image, uint8 (H, W), which the file then holds as ``alphas``.

    Raises:
        ValueError: no images.
    """
    if not images:
        raise ValueError(f"there are no images to write to {output}")
    with atomic_write(output.with_suffix(".jsonl")) as partial:
        partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    with atomic_write(output) as partial:
        tensors = {"images": images, **({} if alphas is None else {"alphas": alphas})}
        save_file({name: torch.from_numpy(np.stack(arrays)) for name, arrays in tensors.items()}, partial)


class ImageDataset:
    """A prepared file in memory.

    Attributes:
        images: uint8 (N, H, W, 3).
        fields: one dict of strings per image, with the names of ``FIELDS``.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        try:
            self.images: Tensor = load_file(path)["images"]
            self.fields = read_lines(path.with_suffix(".jsonl"))
        except (OSError, SafetensorError, KeyError) as error:
            raise ValueError(f"{path} is not a prepared image file ({error}); make one with "
                             "scripts/prepare_images.py") from error
        shape = tuple(self.images.shape)
        dtype = self.images.dtype
        if dtype != torch.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
            raise ValueError(f"{path} must hold images uint8 (N, H, H, 3), got {dtype} {shape}")
        if len(self.fields) != len(self.images):
            raise ValueError(f"{path} has {len(self.images)} images but {len(self.fields)} captions")

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: np.ndarray) -> Tensor:
        """Float (B, 3, H, W) in [-1, 1], channels last in memory."""
        images = self.images[torch.from_numpy(np.asarray(indices))]
        return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
