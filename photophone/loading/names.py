"""Names that files of weights have: those of releases, and those that libraries and trainings give them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MAIN_FILES = ("model.safetensors", "model.safetensors.index.json", "diffusion_pytorch_model.safetensors",
              "diffusion_pytorch_model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
              "pytorch_model_fsdp.bin", "model.pt", "model.pth", "model.ckpt", "pytorch_model.pt")
"""Names under which libraries write the weights of a model, in the order in which they are looked for in a folder."""
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".th", ".tar")
ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin", "lora_weights.safetensors", "lora_weights.ckpt",
            "pytorch_lora_weights.safetensors")
"""Names of adapters, which are no weights of a whole model."""


def other_names(wanted: str) -> Iterator[str]:
    """Further names under which the weights of a release's file may lie, after trainings and conversions."""
    stem = Path(wanted).with_suffix("").as_posix()
    if wanted in MAIN_FILES:
        yield from (name for name in MAIN_FILES if name != wanted)
    yield from (f"{stem}{suffix}" for suffix in SUFFIXES)
    yield from (f"{stem}{suffix}.index.json" for suffix in (".safetensors", ".bin"))
