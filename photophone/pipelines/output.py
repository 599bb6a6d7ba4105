"""What outputs of pipelines share: media, what is needed to make them again, and files with a JSON beside each."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from photophone.core.files import atomic_write


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
    def write(self, row: int, file: Path) -> None:
        """Write the file of a row and the JSON beside it, both or none."""

    def save(self, path: str | Path) -> list[Path]:
        """Write a file for each row with a JSON of its settings beside it, atomically.

        Args:
            path: a file of one of ``SUFFIXES`` for one row, else a folder, which is made when it is missing.

        Returns:
            The files.

        Raises:
            ValueError: several rows for one file name.
        """
        files = target_files(path, self.names(), self.SUFFIXES, self.NOUN)
        for row, file in enumerate(files):
            self.write(row, file)
        return files


def target_files(path: str | Path, names: list[str], suffixes: tuple[str, ...], noun: str) -> list[Path]:
    """``path`` itself where its suffix is one of these and it is no folder, else a file of each name in that folder.

    Raises:
        ValueError: several names for one file.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes or path.is_dir():
        return [path / f"{name}{suffixes[0]}" for name in names]
    if len(names) != 1:
        raise ValueError(f"{len(names)} {noun} do not fit one file {path}; give a folder")
    return [path]


@contextmanager
def file_with_facts(path: str | Path, facts: dict[str, Any]) -> Iterator[Path]:
    """A partial file to write to; it and a JSON of ``facts`` beside it take their names only when the block ends
    without error. Facts may be added within the block."""
    path = Path(path)
    with atomic_write(path) as partial, atomic_write(path.with_suffix(".json")) as beside:
        yield partial
        beside.write_text(json_text(facts), encoding="utf-8")


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
