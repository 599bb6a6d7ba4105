"""Atomic training checkpoints that can be trusted: complete, of this model, of this run.

A checkpoint is a folder ``step-00001000`` with model.safetensors, ema.safetensors, optimizer.pt and state.json. The
last holds the step, the settings, the SHA-256 of the other files and its own checksum, so that anything that was cut
short or changed is refused, not loaded. Folders of other names are never read nor removed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from photophone.core.files import atomic_folder, remove_folder, remove_left_overs

FORMAT = "photophone.checkpoint.2"
FILES = {"model.safetensors", "ema.safetensors", "optimizer.pt"}
NAME = re.compile(r"step-(\d{8,})")


class DamagedCheckpoint(ValueError):
    """A checkpoint that is incomplete, or holds something else than was written."""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_checksum(state: dict) -> str:
    """Of all that state.json holds beside the checksum itself."""
    rest = {key: value for key, value in state.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


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
    final = folder / f"step-{step:08d}"
    with atomic_folder(final, overwrite=True, size=_bytes([model, ema, optimizers])) as partial:
        save_file(_contiguous(model), partial / "model.safetensors")
        save_file(_contiguous(ema), partial / "ema.safetensors")
        torch.save(optimizers, partial / "optimizer.pt")
        files = {path.name: _digest(path) for path in sorted(partial.iterdir())}
        state = json.loads(json.dumps({"format": FORMAT, "step": step, "files": files, **info}))
        (partial / "state.json").write_text(json.dumps({**state, "checksum": state_checksum(state)}, indent=1))
    for old in list_checkpoints(folder)[:-keep]:
        remove_folder(old)
    return final


def remove_halves(folder: Path) -> None:
    """Remove what killed processes left in ``folder``: parts of files, and checkpoints without state.json.

    Only the one training that holds the run's folder may call this.
    """
    remove_left_overs(folder)
    for path in folder.glob("step-*"):
        if NAME.fullmatch(path.name) and path.is_dir() and not (path / "state.json").exists():
            shutil.rmtree(path)


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints in ``folder``, oldest first; folders of other names, such as copies, are none."""
    found = [path for path in folder.glob("step-*") if NAME.fullmatch(path.name) and (path / "state.json").exists()]
    return sorted(found, key=lambda path: int(NAME.fullmatch(path.name).group(1)))


def load_checkpoint(path: Path, model_class: str) -> dict:
    """Read a checkpoint after checking it.

    Returns:
        dict with ``state`` (the JSON), ``model``, ``ema`` and ``optimizers``.

    Raises:
        DamagedCheckpoint: incomplete, or changed since it was written.
        ValueError: of another version or model class.
    """
    state = _read_state(path)
    if state.get("model_class") != model_class:
        raise ValueError(f"{path} is a checkpoint of {state.get('model_class')!r}, not of {model_class!r}")
    for name, digest in state["files"].items():
        if not (path / name).exists() or _digest(path / name) != digest:
            raise DamagedCheckpoint(f"{path / name} is missing or damaged (its SHA-256 differs from state.json)")
    return {"state": state, "model": load_file(path / "model.safetensors"), "ema": load_file(path / "ema.safetensors"),
            "optimizers": torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)}


def _read_state(path: Path) -> dict:
    """state.json, of a known format and as it was written."""
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedCheckpoint(f"{path} is not a training checkpoint: {error}") from error
    if not isinstance(state, dict) or not isinstance(state.get("files"), dict) or set(state["files"]) != FILES:
        raise DamagedCheckpoint(f"{path} is not a training checkpoint: state.json does not list "
                                f"{', '.join(sorted(FILES))}")
    name = NAME.fullmatch(path.name)
    if ("checksum" in state or state.get("format") == FORMAT) and (
            state.get("checksum") != state_checksum(state) or (name and int(name.group(1)) != state.get("step"))):
        raise DamagedCheckpoint(f"{path / 'state.json'} is damaged: its checksum or step is not what was written")
    if state.get("format") != FORMAT:
        raise ValueError(f"{path} has format {state.get('format')!r}, this version reads {FORMAT!r}")
    return state
