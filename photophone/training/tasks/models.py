"""Which models a training config can name or start from: families, models of the registry, official checkpoints."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from photophone.core.model import Model
from photophone.loading.chains import read_config, settings_of
from photophone.loading.hub import find_checkpoint
from photophone.loading.registry import REGISTRY, find, load_original, training_families
from photophone.loading.saved import is_saved_model, saved_class

TOKENIZERS = training_families("image_tokenizer")
"""Targets of image tokenizers, by the names that ``model.family`` may have."""
GENERATORS = training_families("generator")
"""The same of generators."""


def choose_class(settings: dict[str, Any], families: dict[str, str], default: str) -> tuple[type[Model],
                                                                                            dict[str, Any]]:
    """The class that ``model`` settings of a config name, and the arguments for it.

    Args:
        settings: ``name``, a model of the registry, whose config then holds beneath the rest; or ``family``, a key of
            ``families``; the rest are arguments of the class.
        families: TOKENIZERS or GENERATORS.
        default: the family when neither is given.

    Raises:
        ValueError: an unknown name or family, both at once, or a model of another kind.
    """
    arguments = dict(settings)
    name, family = arguments.pop("name", None), arguments.pop("family", None)
    if name is not None and family is not None:
        raise ValueError(f"model: give a name of the registry or a family, not both ({name!r} and {family!r})")
    if name is not None:
        entry = find(str(name))
        if entry.target not in families.values():
            raise ValueError(f"model: {name} is a {entry.kind.replace('_', ' ')} that this script does not train; it "
                             f"trains {', '.join(families)}")
        return entry.load_class(), {**entry.config, **arguments}
    family = default if family is None else family
    if family not in families:
        raise ValueError(f"model: unknown family {family!r}; known are {', '.join(families)}")
    module, _, class_name = families[family].partition(":")
    return getattr(importlib.import_module(module), class_name), arguments


def build_model(settings: dict[str, Any], families: dict[str, str], default: str, *,
                init_from: str | Path | None = None, sizes: dict[str, Any] | None = None) -> Model:
    """A model to train.

    Args:
        settings, families, default: see :func:`choose_class`.
        init_from: what to start from: folder of a saved model, or an official checkpoint, see
            :func:`official_source`; ``settings`` then replace parts of its config.
        sizes: arguments that follow from tokenizer and data; those that the class has and ``settings`` do not give.

    Raises:
        ValueError: as in :func:`choose_class`, settings that the class refuses, or that contradict ``sizes``.
        TypeError: an argument that the class does not have.
    """
    sizes = sizes or {}
    if init_from is not None and not is_saved_model(init_from):
        model = load_official(settings, families, init_from)
    elif init_from is not None:
        model_class, arguments = saved_class(init_from, Model), dict(settings)
        named = {arguments.pop("family", None), arguments.pop("name", None)} - {None}
        if f"{model_class.__module__}:{model_class.__name__}" not in families.values() or named:
            raise ValueError(f"init_from {init_from} holds a {model_class.__name__}; leave family and name out, and "
                             f"start from one of {', '.join(families)}")
        model = model_class.from_pretrained(init_from, **arguments)
    else:
        model_class, arguments = choose_class(settings, families, default)
        known = model_class.config_keys() - settings.keys()
        arguments |= {key: value for key, value in sizes.items() if key in known}
        model = model_class(**arguments)
    for key, value in sizes.items():
        own = model.config.get(key, value)
        if (list(own) if isinstance(own, list | tuple) else own) != value:
            raise ValueError(f"model: {key} is {own!r}, but tokenizer and data have {value!r}")
    return model


def official_source(settings: dict[str, Any], init_from: str | Path) -> tuple[str, str | Path | None]:
    """What official checkpoint a config starts from.

    Args:
        settings: of the model; ``name`` says what a file, folder or hub id holds.
        init_from: an official file or folder or a hub id; or a name of the registry, for its hub id.

    Returns:
        Name of the registry, and where the checkpoint is (None: its hub id).

    Raises:
        ValueError: there is no name, or two that differ.
    """
    name, registered = settings.get("name"), str(init_from) in REGISTRY
    if registered and name in (None, init_from):
        return str(init_from), None
    if name is None or registered:
        raise ValueError(f"init_from {init_from} is no saved model (config.json and "
                         f"diffusion_pytorch_model.safetensors) and model.name is {name!r}; give one name of the "
                         "registry, such as model.name=voxcpm-0.5b for a published folder; `photophone models` lists "
                         "all")
    return str(name), init_from


def load_official(settings: dict[str, Any], families: dict[str, str], init_from: str | Path) -> Model:
    """A model with the weights of an official checkpoint; the config.json beside these says its sizes, if there is one.

    Raises:
        ValueError: no such checkpoint, or one of a model that this script does not train.
    """
    name, source = official_source(settings, init_from)
    arguments = {key: value for key, value in settings.items() if key != "name"}
    model_class, _ = choose_class({"name": name, **arguments}, families, name)
    path, _ = find_checkpoint(find(name), source)
    sizes = settings_of(name, read_config(path.parent)) if hasattr(model_class, "convert_config") else {}
    return load_original(name, path, **{**sizes, **arguments})
