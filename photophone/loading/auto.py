"""Any tokenizer or codec by its name: registered, built in, or saved to a folder."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from photophone.core.weight_files import read_json_object
from photophone.loading.entry import ModelEntry
from photophone.loading.hub import find_checkpoint
from photophone.loading.registry import PRETRAINED, REGISTRY, class_named, create_model, find, load_original
from photophone.loading.saved import is_saved_model, open_saved

if TYPE_CHECKING:
    from photophone.core.model import Model

BASES = {"image_tokenizer": "photophone.tokenizers.base:ImageTokenizer", "codec": "photophone.codecs.base:AudioCodec"}
"""The contract of each kind."""
PARTS = {"image_tokenizer": ("TextToImagePipeline", "image_tokenizer"), "codec": ("TextToSpeechPipeline", "codec")}
"""The pipeline that has a part of each kind, and the part's name in it."""


def base_class(kind: str) -> type[Model]:
    """The contract of a kind."""
    module, _, name = BASES[kind].partition(":")
    return getattr(importlib.import_module(module), name)


def load_part(kind: str, model: str, weights: str | None = None, device: str = "cpu",
              settings: dict[str, Any] | None = None, random: bool = False) -> Any:
    """A tokenizer or codec on a device, in eval mode.

    Args:
        kind: "image_tokenizer" or "codec".
        model: registered name, built-in or saved pipeline that has one, or saved model; for codecs also a folder that
            an audio tokenizer of transformers was saved to.
        weights: checkpoint of a registered name; None for its own hub id.
        device: of torch.
        settings: replace those of the registry.
        random: build a registered name with random weights.

    Raises:
        ValueError: the model is of another kind, or its weights cannot be found.
    """
    check_device(device)
    entry = REGISTRY.get(model)
    folder = Path(model)
    words = kind.replace("_", " ")
    if entry is None and kind == "codec" and is_of_transformers(folder):
        return open_of_transformers(folder).to(device).eval()
    if entry is None and not is_saved_model(folder) and not (folder / "model_index.json").is_file():
        find(model)  # raises, and names the nearest
    if weights is not None and (entry is None or entry.folder is not None):
        raise ValueError(f"{model} brings its weights; weights are given for registered models only")
    if entry is None and is_saved_model(folder):
        return open_saved(folder, base_class(kind)).to(device)
    if entry is None or entry.kind == "pipeline":
        return _part_of_pipeline(kind, model, entry).to(device).eval()
    if entry.kind != kind:
        own = f"; its tokenizer is {entry.chain.tokenizer[1]}" if entry.chain else ""
        raise ValueError(f"{model} is a {entry.kind.replace('_', ' ')}, no {words}{own}")
    if entry.folder is not None:
        built_in = entry.load_class().from_pretrained(PRETRAINED / entry.folder)
        built_in.register_to_config(_name_or_path=model)  # else the folder, which means nothing elsewhere
        return built_in.to(device).eval()
    if random or not getattr(entry.load_class(), "needs_weights", True):
        return create_model(model, **(settings or {})).to(device).eval()
    return load_original(model, find_checkpoint(entry, weights)[0], **(settings or {})).to(device).eval()


def is_of_transformers(folder: Path) -> bool:
    """Whether a folder is what a model of transformers was saved to: its config names a ``model_type``."""
    config = folder / "config.json"
    return config.is_file() and not is_saved_model(folder) and "model_type" in read_json_object(config)


def open_of_transformers(folder: Path) -> Model:
    """The audio tokenizer in a folder of transformers, under our contract; see
    :class:`photophone.codecs.transformers_codec.model.TransformersCodec`."""
    return class_named("TransformersCodec").from_folder(folder)


def _part_of_pipeline(kind: str, model: str, entry: ModelEntry | None) -> Any:
    """The part of a built-in or saved pipeline, which must be of the class that has such a part."""
    pipeline, part = PARTS[kind]
    if entry is not None and entry.class_name != pipeline:
        raise ValueError(f"{model} has no {kind.replace('_', ' ')}")
    pipeline_class = getattr(importlib.import_module("photophone"), pipeline)
    return getattr(pipeline_class.from_pretrained(model), part)


class _Auto:
    """The class of a model is found in the registry or in the saved config."""

    kind: ClassVar[str]

    @classmethod
    def from_pretrained(cls, model: str, *, device: str = "cpu") -> Any:
        """A model in eval mode.

        Args:
            model: registered name, whose weights come from its own hub id; built-in or saved pipeline that has such a
                part; saved model; or, for codecs, a folder that transformers' ``save_pretrained`` wrote of a model that
                its ``AutoModelForAudioTokenization`` knows.
            device: of torch.

        Raises:
            ValueError: the model is of another kind, or its weights cannot be found.
        """
        return load_part(cls.kind, str(model), device=device)

    @classmethod
    def from_original(cls, name: str, source: str | Path, *, device: str = "cpu", **config: Any) -> Any:
        """A registered model with the weights of its official checkpoint, in eval mode.

        Args:
            name: of the registry.
            source: the official file.
            device: of torch.
            **config: settings that differ from the entry's.

        Raises:
            ValueError: an unknown name, one of another kind, or a file that does not fit.
        """
        entry = find(name)
        if entry.kind != cls.kind:
            raise ValueError(f"{name} is a {entry.kind.replace('_', ' ')}, no {cls.kind.replace('_', ' ')}")
        return load_original(name, source, **config).to(device).eval()


class AutoCodec(_Auto):
    """Any codec by its name, as in transformers."""

    kind = "codec"


class AutoImageTokenizer(_Auto):
    """Any image tokenizer by its name."""

    kind = "image_tokenizer"


def read_settings(text: str | None) -> dict[str, Any]:
    """A JSON object, or the file that holds it; nothing for None.

    Raises:
        ValueError: it is neither.
    """
    if text is None:
        return {}
    if not text.lstrip().startswith("{"):
        return read_json_object(text)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the settings are no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"the settings must be a JSON object, got {text[:40]!r}")
    return value


def check_device(device: str) -> None:
    """Raise ValueError for a device that torch does not know or have."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error
