"""What outputs of pipelines share: media, what is needed to make them again, and files with a JSON beside each."""

from __future__ import annotations

import hashlib
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from photophone.core.files import atomic_write, check_targets

MARK = "sha256"
"""In the JSON beside a file: what the file was when it was made."""


@dataclass(kw_only=True)
class MediaOutput(ABC):
    """Media of several rows and what is needed to make them again.

    A subclass adds its media, tells their names and facts, and writes one row.

    Args:
        settings: the options of the call.
        model, revision, weights_licence: of the weights.
    """

    SUFFIXES: ClassVar[tuple[str, ...]]
    """Of the files; the first is taken for those in a folder."""
    NOUN: ClassVar[str]
    """What the rows are, for messages."""

    settings: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    revision: str | None = None
    weights_licence: str | None = None

    @property
    def origin(self) -> dict[str, str | None]:
        """Where the weights came from, for the JSON beside a file."""
        return {"model": self.model, "revision": self.revision, "weights_licence": self.weights_licence}

    @abstractmethod
    def names(self) -> list[str]:
        """A file name without suffix for each row, none of them twice."""

    @abstractmethod
    def facts(self, row: int) -> dict[str, Any]:
        """What the JSON beside the file of a row says."""

    @abstractmethod
    def write(self, row: int, file: Path, overwrite: bool) -> None:
        """Write the file of a row and the JSON beside it, both or none."""

    def save(self, path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write a file for each row with a JSON of its settings beside it, atomically.

        Args:
            path: a file of one of ``SUFFIXES``, which says the format, for one row; or a folder, which is made when it
                is missing: what is one, has no suffix, or ends in a slash.
            overwrite: whether files that are there may be replaced. Own results may be, without it, as long as nobody
                changed them.

        Returns:
            The files.

        Raises:
            ValueError: another suffix, or several rows for one file name.
            FileExistsError: one of the files, or a JSON beside it, is there, is no own result that nobody changed
                since, and ``overwrite`` is not set.
            OSError: they cannot be written there.
        """
        files = target_files(path, self.names(), self.SUFFIXES, self.NOUN, overwrite=overwrite)
        for row, file in enumerate(files):
            self.write(row, file, overwrite or is_own_result(file))
        return files


def target_files(path: str | Path, names: list[str], suffixes: tuple[str, ...], noun: str, *,
                 overwrite: bool = False) -> list[Path]:
    """``path`` itself where its suffix is one of these, else a file of each name in the folder ``path``.

    Args:
        path: a folder is what is one, has no suffix, or ends in a slash.
        names: of files in a folder, without suffix.
        suffixes: that are known; files in a folder have the first.
        noun: what the names stand for, for messages.
        overwrite: whether files that are there may be replaced, also the JSON that will lie beside each; own results
            may be.

    Raises:
        ValueError: another suffix, or several names for one file.
        FileExistsError: a file is there, and ``overwrite`` is not set.
        OSError: files cannot be written there.
    """
    if names_folder(path):
        files = [Path(path) / f"{name}{suffixes[0]}" for name in names]
    else:
        files = [check_suffix(path, suffixes)]
        if len(names) != 1:
            raise ValueError(f"{len(names)} {noun} do not fit one file {path}; give a folder")
    for file in files:
        check_targets((file, file.with_suffix(".json")), overwrite or is_own_result(file))
    return files


def is_own_result(file: Path) -> bool:
    """Whether a file and the JSON beside it are as :func:`file_with_facts` left them, so that a new result may replace
    them."""
    try:
        facts = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        return isinstance(facts, dict) and facts.get(MARK) == digest(file)
    except (OSError, ValueError):
        return False


def digest(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def names_folder(path: str | Path) -> bool:
    """Whether a place for results is a folder: it is one, has no suffix, or ends in a slash."""
    ends = tuple(mark for mark in (os.sep, os.altsep) if mark)
    return os.fspath(path).endswith(ends) or not Path(path).suffix or Path(path).is_dir()


def check_suffix(path: str | Path, suffixes: Iterable[str]) -> Path:
    """A file whose suffix is one of these.

    Raises:
        ValueError: it has another.
    """
    if Path(path).suffix.lower() not in suffixes:
        raise ValueError(f"cannot write {path}: the name must end in {', '.join(suffixes)}, or in / for a folder")
    return Path(path)


@contextmanager
def file_with_facts(path: str | Path, facts: dict[str, Any], *, overwrite: bool = False) -> Iterator[Path]:
    """A partial file to write to; it and a JSON of ``facts`` beside it take their names only when the block ends
    without error. Facts may be added within the block; the SHA-256 of the file is."""
    path = Path(path)
    with (atomic_write(path, overwrite=overwrite) as partial,
          atomic_write(path.with_suffix(".json"), overwrite=overwrite) as beside):
        yield partial
        beside.write_text(json_text({**facts, MARK: digest(partial)}), encoding="utf-8")


def json_text(facts: dict[str, Any]) -> str:
    """Facts as they are written beside files."""
    return json.dumps(facts, indent=1, ensure_ascii=False)


def unique_names(words: list[str], seeds: list[int], nameless: str) -> list[str]:
    """File names ``WORDS-SEED``, numbered where words differ in what a file name leaves out.

    Args:
        nameless: in the place of words without a letter or digit.
    """
    names: list[str] = []
    for text, seed in zip(words, seeds, strict=True):
        first = name = f"{slug(text) or nameless}-{seed}"
        count = 1
        while name in names:
            count += 1
            name = f"{first}-{count}"
        names.append(name)
    return names


def slug(text: str, limit: int = 40) -> str:
    """Letters and digits of a text joined by dashes; nothing where it has none."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].strip("-")
