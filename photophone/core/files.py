"""Files are written whole or not at all, and replace others only where that was asked for."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
NEARLY_NOTHING = 1 << 16
"""Bytes: with less than these free, a failed write is taken for a full disk. Libraries that write files themselves
(libsndfile, torch) do not say why they failed."""
LEFT_OVER = re.compile(r"\..+\.\d+-\d+\.(part|old)")
"""Names of what is being written, and of what is being replaced or removed."""
_numbers = itertools.count()


class NoSpace(OSError):
    """A disk that is full. The message names the file, the space that was needed and the space that was found."""


@contextmanager
def atomic_write(path: str | Path, *, overwrite: bool = True, size: int | None = None) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it takes the final name only when the block ends without error.

    The parent folder is made when it is missing. What was written lies on the disk, not in memory, before it counts.

    Args:
        path: the file.
        overwrite: whether it may replace a file; also one that appears while the block runs.
        size: bytes that it will have, where they are known, for the message of a full disk.

    Raises:
        FileExistsError: it is there, and ``overwrite`` is not set.
        NoSpace: the disk is full.
        OSError: the file cannot be written there.
    """
    path = Path(path)
    check_target(path, overwrite)
    made = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    partial = hidden(path, "part")
    done = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with space_told(path, size, partial):
            partial.touch()
            mode = partial.stat().st_mode
            yield partial
            partial.chmod(mode)  # safetensors makes files that only their owner can read
            sync(partial)
            publish(partial, path, overwrite)
        done = True
    except OSError as error:
        if error.filename == str(partial):
            error.filename = str(path)  # that users know
        raise
    finally:
        partial.unlink(missing_ok=True)
        for folder in () if done else made:
            with suppress(OSError):
                folder.rmdir()  # refuses folders with something in them


@contextmanager
def atomic_folder(path: str | Path, *, overwrite: bool = False, size: int | None = None) -> Iterator[Path]:
    """A temporary folder beside ``path`` to fill; it takes the final name only when the block ends without error.

    Args:
        path: the folder.
        overwrite: whether it may replace a folder, which goes as a whole. A process that is killed while the two change
            places leaves no folder of this name rather than a mixture.
        size: bytes that it will have, where they are known, for the message of a full disk.

    Raises:
        FileExistsError: it is a file, or holds something and ``overwrite`` is not set.
        NoSpace: the disk is full.
        OSError: the folder cannot be made there.
    """
    path = Path(path)
    if not (overwrite and path.is_dir()):
        check_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, old = hidden(path, "part"), hidden(path, "old")
    try:
        with space_told(path, size, partial):
            partial.mkdir()
            with saving_into(partial, path, size):
                yield partial
            for inner in partial.rglob("*"):
                sync(inner)
            sync(partial)
            if path.exists():
                os.replace(path, old)
            os.replace(partial, path)
            sync(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def hidden(path: Path, end: str) -> Path:
    """A name beside ``path`` for what is being written ("part") or going ("old"); no two calls give the same."""
    return path.with_name(f".{short(path.name)}.{os.getpid()}-{next(_numbers)}.{end}")


def remove_folder(path: Path) -> None:
    """Remove a folder so that a process that is killed meanwhile leaves no half of it under its name."""
    going = hidden(path, "old")
    os.replace(path, going)
    shutil.rmtree(going)


def remove_left_overs(folder: Path) -> None:
    """Remove what killed processes left of the two writers above in ``folder``; none may be writing there."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if LEFT_OVER.fullmatch(path.name):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def short(name: str) -> str:
    """The beginning of a file name: with what is added to it, it is no longer than names may be."""
    return name.encode()[:60].decode(errors="ignore")


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, lies on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without it
            raise
    finally:
        os.close(handle)


def publish(partial: Path, path: Path, overwrite: bool) -> None:
    """Give a file its final name.

    Raises:
        FileExistsError: another file has it, and ``overwrite`` is not set.
    """
    if overwrite:
        os.replace(partial, path)
    else:
        try:
            os.link(partial, path)  # refuses at once what exists, so no other program can come between
        except FileExistsError as error:
            raise taken(path) from error
        except OSError:  # a file system without links
            check_target(path, overwrite)
            os.replace(partial, path)
    sync(path.parent)


def check_target(path: str | Path, overwrite: bool = False) -> None:
    """Refuse a file that could not be written, before anything is computed for it.

    Raises:
        FileExistsError: it is there, and ``overwrite`` is not set.
        OSError: it is a folder, its name is too long, or its folder is a file, cannot be made or written.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is a device, pipe or socket; results go into files", str(path))
    if not overwrite and os.path.lexists(path):
        raise taken(path)
    there = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    limit = os.pathconf(there, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    for part in path.absolute().relative_to(there).parts:
        if len(os.fsencode(part)) > limit:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
    if not os.access(there, os.W_OK | os.X_OK):
        reason = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(reason, os.strerror(reason), str(path))


def check_folder(path: str | Path) -> None:
    """Refuse a folder that could not be made and filled.

    Raises:
        FileExistsError: it is a file, or holds something.
        OSError: it cannot be made or written there.
    """
    path = Path(path)
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(errno.EEXIST, "exists and is not an empty folder; give another name", str(path))
    if path.is_dir():
        check_target(path / "config.json", overwrite=True)
    else:
        check_target(path)


def check_source(path: str | Path) -> Path:
    """Refuse to read what is no file: a device such as /dev/zero gives bytes without an end. Pipes may be read.

    Raises:
        FileNotFoundError: there is nothing.
        OSError: it is a folder or a device.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.is_char_device() or path.is_block_device():
        raise OSError(errno.EINVAL, "is a device; a file is meant", str(path))
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return path


def check_targets(paths: Iterable[str | Path], overwrite: bool = False) -> None:
    """:func:`check_target` for each of them."""
    for path in paths:
        check_target(path, overwrite)


def taken(path: Path) -> FileExistsError:
    """The error of a file that would be replaced."""
    return FileExistsError(errno.EEXIST, "exists already, and nothing is replaced unasked; give another name, or "
                           "--overwrite (overwrite=True in Python)", str(path))


@contextmanager
def space_told(path: Path, size: int | None = None, partial: Path | None = None) -> Iterator[None]:
    """Turns the failure of the block on a full disk into :class:`NoSpace`.

    Args:
        path: what is written, for the message.
        size: bytes that it needs, where they are known.
        partial: a file or folder that is being written: what it has already counts as space that was found.
    """
    try:
        yield
    except NoSpace:
        raise
    except Exception as error:
        free = free_space(path)
        if not is_full(error, free):
            raise
        found = free + (0 if partial is None else written(partial))
        needed = "more than that is" if size is None else f"{human(size)} are"
        raise NoSpace(errno.ENOSPC, f"{path} was not written: the disk is full. {human(found)} were free, "
                      f"{needed} needed; make room, or choose another disk") from error


def check_space(path: Path, needed: int) -> None:
    """Refuse to begin long work whose first result would not fit the disk.

    Raises:
        NoSpace: fewer than ``needed`` bytes are free.
    """
    free = free_space(path)
    if free < needed:
        raise NoSpace(errno.ENOSPC, f"{path}: the disk is full. {human(free)} are free, {human(needed)} are needed; "
                      "make room, or choose another disk")


def is_full(error: BaseException, free: int | None) -> bool:
    """Whether a failed write means a full disk, of which ``free`` bytes are left."""
    if isinstance(error, OSError) and error.errno:
        return error.errno in FULL
    if "os error 28" in str(error) or "No space left" in str(error):  # safetensors
        return True
    return isinstance(error, OSError | RuntimeError) and free < NEARLY_NOTHING


def free_space(path: Path) -> int:
    """Bytes that are free where a file or folder is, or will be."""
    path = path.absolute()
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    return shutil.disk_usage(there).free


def written(partial: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [partial] if partial.is_file() else partial.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def human(size: int) -> str:
    """A number of bytes for people."""
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= one:
            return f"{size / one:.1f} {unit}"
    return f"{size} bytes"


@contextmanager
def saving_into(folder: str | Path, name: Path | None = None, size: int | None = None) -> Iterator[None]:
    """Lets a block save models into a folder: a full disk is :class:`NoSpace`, and weights get the permissions that new
    files have, where safetensors makes them for their owner alone. What was there before keeps its own.

    Args:
        folder: a temporary one, if it is to get the name ``name``.
        name: of the folder, for messages.
        size: bytes that it will have, where they are known.
    """
    folder = Path(folder)
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*.safetensors")}
    with space_told(name or folder, size, None if name is None else folder):
        yield
    mode = 0o666 & ~current_umask()
    for file in folder.rglob("*.safetensors"):
        told = file.stat()
        if told.st_mode & 0o777 == 0o600 and told.st_mtime_ns != before.get(file):
            file.chmod(mode)


def current_umask() -> int:
    """The permissions that this process takes from new files."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("Umask")).split()[1], 8)
    mask = os.umask(0o022)  # can be read by setting it alone; other threads see it for a moment
    os.umask(mask)
    return mask
