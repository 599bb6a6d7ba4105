"""Where captioned images come from: parquet files, folders, webdataset shards."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Container, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

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


def read_webdataset(path: Path, rest: list[str] | None = None, suffixes: Container[str] = SUFFIXES,
                    words: str = "caption", most_bytes: int = MAX_IMAGE_BYTES) -> Iterator[tuple[bytes, dict]]:
    """(bytes, fields) of every image of one webdataset shard, in its order, with captions and fields from text members.

    With other ``suffixes`` the same of sounds.

    The text of ``KEY.png`` is ``KEY.txt`` or ``KEY.json``, where KEY may hold dots: ``img.v1.png`` has ``img.v1.txt``.
    webdataset itself ends a key at the first dot, so that ``7.left.png`` and ``7.right.png`` are parts of one example
    ``7``; an image without a text of its own takes that of this shorter key, ``7.txt``. Members may lie anywhere.

    Args:
        path: the tar.
        rest: gets the names of members that belong to no image.
        suffixes: of images, in small letters.
        words: the field that a text becomes.
        most_bytes: that are read of a member, and one more.
    """
    with tarfile.open(path) as shard:
        members = [member for member in shard if member.isfile()]
        texts: dict[str, tarfile.TarInfo] = {}
        for member in members:
            if _suffix(member) in (".txt", ".json"):
                texts[member.name.removesuffix(PurePosixPath(member.name).suffix) + _suffix(member)] = member
        used = set()
        for member in members:
            if _suffix(member) not in suffixes:
                continue
            used.add(member)
            found = [next((texts[key + kind] for key in _keys(member.name) if key + kind in texts), None)
                     for kind in (".json", ".txt")]
            used.update(found)
            table, caption = (None if part is None else shard.extractfile(part).read(most_bytes + 1)
                              for part in found)
            fields = {} if table is None else json.loads(table)
            if not isinstance(fields, dict):
                raise ValueError(f"{found[0].name} is not one JSON object")
            if caption is not None:
                fields[words] = caption.decode("utf-8", "replace").strip()
            yield shard.extractfile(member).read(most_bytes + 1), fields
    if rest is not None:
        rest += [member.name for member in members if member not in used]


def _suffix(member: tarfile.TarInfo) -> str:
    return PurePosixPath(member.name).suffix.lower()


def _keys(name: str) -> tuple[str, str]:
    """The key of a member up to its last dot, and that of webdataset, up to the first dot of its last part."""
    folder, slash, last = name.rpartition("/")
    return name.removesuffix(PurePosixPath(name).suffix), folder + slash + last.partition(".")[0]


def read_source(path: Path, rest: list[str] | None = None) -> Iterator[tuple[bytes, dict]]:
    """(bytes, fields) of a parquet file, a webdataset tar, or a folder of images.

    Args:
        path: of the source.
        rest: gets the names of files in a tar that belong to no image.

    Raises:
        ValueError: missing, of another kind, or damaged.
    """
    readers = {".parquet": read_parquet, ".tar": partial(read_webdataset, rest=rest)}
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
