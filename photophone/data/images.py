"""Captioned images for training: a prepared file, how it is made, how it is read.

The prepared format is ``NAME.safetensors`` with ``images`` uint8 (N, H, W, 3) and beside it ``NAME.jsonl`` with one
object a line: caption, label, style, tags, colours (the last four may be empty).
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from photophone.files import atomic_write

MAX_PIXELS = 64_000_000
MAX_IMAGE_BYTES = 64_000_000
FIELDS = ("caption", "label", "style", "tags", "colours")
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"}


def decode_image(data: bytes, size: int) -> np.ndarray:
    """Encoded bytes to uint8 (size, size, 3): centre crop to a square, on white where transparent.

    Raises:
        ValueError: not an image, damaged, or over ``MAX_PIXELS`` or ``MAX_IMAGE_BYTES``.
    """
    if len(data) > MAX_IMAGE_BYTES:
        raise ValueError(f"image file of {len(data)} bytes is over the limit of {MAX_IMAGE_BYTES}")
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"image of {image.width}x{image.height} is over the limit of {MAX_PIXELS} pixels")
        image = image.convert("RGBA")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the image: {error}") from error
    canvas = Image.new("RGBA", image.size, "white")
    canvas.alpha_composite(image)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = canvas.convert("RGB").crop((left, top, left + side, top + side))
    if side != size:
        square = square.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(square)


def read_parquet(path: Path) -> Iterator[tuple[bytes, dict]]:
    """(bytes, fields) of a parquet file with a column ``image`` (bytes, or a struct with bytes) and ``caption``."""
    from pyarrow import parquet
    for batch in parquet.ParquetFile(path).iter_batches(batch_size=256):
        for row in batch.to_pylist():
            image = row["image"]
            yield (image["bytes"] if isinstance(image, dict) else image), row


def read_folder(path: Path) -> Iterator[tuple[bytes, dict]]:
    """(bytes, fields) of an image folder: captions from ``metadata.jsonl`` (file_name, caption), from a text file of
    the same name, or from the file name itself with dashes and underscores as spaces."""
    table = {}
    if (path / "metadata.jsonl").exists():
        rows = [json.loads(line) for line in (path / "metadata.jsonl").read_text().splitlines() if line.strip()]
        table = {row["file_name"]: row for row in rows}
    for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES):
        fields = dict(table.get(str(file.relative_to(path)), {}))
        if "caption" not in fields:
            sidecar = file.with_suffix(".txt")
            name = file.stem.replace("_", " ").replace("-", " ")
            fields["caption"] = sidecar.read_text().strip() if sidecar.exists() else name
        yield file.read_bytes(), fields


def read_webdataset(path: Path) -> Iterator[tuple[bytes, dict]]:
    """(bytes, fields) of one webdataset shard: members KEY.png (or jpg, webp), KEY.txt or KEY.json."""
    def finish(parts: dict[str, bytes]) -> Iterator[tuple[bytes, dict]]:
        image = next((data for suffix, data in parts.items() if f".{suffix}" in SUFFIXES), None)
        if image is not None:
            fields = json.loads(parts["json"]) if "json" in parts else {}
            if "txt" in parts:
                fields["caption"] = parts["txt"].decode("utf-8", "replace").strip()
            yield image, fields

    key, parts = None, {}
    with tarfile.open(path) as shard:
        for member in shard:
            if not member.isfile():
                continue
            stem, _, suffix = member.name.partition(".")
            if stem != key:
                yield from finish(parts)
                key, parts = stem, {}
            parts[suffix.lower()] = shard.extractfile(member).read(MAX_IMAGE_BYTES + 1)
    yield from finish(parts)


def read_source(path: Path) -> Iterator[tuple[bytes, dict]]:
    """(bytes, fields) of a parquet file, a webdataset tar, or a folder of images."""
    if path.is_dir():
        return read_folder(path)
    if path.suffix == ".parquet":
        return read_parquet(path)
    if path.suffix == ".tar":
        return read_webdataset(path)
    raise ValueError(f"{path} is not a folder, a .parquet or a .tar file")


def prepare_images(sources: list[Path], output: Path, size: int) -> tuple[int, int]:
    """Write the prepared format atomically.

    Args:
        sources: parquet files, tar shards or folders.
        output: the ``.safetensors`` file to write; the ``.jsonl`` goes beside it.
        size: pixels per side.

    Returns:
        (images written, corrupt images skipped)
    """
    images, lines, skipped = [], [], 0
    for source in sources:
        for data, fields in read_source(source):
            try:
                images.append(decode_image(data, size))
            except ValueError:
                skipped += 1
                continue
            lines.append(json.dumps({name: str(fields.get(name) or "") for name in FIELDS}, ensure_ascii=False))
    if not images:
        raise ValueError(f"no readable image in {', '.join(map(str, sources))} ({skipped} corrupt)")
    with atomic_write(output.with_suffix(".jsonl")) as partial:
        partial.write_text("\n".join(lines) + "\n")
    with atomic_write(output) as partial:
        save_file({"images": torch.from_numpy(np.stack(images))}, partial)
    return len(images), skipped


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
            lines = path.with_suffix(".jsonl").read_text().splitlines()
        except (OSError, SafetensorError, KeyError) as error:
            raise ValueError(f"{path} is not a prepared image file ({error}); make one with "
                             "scripts/prepare_images.py") from error
        self.fields = [json.loads(line) for line in lines]
        if len(self.fields) != len(self.images):
            raise ValueError(f"{path} has {len(self.images)} images but {len(self.fields)} captions")

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: np.ndarray) -> Tensor:
        """Float (B, 3, H, W) in [-1, 1], channels last in memory."""
        images = self.images[torch.from_numpy(np.asarray(indices))]
        return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
