"""Atomic training checkpoints that can be trusted: complete, of this model, of this run.

A checkpoint is a folder ``step-00001000`` with model.safetensors, ema.safetensors, optimizer.pt and state.json; the
last holds the step, the settings and the SHA-256 of the other files, so a truncated file is refused, not loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from photophone.core.files import saving_into

FORMAT = "photophone.checkpoint.1"
FILES = {"model.safetensors", "ema.safetensors", "optimizer.pt"}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous().clone() for name, tensor in state.items()}


def _bytes(content: Any) -> int:
    """Of all tensors in lists and dicts."""
    if isinstance(content, Tensor):
        return content.nbytes
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return sum(map(_bytes, parts))


def save_checkpoint(folder: Path, step: int, *, model: dict[str, Tensor], ema: dict[str, Tensor],
                    optimizers: list[dict], info: dict, keep: int = 2) -> Path:
    """Write ``folder/step-XXXXXXXX`` atomically and remove all but the ``keep`` newest.

    Args:
        step: optimizer steps done.
        model, ema: state dicts.
        optimizers: state dicts of the optimizers.
        info: JSON-able facts to check on resume (model class, settings).

    Raises:
        NoSpace: the disk is full; earlier checkpoints stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final, temporary = folder / f"step-{step:08d}", folder / f".step-{step:08d}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        with saving_into(temporary, final, _bytes([model, ema, optimizers])):
            save_file(_contiguous(model), temporary / "model.safetensors")
            save_file(_contiguous(ema), temporary / "ema.safetensors")
            torch.save(optimizers, temporary / "optimizer.pt")
            files = {path.name: _digest(path) for path in sorted(temporary.iterdir())}
            state = {"format": FORMAT, "step": step, "files": files, **info}
            (temporary / "state.json").write_text(json.dumps(state, indent=1))
    except BaseException:  # a full disk, or a signal
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)
    os.replace(temporary, final)
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints in ``folder``, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / "state.json").exists())


def load_checkpoint(path: Path, model_class: str) -> dict:
    """Read a checkpoint after checking it.

    Returns:
        dict with ``state`` (the JSON), ``model``, ``ema`` and ``optimizers``.

    Raises:
        ValueError: not a checkpoint, damaged, or of another model class.
    """
    try:
        state = json.loads((path / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a training checkpoint: {error}") from error
    if not isinstance(state, dict) or set(state.get("files", ())) != FILES:
        raise ValueError(f"{path} is not a training checkpoint: state.json does not list {', '.join(sorted(FILES))}")
    if state.get("format") != FORMAT:
        raise ValueError(f"{path} has format {state.get('format')!r}, this version reads {FORMAT!r}")
    if state.get("model_class") != model_class:
        raise ValueError(f"{path} is a checkpoint of {state.get('model_class')!r}, not of {model_class!r}")
    for name, digest in state["files"].items():
        if not (path / name).exists() or _digest(path / name) != digest:
            raise ValueError(f"{path / name} is missing or damaged (its SHA-256 differs from state.json); "
                             "remove the folder to resume from the checkpoint before it")
    return {"state": state, "model": load_file(path / "model.safetensors"), "ema": load_file(path / "ema.safetensors"),
            "optimizers": torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)}
