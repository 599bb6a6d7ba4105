"""Official checkpoints: read safely, rename, load strictly.

``Model.from_original(path)`` is ``read_state`` (safetensors, or torch's restricted unpickler), then the family's pure
function ``convert_state_dict``, then ``load_strict``. There is no unsafe fallback, and nothing is ignored in silence:
keys that are left out on purpose stand in the family's ``DROPPED_KEYS``.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

State = dict[str, Tensor]
WEIGHT_NORM = ((r"\.weight_g$", ".parametrizations.weight.original0"),
               (r"\.weight_v$", ".parametrizations.weight.original1"))
"""Rules of :func:`rename_keys` from the names of torch's old weight normalisation to those of the new one."""
SAFE_GLOBALS = (argparse.Namespace,)
"""Classes a checkpoint may hold beside tensors: many keep their training arguments, which are only attributes."""
SHOWN = 5
"""Differing keys of each kind that an error message names."""


def read_state(source: str | Path | Mapping[str, Any], containers: Iterable[str] = ()) -> State:
    """The named tensors of a checkpoint.

    Args:
        source: a ``.safetensors`` file, a torch file, or what such a file holds.
        containers: places of the weights in a nested file, tried in order ("model_ema", "trainer.unitok");
            a file that has none of them is taken to hold the weights themselves.

    Raises:
        ValueError: the file is missing, damaged, holds more than tensors and plain values, or no tensors.
    """
    content = source if isinstance(source, Mapping) else _read_file(Path(source))
    for name in containers:
        inner = _descend(content, name.split("."))
        if inner is not None:
            content = inner
            break
    others = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if others or not content:
        found = ", ".join(map(str, others[:SHOWN])) or "nothing"
        raise ValueError(f"expected a table of named tensors at {' or '.join(containers) or 'the top'} "
                         f"of the checkpoint, found {found}")
    return dict(content)


def _read_file(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ValueError(f"no such checkpoint file: {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(list(SAFE_GLOBALS)):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} was refused: it is damaged or holds more than tensors and plain values "
                         f"({reason})") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a table of tensors")
    return content


def _descend(content: Mapping[str, Any], names: list[str]) -> Mapping[str, Any] | None:
    for name in names:
        content = content.get(name) if isinstance(content, Mapping) else None
    return content if isinstance(content, Mapping) else None


def rename_keys(state: Mapping[str, Tensor], rules: Iterable[tuple[str, str | Callable[[re.Match], str]]]) -> State:
    """A copy of ``state`` whose keys went through all (pattern, replacement) rules of ``re.sub``, in order.

    Raises:
        ValueError: two keys became one.
    """
    rules = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    renamed: State = {}
    for key, value in state.items():
        new = key
        for pattern, replacement in rules:
            new = pattern.sub(replacement, new)
        if new in renamed:
            raise ValueError(f"two keys of the checkpoint became {new!r}; one of them is {key!r}")
        renamed[new] = value
    return renamed


def fold_weight_norm(state: Mapping[str, Tensor]) -> State:
    """A copy of ``state`` where pairs ``weight_g``, ``weight_v`` of weight normalisation are the ``weight`` they make.

    Raises:
        ValueError: one of a pair is missing.
    """
    folded: State = {}
    for key, value in state.items():
        stem, _, name = key.rpartition(".")
        if name not in ("weight_g", "weight_v"):
            folded[key] = value
            continue
        other = f"{stem}.weight_{'v' if name == 'weight_g' else 'g'}"
        if other not in state:
            raise ValueError(f"the checkpoint holds {key!r} without {other!r}")
        if name == "weight_g":
            folded[f"{stem}.weight"] = torch._weight_norm(state[other], value, 0)
    return folded


def load_strict(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy ``state`` into ``model``, which must have exactly its keys and shapes.

    Raises:
        ValueError: keys or shapes differ (the first of each kind are named), or a value is not finite.
    """
    own = model.state_dict()
    shapes = [f"{key} {tuple(state[key].shape)}, the model has {tuple(value.shape)}"
              for key, value in own.items() if key in state and state[key].shape != value.shape]
    problems = {"missing": [f"{key} {tuple(value.shape)}" for key, value in own.items() if key not in state],
                "unexpected": [f"{key} {tuple(value.shape)}" for key, value in state.items() if key not in own],
                "of another shape": shapes}
    lines = [f"{len(found)} {kind}: {'; '.join(found[:SHOWN])}" for kind, found in problems.items() if found]
    if lines:
        raise ValueError(f"the checkpoint does not fit {type(model).__name__}: {'. '.join(lines)}. "
                         "Is it the right file, and the right config?")
    broken = [key for key, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f"{len(broken)} tensors hold NaN or infinite values: {'; '.join(broken[:SHOWN])}")
    model.load_state_dict(state, strict=True)


class OriginalCheckpoint:
    """Mixin of models that load official checkpoints.

    Attributes:
        CONTAINERS: where the weights lie in nested files, tried in order; see :func:`read_state`.
        DROPPED_KEYS: shell patterns of official keys that are left out on purpose.
    """

    CONTAINERS: ClassVar[tuple[str, ...]] = ()
    DROPPED_KEYS: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours: a pure function; the default changes nothing."""
        return dict(state)

    @classmethod
    def from_original(cls, source: str | Path | Mapping[str, Any], **config: Any) -> Self:
        """The model with the weights of an official checkpoint, in eval mode.

        Args:
            source: a ``.safetensors`` or torch file, or its content.
            **config: arguments of the constructor; the defaults are the published sizes where there is one.

        Raises:
            ValueError: the file is refused (see :func:`read_state`) or does not fit (see :func:`load_strict`).
        """
        kept, _ = cls.split_dropped(read_state(source, cls.CONTAINERS))
        model = cls(**config)
        load_strict(model, cls.convert_state_dict(kept))
        return model.eval()

    @classmethod
    def split_dropped(cls, state: State) -> tuple[State, State]:
        """Official tensors that are loaded, and those that are left out on purpose."""
        dropped = {key for key in state if any(fnmatchcase(key, pattern) for pattern in cls.DROPPED_KEYS)}
        return ({key: value for key, value in state.items() if key not in dropped},
                {key: value for key, value in state.items() if key in dropped})

    @classmethod
    def conversion(cls, state: State) -> dict[str, list[str]]:
        """What :meth:`from_original` does with the keys of official tensors.

        Returns:
            ``same``: keys that stay; ``renamed``: those that change, are split or joined; ``dropped``: those left out
            on purpose; ``made``: our keys that the official file does not have.
        """
        kept, dropped = cls.split_dropped(state)
        ours = cls.convert_state_dict(kept)
        return {"same": sorted(set(kept) & set(ours)), "renamed": sorted(set(kept) - set(ours)),
                "dropped": sorted(dropped), "made": sorted(set(ours) - set(kept))}
