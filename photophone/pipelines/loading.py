"""Parts of pipelines by name: what the command line and the demo load tokenizers and codecs with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from photophone.codecs.base import AudioCodec
from photophone.files import is_saved_model
from photophone.hub import find_checkpoint
from photophone.model import Model
from photophone.pipelines.text_to_image import TextToImagePipeline
from photophone.pipelines.text_to_speech import TextToSpeechPipeline
from photophone.registry import PRETRAINED, REGISTRY, ModelEntry, create_model, find, load_original
from photophone.saved import open_saved
from photophone.tokenizers.base import ImageTokenizer


def load_tokenizer(model: str, weights: str | None = None, device: str = "cpu") -> ImageTokenizer:
    """An image tokenizer on a device.

    Args:
        model: registered tokenizer, built-in or saved pipeline of images, or saved tokenizer.
        weights: checkpoint of a registered tokenizer; None for its own hub id.
        device: of torch.

    Raises:
        ValueError: the model is none, or its weights cannot be found.
    """
    entry = check_part(model, weights, device)
    if is_pipeline(model, entry):
        return TextToImagePipeline.from_pretrained(model).image_tokenizer.to(device)
    if entry is None:
        return open_part(Path(model), ImageTokenizer).to(device)
    if not issubclass(entry.load_class(), ImageTokenizer):
        own = f"; its tokenizer is {entry.chain.tokenizer}" if entry.chain else ""
        raise ValueError(f"{model} is no image tokenizer{own}")
    return load_original(model, find_checkpoint(entry, weights)[0]).to(device)


def load_codec(model: str, weights: str | None = None, device: str = "cpu", config: str | None = None,
               random: bool = False) -> AudioCodec:
    """A codec on a device, in eval mode.

    Args:
        model: registered codec, built-in or saved pipeline of speech, or saved codec.
        weights: checkpoint of a registered name; None for its own hub id.
        device: of torch.
        config: JSON of settings, or a file with it.
        random: build a registered name with random weights.

    Raises:
        ValueError: the model is no codec, or its weights cannot be found.
    """
    entry = check_part(model, weights, device)
    if is_pipeline(model, entry):
        if entry is not None and not issubclass(entry.load_class(), TextToSpeechPipeline):
            raise ValueError(f"{model} has no codec")
        return TextToSpeechPipeline.from_pretrained(model).codec.to(device).eval()
    if entry is None:
        return open_part(Path(model), AudioCodec).to(device)
    family = entry.load_class() if entry.kind == "codec" else None
    if family is None or not issubclass(family, AudioCodec):
        raise ValueError(f"{model} is a {entry.kind.replace('_', ' ')}, no codec")
    if entry.folder is not None:
        codec = family.from_pretrained(PRETRAINED / entry.folder).to(device).eval()
        codec.register_to_config(_name_or_path=model)  # else the folder, which means nothing elsewhere
        return codec
    settings = read_object(config)
    if random or not family.needs_weights:
        return create_model(model, **settings).to(device).eval()
    return load_original(model, find_checkpoint(entry, weights)[0], **settings).to(device).eval()


class AutoCodec:
    """Any codec by its name, as in transformers: the class is found in the registry or in the saved config."""

    @staticmethod
    def from_pretrained(model: str, *, device: str = "cpu") -> AudioCodec:
        """A codec in eval mode.

        Args:
            model: registered codec, whose weights come from its own hub id; built-in or saved pipeline of speech; or
                saved codec.
            device: of torch.

        Raises:
            ValueError: the model is no codec, or its weights cannot be found.
        """
        return load_codec(str(model), device=device)

    @staticmethod
    def from_original(name: str, source: str | Path, *, device: str = "cpu", **config: Any) -> AudioCodec:
        """A registered codec with the weights of its official checkpoint, in eval mode.

        Args:
            name: of the registry.
            source: the official file.
            device: of torch.
            **config: settings that differ from the entry's.

        Raises:
            ValueError: an unknown name, one that is no codec, or a file that does not fit.
        """
        entry = find(name)
        if entry.kind != "codec":
            raise ValueError(f"{name} is a {entry.kind.replace('_', ' ')}, no codec")
        return load_original(name, source, **config).to(device).eval()


def check_part(model: str, weights: str | None, device: str) -> ModelEntry | None:
    """The registry's entry of ``model``, None for a folder.

    Raises:
        ValueError: an unknown name, a device that cannot be used, or weights for what brings its own.
    """
    check_device(device)
    entry, folder = REGISTRY.get(model), Path(model)
    if entry is None and not is_saved_model(folder) and not (folder / "model_index.json").is_file():
        find(model)  # raises, and names the nearest
    if weights is not None and (entry is None or entry.folder is not None):
        raise ValueError(f"{model} brings its weights; weights are given for registered models only")
    return entry


def is_pipeline(model: str, entry: ModelEntry | None) -> bool:
    """Whether a known model is a pipeline, of which a part is wanted."""
    return (Path(model) / "model_index.json").is_file() if entry is None else entry.kind == "pipeline"


def open_part(folder: Path, kind: type[Model]) -> Any:
    """A model of one kind that was saved to a folder; its class must be registered or public, and of that kind.

    Raises:
        ValueError: the folder holds something else.
    """
    family = registered_class(folder)
    if family is None or not issubclass(family, kind):
        return open_saved(folder, kind)  # a public one, or an error that says what it is
    return family.from_pretrained(folder).eval()


def registered_class(folder: Path) -> type | None:
    """The registered class that the config of a saved model names, or None."""
    name = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("_class_name")
    entries = [entry for entry in REGISTRY.values() if entry.target.endswith(f":{name}")]
    return entries[0].load_class() if entries else None


def read_object(text: str | None) -> dict:
    """A JSON object, or the file that holds it.

    Raises:
        ValueError: it is neither.
    """
    if text is None:
        return {}
    source = text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8")
    try:
        value = json.loads(source)
    except ValueError as error:
        raise ValueError(f"--config is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"--config must be a JSON object, got {source[:40]!r}")
    return value


def check_device(device: str) -> None:
    """Raise ValueError for a device that torch does not know or have."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error
