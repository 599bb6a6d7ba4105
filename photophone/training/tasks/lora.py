"""LoRA of a model whose official layout we write: it learns, and leaves as peft's adapter or merged.

The layers are ours, not peft's. peft replaces whole linear layers, and one pair of matrices for our joined queries,
keys and values is another model than a pair for each, which users of the official models have. The files are peft's.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from photophone.layers.lora import LoraLinear
from photophone.loading.lora import merge_lora

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class LoraSettings:
    """What ``task.lora`` of a config may hold.

    Args:
        rank: of the products, at least 1.
        alpha: they are scaled by ``alpha / rank``; above 0.
        targets: last parts of the authors' names of the linear layers that learn, as peft's ``target_modules``.
        dropout: share of their inputs that is left out in training, in [0, 1).

    Raises:
        ValueError: a number outside its range, or no targets.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] | list[str] = ATTENTION
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, fits, limit in (("rank", isinstance(self.rank, int) and self.rank >= 1, "a whole number from 1 on"),
                                  ("alpha", self.alpha > 0, "above 0"),
                                  ("dropout", 0 <= self.dropout < 1, "at least 0 and below 1"),
                                  ("targets", len(self.targets) > 0 and not isinstance(self.targets, str),
                                   "a list of names")):
            if not fits:
                raise ValueError(f"task.lora.{name} must be {limit}, got {getattr(self, name)!r}")


def official_parts(model: Any) -> dict[str, dict[str, tuple[int, int]]]:
    """The linear layers of a model, and which of the authors' layers their rows are.

    Args:
        model: has ``original_keys`` of :class:`photophone.loading.checkpoints.OriginalCheckpoint`.

    Returns:
        By our name of a layer: first row and rows of each part, by its official name.

    Raises:
        ValueError: a family that only reads official files.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    names = list(layers)
    numbered = {f"{name}.weight": torch.stack([torch.full((layer.out_features,), names.index(name)),
                                               torch.arange(layer.out_features)], dim=1)
                for name, layer in layers.items()}  # every row says where it is from
    parts: dict[str, dict[str, tuple[int, int]]] = {}
    for key, rows in model.original_keys(numbered).items():
        layer, first = rows[0].tolist()
        parts.setdefault(names[layer], {})[key.removesuffix(".weight")] = first, len(rows)
    return parts


def add_lora(model: Any, settings: LoraSettings) -> None:
    """Freeze a model and give the chosen layers a LoRA, in place.

    Raises:
        ValueError: a target that no linear layer of the model has, or a family that only reads official files.
    """
    layers = official_parts(model)
    names = [name for parts in layers.values() for name in parts]
    missing = [target for target in settings.targets if not any(f".{name}".endswith(f".{target}") for name in names)]
    if missing:
        known = sorted({name.rpartition(".")[2] for name in names if not name.rpartition(".")[2].isdigit()})
        raise ValueError(f"task.lora.targets: {type(model).__name__} has no linear layer {', '.join(missing)}; it has "
                         f"{', '.join(known)}")
    model.requires_grad_(False)
    for ours, parts in layers.items():
        chosen = {name: rows for name, rows in parts.items()
                  if any(f".{name}".endswith(f".{target}") for target in settings.targets)}
        if chosen:
            model.set_submodule(ours, LoraLinear(model.get_submodule(ours), chosen, settings.rank, settings.alpha,
                                                 settings.dropout))


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """The matrices of all LoRAs of a model, by official names."""
    return {name: value for layer in model.modules() if isinstance(layer, LoraLinear)
            for name, value in layer.pairs().items()}


def merged(model: Any, settings: LoraSettings) -> Any:
    """A copy of the model without LoRAs, which computes the same."""
    whole = copy.deepcopy(model)
    for name, layer in list(whole.named_modules()):
        if isinstance(layer, LoraLinear):
            whole.set_submodule(name, layer.base_layer)
    state = {**whole.original_keys(whole.state_dict()), **lora_state(model)}
    state, _ = whole.split_dropped(merge_lora(state, settings.alpha / settings.rank))
    whole.load_state_dict(whole.convert_state_dict(state), strict=True)
    return whole.requires_grad_(True)
