"""LoRAs (arXiv 2106.09685) in files as peft writes them: added to the weights that they are for, or alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from photophone.core.files import atomic_write
from photophone.loading.names import ADAPTERS

PEFT = "base_model.model."
"""What peft writes in front of the names of the model."""


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


def write_adapter(folder: str | Path, pairs: Mapping[str, Tensor], *, rank: int, alpha: float,
                  targets: Sequence[str], dropout: float = 0.0, base: str | None = None) -> None:
    """Write a LoRA as peft does: ``adapter_model.safetensors`` and ``adapter_config.json``.

    Args:
        folder: to write.
        pairs: ``X.lora_A.weight`` and ``X.lora_B.weight`` by the official names X of layers.
        rank, alpha, dropout: of the LoRA.
        targets: last parts of the names of its layers.
        base: where the model is, that it was made for.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {f"{PEFT}{name}": value.detach().cpu().contiguous().clone() for name, value in pairs.items()}
    settings = {"peft_type": "LORA", "task_type": None, "base_model_name_or_path": base, "r": rank,
                "lora_alpha": alpha, "lora_dropout": dropout, "target_modules": list(targets), "bias": "none",
                "fan_in_fan_out": False, "inference_mode": True, "modules_to_save": None}
    with atomic_write(folder / ADAPTERS[0]) as partial:
        save_file(state, partial, metadata={"format": "pt"})
    with atomic_write(folder / "adapter_config.json") as partial:
        partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
