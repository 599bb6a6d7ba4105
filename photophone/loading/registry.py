"""Names of models and weights, derived from what the families say of themselves.

A family is a folder of ``tokenizers/``, ``codecs/`` or ``generators/`` whose ``__init__.py`` holds ``ENTRIES``. A class
is named by its place inside photophone, never by what a file says; names are stable, lower case,
``family-size-variant``. Built-in pipelines are named ``photophone/...`` and lie inside the package.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from photophone.loading.entry import ModelEntry
from photophone.loading.saved import is_saved_model

PRETRAINED = Path(__file__).parents[1] / "pretrained"
KIND_PACKAGES = ("photophone.tokenizers", "photophone.codecs", "photophone.generators")


def families() -> Iterator[ModuleType]:
    """The front pages of all families, by kind and name; importing them loads no torch."""
    for package in KIND_PACKAGES:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            if module.ispkg:
                yield importlib.import_module(f"{package}.{module.name}")


def _collect() -> dict[str, ModelEntry]:
    registry: dict[str, ModelEntry] = {}
    for family in families():
        for entry in family.ENTRIES:
            if entry.name in registry:
                raise ValueError(f"two families name a model {entry.name!r}; one of them is {family.__name__}")
            registry[entry.name] = entry
    return registry


REGISTRY = _collect()


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
    """All entries, or those of one kind, family by family."""
    return [entry for entry in REGISTRY.values() if kind in (None, entry.kind)]


def public_classes() -> dict[str, str]:
    """Module of each class that an entry names, or a family's ``CLASSES``: what has no published weights of its own."""
    targets = [entry.target for entry in REGISTRY.values() if entry.kind != "pipeline"]
    for family in families():
        targets += getattr(family, "CLASSES", {}).values()
    pairs = [target.split(":") for target in targets]
    return {name: module for module, name in pairs}


def class_named(name: str) -> type | None:
    """The public class of that name, or None: a name from a file never leads to an import outside photophone."""
    module = public_classes().get(name)
    return None if module is None else getattr(importlib.import_module(module), name)


def training_families(kind: str) -> dict[str, str]:
    """Targets of the classes of one kind by the names that ``model.family`` of a training config may have."""
    targets = {entry.training_name or entry.family: entry.target for entry in list_models(kind)}
    packages = {target.rpartition(":")[0].rpartition(".")[0] for target in targets.values()}
    for family in families():
        if family.__name__ in packages:
            targets |= getattr(family, "CLASSES", {})
    return targets


def create_model(name: str, **overrides: Any):
    """Build a registered model with random weights; ``overrides`` replace settings of its config."""
    entry = find(name)
    if entry.kind == "pipeline":
        raise ValueError(f"{name} is a pipeline; load it with from_pretrained")
    from photophone.core.config import build

    return build(entry.load_class(), {**entry.config, **overrides})


def load_original(name: str, source: Any, **overrides: Any):
    """A registered model with the weights of its official checkpoint, in eval mode.

    Args:
        name: of the registry.
        source: the official file; see :meth:`photophone.loading.checkpoints.OriginalCheckpoint.from_original`. Or a
            folder that the model was saved to.
        **overrides: replace settings of the entry's config; ``take`` says which weights of a file with several.

    Raises:
        ValueError: an unknown name, a model that has no official checkpoints, or a file that does not fit.
    """
    entry = find(name)
    model_class = entry.load_class()
    if isinstance(source, str | Path) and is_saved_model(source):
        return model_class.from_pretrained(source, **{key: value for key, value in overrides.items() if key != "take"})
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
