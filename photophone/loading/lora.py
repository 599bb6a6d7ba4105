"""Weights with what a LoRA (arXiv 2106.09685) adds to them, in files that hold both as peft writes them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def merge_lora(state: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Weights with what a LoRA adds, without its keys and without peft's ``base_layer`` in the names of others.

    Args:
        state: with ``X.base_layer.weight`` or ``X.weight``, ``X.lora_A.default.weight`` (or without "default") and
            ``lora_B``.
        scale: of the LoRA, its alpha over its rank.
    """
    made = {}
    for key, value in state.items():
        if ".lora_" in key:
            continue
        name = key.replace(".base_layer.", ".")
        stem = name.removesuffix(".weight")
        down, up = (next((state[each] for each in (f"{stem}.lora_{half}.default.weight", f"{stem}.lora_{half}.weight")
                          if each in state), None) for half in "AB")
        made[name] = value if down is None or up is None else value + scale * (up @ down).to(value)
    return made
