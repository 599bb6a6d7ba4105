"""Names of models and weights: paper, licences, hub id, files, and our class.

The entries are data, in one module a group of families. A class is named by its place inside photophone, never by what
a file says; names are stable, lower case, ``family-size-variant``. Built-in pipelines are named ``photophone/...`` and
lie inside the package.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from photophone.files import is_saved_model
from photophone.registry import audio_codecs, cosyvoice, enhancement, images, speech, unit_codecs, voxcpm
from photophone.registry.entry import KINDS, Chain, ModelEntry

__all__ = ["KINDS", "PRETRAINED", "REGISTRY", "Chain", "ModelEntry", "builtin_folder", "create_model", "find",
           "list_models", "load_original"]

PRETRAINED = Path(__file__).parent.parent / "pretrained"
FAMILIES = (images, speech, audio_codecs, voxcpm, enhancement, unit_codecs, cosyvoice)
REGISTRY: dict[str, ModelEntry] = {entry.name: entry for family in FAMILIES for entry in family.ENTRIES}


def find(name: str) -> ModelEntry:
    """The entry of ``name``.

    Raises:
        ValueError: an unknown name; the message gives the nearest known ones.
    """
    if name not in REGISTRY:
        near = difflib.get_close_matches(name, REGISTRY, n=3, cutoff=0.4) or sorted(REGISTRY)
        raise ValueError(f"unknown model {name!r}; did you mean {', '.join(near)}? `photophone models` lists all")
    return REGISTRY[name]


def list_models(kind: str | None = None) -> list[ModelEntry]:
    """All entries, or those of one kind, in the order of the registry."""
    return [entry for entry in REGISTRY.values() if kind in (None, entry.kind)]


def create_model(name: str, **overrides: Any):
    """Build a registered model with random weights; ``overrides`` replace settings of its config."""
    entry = find(name)
    if entry.kind == "pipeline":
        raise ValueError(f"{name} is a pipeline; load it with from_pretrained")
    return entry.load_class()(**{**entry.config, **overrides})


def load_original(name: str, source: Any, **overrides: Any):
    """A registered model with the weights of its official checkpoint, in eval mode.

    Args:
        name: of the registry.
        source: the official file; see :meth:`photophone.checkpoints.OriginalCheckpoint.from_original`. Or a folder
            that the model was saved to.
        **overrides: replace settings of the entry's config.

    Raises:
        ValueError: an unknown name, a model that has no official checkpoints, or a file that does not fit.
    """
    entry = find(name)
    model_class = entry.load_class()
    if isinstance(source, str | Path) and is_saved_model(source):
        return model_class.from_pretrained(source, **overrides)
    if not hasattr(model_class, "from_original"):
        raise ValueError(f"{name} has no official checkpoints: {entry.weights_licence}")
    return model_class.from_original(source, **{**entry.config, **overrides})


def builtin_folder(name: str) -> Path | None:
    """Folder of built-in weights, or None when ``name`` is not a built-in.

    Raises:
        ValueError: a name that starts with ``photophone/`` but is not known, or whose files are missing.
    """
    if not name.startswith("photophone/"):
        return None
    folder = PRETRAINED / find(name).folder
    if not (folder / "model_index.json").exists():
        raise ValueError(f"the built-in weights of {name} are missing in {folder}; reinstall photophone")
    return folder
