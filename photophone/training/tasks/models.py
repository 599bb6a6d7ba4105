"""Which models a training config can name: a closed table of families, and the models of the registry."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from photophone.core.model import Model
from photophone.loading.registry import find, training_families
from photophone.loading.saved import saved_class

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
        init_from: folder of a saved model to start from; ``settings`` then replace parts of its config.
        sizes: arguments that follow from tokenizer and data; those that the class has and ``settings`` do not give.

    Raises:
        ValueError: as in :func:`choose_class`, settings that the class refuses, or that contradict ``sizes``.
        TypeError: an argument that the class does not have.
    """
    sizes = sizes or {}
    if init_from is not None:
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
