"""Training settings: a dataclass read from YAML; unknown keys are refused."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from photophone.core.limits import MAX_BATCH_SIZE

MAY_CHANGE = ("steps", "validation", "compile", "log_every", "preview_every", "validate_every", "checkpoint_every")
"""Settings that a resumed run may have otherwise: how long it is, what watches it, and how it is computed. The device
may change too."""
UNSET = object()


@dataclass
class TrainConfig:
    """One training run.

    Args:
        data: prepared training file (``scripts/prepare_images.py`` and its kin make it).
        validation: prepared file for previews and validation, or None.
        model: constructor arguments of the model.
        task: arguments of the task (loss weights and the like).
        steps: optimizer steps in all.
        batch_size: examples a step over all processes and accumulation steps.
        accumulation: parts a step's batch is computed in.
        precision: "no" (float32), "bf16" or "fp16" autocast.
        compile: names of submodules (or lists of them) that torch.compile makes faster, such as
            "token_head.net.blocks".
        optimizer: "adamw"; "muon" (arXiv 2502.16982: matrices by Muon, the rest by AdamW); or "muon_conv" (convolutions
            by Muon, too).
        learning_rate, final_learning_rate: peak and last; the decay between them is a half cosine.
        warmup_steps: linear warm-up.
        rates: factors of the learning rate for weights whose names begin so, such as ``adversary: 0.5``; the gradient
            of each such part is clipped on its own.
        weight_decay: on matrices only.
        betas: of AdamW.
        gradient_clip: largest norm of the gradient.
        ema_decay: of the averaged weights, which are the ones that are exported.
        seed: of data order, augmentation and noise: with the step number it fixes every draw.
        log_every, preview_every, validate_every, checkpoint_every: in steps; 0 means never.
        init_from: folder of a saved model to start from, or None.
    """

    data: str
    validation: str | None = None
    model: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    steps: int = 1000
    batch_size: int = 64
    accumulation: int = 1
    precision: str = "no"
    compile: list[str] = field(default_factory=list)
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    warmup_steps: int = 100
    rates: dict[str, float] = field(default_factory=dict)
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    log_every: int = 20
    preview_every: int = 500
    validate_every: int = 500
    checkpoint_every: int = 500
    init_from: str | None = None

    def __post_init__(self) -> None:
        for setting in fields(self):
            setattr(self, setting.name, _typed(setting.name, setting.type, getattr(self, setting.name)))
        for name in ("steps", "batch_size", "accumulation"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size > MAX_BATCH_SIZE:
            raise ValueError(f"batch_size must be at most {MAX_BATCH_SIZE}, got {self.batch_size}")
        if self.batch_size % self.accumulation:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulation {self.accumulation}")
        if self.precision not in ("no", "bf16", "fp16"):
            raise ValueError(f"precision must be 'no', 'bf16' or 'fp16', got {self.precision!r}")
        for name in ("warmup_steps", "log_every", "preview_every", "validate_every", "checkpoint_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict; the checkpoint stores it."""
        return asdict(self)

    def contents(self) -> dict[str, str]:
        """SHA-256 of each file or folder that a setting names, by the setting's dotted name.

        A run is held to what it was trained on, not to where that lay.
        """
        return {name: content_digest(Path(value)) for name, value in _leaves(self.to_dict())
                if isinstance(value, str) and value and name.partition(".")[0] not in MAY_CHANGE
                and os.path.exists(value)}

    def differences(self, saved: dict[str, Any], contents: dict[str, str] | None = None) -> list[str]:
        """What keeps this run from continuing one with other settings.

        Args:
            saved: :meth:`to_dict` of the other run, read from JSON. Settings that it does not have yet count with their
                defaults.
            contents: :meth:`contents` of the other run.

        Returns:
            A text like ``task.l1 0.5, now 0.25`` for each setting that differs, but for those of ``MAY_CHANGE``. Of
            files and folders the contents count, not the paths.
        """
        before = {**TrainConfig(data="").to_dict(), **saved}
        changed = dict(_changes(*(json.loads(json.dumps(settings)) for settings in (before, self.to_dict()))))
        old, new = contents or {}, self.contents()
        for name in sorted(old.keys() & new.keys()):
            changed.pop(name, None)
            if old[name] != new[name]:
                changed[name] = f"{name} has other contents than what the run was made with"
        return [text for name, text in changed.items() if name.partition(".")[0] not in MAY_CHANGE]


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and digests of all files in a folder; hidden ones do not count.

    To a prepared file belongs the ``.jsonl`` beside it, which holds its captions or texts.
    """
    if path.is_file():
        return _file_digest(path) + (_file_digest(path.with_suffix(".jsonl")) if _has_fields(path) else "")
    total = hashlib.sha256()
    for inner in sorted(path.rglob("*")):
        name = inner.relative_to(path)
        if inner.is_file() and not any(part.startswith(".") for part in name.parts):
            total.update(f"{name.as_posix()} {_file_digest(inner)}\n".encode())
    return total.hexdigest()


def _has_fields(path: Path) -> bool:
    return path.suffix == ".safetensors" and path.with_suffix(".jsonl").is_file()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _leaves(settings: dict | list | tuple, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of all that is no dict or list; places in a list count as names."""
    for key, value in settings.items() if isinstance(settings, dict) else enumerate(settings):
        if isinstance(value, dict | list | tuple):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _changes(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Name, and name with both values, of each entry that differs; entries of dicts have dotted names."""
    changes = []
    for key in [*before, *(key for key in now if key not in before)]:
        old, new, name = before.get(key, UNSET), now.get(key, UNSET), f"{prefix}{key}"
        if _words(old) and _words(new) and len(old) == len(new):  # perhaps of files: each is compared by itself
            old, new = dict(enumerate(old)), dict(enumerate(new))
        if isinstance(old, dict) and isinstance(new, dict):
            changes += _changes(old, new, f"{name}.")
        elif old != new:
            changes.append((name, f"{name} {_told(old)}, now {_told(new)}"))
    return changes


def _words(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _told(value: Any) -> str:
    return "not set" if value is UNSET else repr(value)


def _typed(name: str, kind: str, value: Any) -> Any:
    """``value`` as the type that the dataclass names; YAML reads 1e-3 as a word, so words may be numbers.

    Raises:
        ValueError: when it is nothing of the kind.
    """
    try:
        if kind == "float" and not isinstance(value, bool):
            return float(value)
        if kind == "int" and not isinstance(value, bool) and float(value) == int(float(value)):
            return int(float(value))
        if kind.startswith("tuple"):
            first, second = value
            return float(first), float(second)
        if kind == "list[str]" and isinstance(value, list | None) and all(isinstance(v, str) for v in value or ()):
            return list(value or ())
        if kind.startswith("dict"):
            return dict(value or {})
        if kind in ("str", "str | None") and (isinstance(value, str) or (value is None and kind != "str")):
            return value
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{name} must be of type {kind}, got {value!r}")


def load_config(path: str | Path, overrides: list[str] = ()) -> TrainConfig:
    """Read a YAML file into a :class:`TrainConfig`.

    Args:
        path: the file.
        overrides: ``key=value`` strings, dots for nested keys (``task.l1=0.5``); values are read as YAML.

    Raises:
        ValueError: a file that is not a mapping, an unknown key, or a malformed override.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must hold a mapping of settings, got {type(raw).__name__}")
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise ValueError(f"override {override!r} is not of the form key=value")
        target = raw
        *parents, leaf = key.split(".")
        for parent in parents:
            if target.get(parent) is None:
                target[parent] = {}
            target = target[parent]
            if not isinstance(target, dict):
                raise ValueError(f"override {override!r}: {parent} is {target!r} and has no settings of its own")
        try:
            target[leaf] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"override {override!r} is not YAML: {error}") from error
    known = {f.name for f in fields(TrainConfig)}
    unknown = sorted(map(str, set(raw) - known))
    if unknown:
        raise ValueError(f"{path}: unknown settings {unknown}; known are {sorted(known)}")
    if "data" not in raw:
        raise ValueError(f"{path}: the setting 'data' is missing")
    return TrainConfig(**raw)
