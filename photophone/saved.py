"""Models of ours that were saved to a folder: opened by the class that their config names, if it is a public one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import photophone
from photophone.files import is_saved_model
from photophone.model import Model


def saved_class(folder: str | Path, kind: type[Model]) -> type[Model]:
    """The class of a saved model.

    Args:
        folder: what ``save_pretrained`` wrote.
        kind: the base class that it must have.

    Raises:
        ValueError: no saved model, or one of another kind; a class that photophone does not have is never imported.
    """
    folder = Path(folder)
    if not is_saved_model(folder):
        raise ValueError(f"{folder} holds no saved model (config.json and diffusion_pytorch_model.safetensors)")
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}/config.json names no class: {error}") from error
    family = getattr(photophone, name) if name in photophone.__all__ else None
    if not (isinstance(family, type) and issubclass(family, kind)):
        raise ValueError(f"{folder} holds a {name!r}, not an {kind.__name__} of photophone")
    return family


def open_saved(folder: str | Path, kind: type[Model], **overrides: Any) -> Model:
    """A saved model in eval mode; ``overrides`` replace settings of its config. Errors as in :func:`saved_class`."""
    return saved_class(folder, kind).from_pretrained(folder, **overrides).eval()
