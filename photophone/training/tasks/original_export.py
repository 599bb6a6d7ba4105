"""A published folder with one file of weights replaced: what pipelines load by ``from_original``."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INDEX = ".index.json"


@dataclass(frozen=True)
class Release:
    """A published folder, and the weights in it that are trained.

    Args:
        folder: of the release.
        weights: file of the weights in it, or the index of its shards.
    """

    folder: Path
    weights: Path

    @property
    def file(self) -> Path:
        """Place in the folder of the file that stands for the weights."""
        place = self.weights.relative_to(self.folder)
        return place.with_name(place.name.removesuffix(INDEX))

    def write(self, model: Any, target: Path) -> None:
        """Write the weights of a model where those of the release were, and put all other files beside them.

        The others are hard links where the disk allows it, as releases are large, else copies.

        Args:
            model: :class:`photophone.loading.checkpoints.OriginalCheckpoint` of that kind.
            target: folder to write.
        """
        model.save_original(target, str(self.file))
        stem, suffix = re.escape(self.file.with_suffix("").as_posix()), re.escape(self.file.suffix)
        replaced = re.compile(rf"{stem}(-\d+-of-\d+)?{suffix}({re.escape(INDEX)})?")
        for path in sorted(self.folder.rglob("*")):
            place = path.relative_to(self.folder)
            if any(part.startswith(".") for part in place.parts) or replaced.fullmatch(place.as_posix()):
                continue
            if path.is_file() and not target.resolve().is_relative_to(path.resolve().parent):
                link_or_copy(path.resolve(), target / place)


def link_or_copy(source: Path, target: Path) -> None:
    """The same file at another place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
