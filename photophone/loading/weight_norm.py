"""Weight normalisation under its old and its new names, and folded into one weight: each read where another is wanted.

A layer with weight normalisation has a length g and a direction v, and computes with g v / |v|. Torch called them
``weight_g`` and ``weight_v``, and calls them ``parametrizations.weight.original0`` and ``1`` since version 2.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]
OLD = (".weight_g", ".weight_v")
NEW = (".parametrizations.weight.original0", ".parametrizations.weight.original1")
WEIGHT_NORM = tuple((rf"{re.escape(old)}$", new) for old, new in zip(OLD, NEW))
"""Rules of :func:`photophone.loading.checkpoints.rename_keys` from the old names to the new ones."""


def old_names(state: Mapping[str, Tensor]) -> State:
    """A copy of ``state`` with the old names of weight normalisation, which families' rules of renaming know."""
    renamed = {}
    for key, value in state.items():
        for new, old in zip(NEW, OLD):
            key = key.removesuffix(new) + old if key.endswith(new) else key  # noqa: PLW2901
        renamed[key] = value
    return renamed


def folded(length: Tensor, direction: Tensor) -> Tensor:
    """The weight of a length (one per row, in a shape that fits) and a direction."""
    if direction.is_meta:  # an attempt with shapes alone: torch computes those of a norm slowly
        return torch.empty_like(direction)
    if length.ndim == direction.ndim:
        rows = [axis for axis in range(length.ndim) if length.shape[axis] == direction.shape[axis]
                and all(size == 1 for place, size in enumerate(length.shape) if place != axis)]
        if rows:
            return torch._weight_norm(direction, length, rows[0])
    return direction * (length / direction.norm())  # one length for the whole weight


def split(weight: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Length, of the given shape, and direction of a folded weight; rows of zeros get any direction."""
    axes = [axis for axis in range(weight.ndim) if len(shape) != weight.ndim or shape[axis] == 1]
    length = weight.float().pow(2).sum(axes, keepdim=True).sqrt()
    direction = torch.where(length == 0, torch.ones_like(weight), weight)
    return length.reshape(shape).to(weight.dtype), direction


def fold_weight_norm(state: Mapping[str, Tensor]) -> State:
    """A copy of ``state`` where pairs ``weight_g``, ``weight_v`` of weight normalisation are the ``weight`` they make.

    Raises:
        ValueError: one of a pair is missing.
    """
    made: State = {}
    for key, value in state.items():
        stem, _, name = key.rpartition(".")
        if name not in ("weight_g", "weight_v"):
            made[key] = value
            continue
        other = f"{stem}.weight_{'v' if name == 'weight_g' else 'g'}"
        if other not in state:
            raise ValueError(f"the checkpoint holds {key!r} without {other!r}")
        if name == "weight_g":
            made[f"{stem}.weight"] = folded(value, state[other])
    return made


def as_wanted(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    """``state`` with each weight normalisation in the form that a model has.

    Args:
        state: our keys, but for weight normalisation.
        own: the model's state.

    Returns:
        The state, and what was done, in words.

    Raises:
        ValueError: one of a pair is missing.
    """
    state, counts = dict(state), {"folded": 0, "split": 0, "renamed": 0}
    for lengths, directions in (OLD, NEW):
        for key in [key for key in state if key.endswith(lengths) and key not in own]:
            stem = key.removesuffix(lengths)
            if stem + directions not in state:
                raise ValueError(f"the checkpoint holds {key!r} without {stem + directions!r}")
            length, direction = state.pop(key), state.pop(stem + directions)
            wanted = next((names for names in (OLD, NEW) if stem + names[0] in own), None)
            if wanted:
                counts["renamed"] += 1
                state |= {stem + wanted[0]: length, stem + wanted[1]: direction}
            else:
                counts["folded"] += 1
                state[f"{stem}.weight"] = folded(length, direction)
    for lengths, directions in (OLD, NEW):
        for key in [key for key in own if key.endswith(lengths) and key not in state]:
            stem = key.removesuffix(lengths)
            weight = state.get(f"{stem}.weight")
            if weight is None or f"{stem}.weight" in own or weight.shape != own[stem + directions].shape:
                continue
            counts["split"] += 1
            del state[f"{stem}.weight"]
            state[key], state[stem + directions] = split(weight, own[key].shape)
    words = {"folded": "weight norms folded into one weight", "split": "folded weights split into length and direction"}
    return state, [f"{counts[kind]} {text}" for kind, text in words.items() if counts[kind]]
