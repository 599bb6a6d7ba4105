"""Files and folders are written whole or not at all, and are on the disk before they take their name."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEFT_OVER = re.compile(r"\..+\.\d+\.(part|old)")
"""Names of what is being written, and of what is being replaced or removed."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it takes the final name only when the block ends without error.

    The parent folder is made when it is missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.touch()
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # safetensors makes files that only their owner can read
        flush(partial)
        os.replace(partial, path)
        flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` to fill; it takes the place of ``path`` when the block ends without error.

    A folder that was there goes as a whole. A process that is killed while the two change places leaves no folder of
    this name rather than a mixture.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        mode = partial.stat().st_mode & 0o666
        yield partial
        for inner in sorted(partial.rglob("*")):
            if inner.is_file():
                inner.chmod(mode)
            flush(inner)
        flush(partial)
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)
        flush(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder so that a process that is killed meanwhile leaves no half of it under its name."""
    going = path.with_name(f".{path.name}.{os.getpid()}.old")
    os.replace(path, going)
    shutil.rmtree(going)


def remove_left_overs(folder: Path) -> None:
    """Remove what killed processes left in ``folder`` of the two writers above; no process may be writing there."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if LEFT_OVER.fullmatch(path.name):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def flush(path: Path) -> None:
    """Have the content of a file, or the names in a folder, written to the disk before going on."""
    with suppress(OSError):  # some file systems cannot, and then there is nothing more to do
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
