"""Where captioned images come from: parquet files, folders, webdataset shards."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from photophone.core.limits import MAX_IMAGE_BYTES

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"}


def read_parquet(path: Path) -> Iterator[tuple[bytes, dict]]:
    """(bytes, fields) of a parquet file with a column ``image`` (bytes, or a struct with bytes) and ``caption``."""
    from pyarrow import parquet
    file = parquet.ParquetFile(path)
    if "image" not in file.schema_arrow.names:
        raise ValueError(f"{path} has no column 'image', only {', '.join(file.schema_arrow.names)}")
    for batch in file.iter_batches(batch_size=256):
        for row in batch.to_pylist():
            image = row["image"]
            yield (image["bytes"] if isinstance(image, dict) else image), row


def read_folder(path: Path) -> Iterator[tuple[bytes, dict]]:
    """(bytes, fields) of an image folder: captions from ``metadata.jsonl`` (file_name, caption), from a text file of
    the same name, or from the file name itself with dashes and underscores as spaces."""
    table = {}
    if (path / "metadata.jsonl").exists():
        table = {row["file_name"]: row for row in read_lines(path / "metadata.jsonl")}
    for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES):
        fields = dict(table.get(str(file.relative_to(path)), {}))
        if "caption" not in fields:
            sidecar = file.with_suffix(".txt")
            name = file.stem.replace("_", " ").replace("-", " ")
            fields["caption"] = sidecar.read_text("utf-8", "replace").strip() if sidecar.exists() else name
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

    key = None
    parts = {}
    with tarfile.open(path) as shard:
        for member in shard:
            if not member.isfile():
                continue
            folder, _, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            if (folder, stem) != key:
                yield from finish(parts)
                key = (folder, stem)
                parts = {}
            parts[suffix.lower()] = shard.extractfile(member).read(MAX_IMAGE_BYTES + 1)
    yield from finish(parts)


def read_source(path: Path) -> Iterator[tuple[bytes, dict]]:
    """(bytes, fields) of a parquet file, a webdataset tar, or a folder of images.

    Raises:
        ValueError: missing, of another kind, or damaged.
    """
    readers = {".parquet": read_parquet, ".tar": read_webdataset}
    if not path.is_dir() and (path.suffix not in readers or not path.exists()):
        raise ValueError(f"{path} is not a folder, a .parquet or a .tar file")
    try:
        yield from read_folder(path) if path.is_dir() else readers[path.suffix](path)
    except (tarfile.TarError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def read_lines(path: Path) -> list[dict]:
    """The objects of a file with one JSON object a line; captions may hold other line separators, such as U+2028.

    Raises:
        ValueError: a line that is not an object; names file and line.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
            if not isinstance(rows[-1], dict):
                raise ValueError(f"{path}, line {number}: not an object")
    return rows
