"""Models of ours that were saved to a folder: opened by the class that their config names, if it is a public one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from photophone.core.model import Model


def is_saved_model(path: str | Path) -> bool:
    """Whether ``path`` is a folder that a model of ours was saved to; official folders have other file names."""
    path = Path(path)
    return (path / "config.json").is_file() and any(path.glob("diffusion_pytorch_model*.safetensors"))


def saved_class(folder: str | Path, kind: type[Model]) -> type[Model]:
    """The class of a saved model.

    Args:
        folder: what ``save_pretrained`` wrote.
        kind: the base class that it must have.

    Raises:
        ValueError: no saved model, or one of another kind; a class that photophone does not have is never imported.
    """
    from photophone.core.weight_files import read_json_object
    from photophone.loading.registry import class_named

    folder = Path(folder)
    if not is_saved_model(folder):
        raise ValueError(f"{folder} holds no saved model (config.json and diffusion_pytorch_model.safetensors)")
    name = read_json_object(folder / "config.json").get("_class_name")
    if not isinstance(name, str):
        raise ValueError(f"{folder / 'config.json'} names no class: _class_name is {name!r:.60}")
    model_class = class_named(name)
    if model_class is None or not issubclass(model_class, kind):
        raise ValueError(f"{folder} holds a {name!r}, not an {kind.__name__} of photophone")
    return model_class


def open_saved(folder: str | Path, kind: type[Model], **overrides: Any) -> Model:
    """A saved model in eval mode; ``overrides`` replace settings of its config. Errors as in :func:`saved_class`."""
    return saved_class(folder, kind).from_pretrained(folder, **overrides).eval()
