"""The content of a checkpoint: one file, shards with an index, or the folder of a training.

Safetensors are read as they are, torch files with the restricted unpickler alone; which of both a file is, its bytes
say, not its name. What a file is that is neither stands in the error, with the way out.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from photophone.core.saved_model import index_places, read_index
from photophone.core.weight_files import safetensors_header, strange_content
from photophone.loading.names import ADAPTERS, MAIN_FILES, SUFFIXES

SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")
SAVE = "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
PLAIN_CLASSES = (
    "argparse.Namespace", "types.SimpleNamespace", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct", "numpy.dtype", "numpy.ndarray",
    "numpy.random._pickle.__randomstate_ctor", "pathlib.PosixPath", "pathlib.WindowsPath", "pathlib.PurePosixPath",
    "pathlib._local.PosixPath", "pathlib._local.WindowsPath", "datetime.datetime", "datetime.timedelta",
    "torch.torch_version.TorchVersion", "builtins.frozenset", "builtins.slice", "builtins.range")
"""Classes of plain values that trainings keep beside the weights. None of them is built: an empty object stands for
each, whatever the file says of it."""
LOAD_ERRORS = (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, TypeError, KeyError, IndexError, OSError,
               AttributeError, AssertionError, ImportError, ArithmeticError, MemoryError, RecursionError, struct.error)
"""What torch's readers raise for bytes that are no checkpoint."""


class Unread:
    """Stands for a plain value that is not read: it takes all and keeps nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Unread:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


@dataclass(frozen=True)
class Content:
    """What a checkpoint holds.

    Args:
        values: as it was saved, nested.
        files: names of the files it was read from.
        tied: keys that the file leaves out because their tensors are those of other keys.
    """

    values: Mapping[str, Any]
    files: tuple[str, ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)


def refused(path: Path, why: str) -> ValueError:
    """The error for a file that is not read; ``why`` goes on from "it"."""
    return ValueError(f"{path} was refused: it {why}")


def read_content(path: str | Path) -> Content:
    """All that a checkpoint holds, read safely.

    Args:
        path: a file; the index of shards, or one of them; or a folder that holds weights under a usual name.

    Raises:
        ValueError: nothing is there, a shard is missing, or a file is damaged, something else than weights, or needs
            more than tensors and plain values. No message advises to load it unsafely.
    """
    path = Path(path)
    if path.is_dir():
        return read_content(main_file(path))
    if path.name.endswith(".index.json") and path.is_file():
        return _read_shards(path)
    match = SHARD.fullmatch(path.name)
    if match and int(match["count"]) > 1:
        index = path.with_name(f"{match['stem']}{match['suffix']}.index.json")
        return _read_shards(index) if index.is_file() else _read_numbered(path.parent, match)
    if not path.is_file():
        raise ValueError(f"no such checkpoint file: {path}")
    return _read_file(path)


def main_file(folder: Path, foreign: Iterable[str] = ()) -> Path:
    """The weights in a folder of a release, of accelerate, of transformers' trainer or of DeepSpeed.

    Args:
        folder: that holds them.
        foreign: names of files that are known to be something else.

    Raises:
        ValueError: it holds none, or weights in a form that is not read; says how to bring them into one that is.
    """
    for name in MAIN_FILES:
        if (folder / name).is_file():
            return folder / name
    tag = folder / "latest"  # DeepSpeed
    if tag.is_file() and tag.stat().st_size < 256:
        inner = folder / tag.read_text(encoding="utf-8", errors="replace").strip()
        if inner.parent == folder and inner.is_dir():
            return main_file(inner)
    if ranks := sorted(folder.glob("mp_rank_*_model_states.pt")):
        if len(ranks) > 1:
            raise ValueError(f"{folder} holds weights that are split over {len(ranks)} processes; join them with "
                             "DeepSpeed's zero_to_fp32.py, which lies beside them")
        return ranks[0]
    if (folder / ".metadata").exists() or any(folder.glob("*.distcp")):
        raise ValueError(f"{folder} holds a distributed checkpoint of torch; join it first: python -m "
                         "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER weights.pt")
    for name in ADAPTERS:
        if (folder / name).is_file():
            raise ValueError(f"{folder} holds an adapter (LoRA) alone, {name}; merge it into its model with the "
                             "authors' code and save the whole")
    shards = [match for file in sorted(folder.iterdir()) if (match := SHARD.fullmatch(file.name))]
    if shards:
        return folder / shards[0].string
    rest = [file for file in sorted(folder.iterdir()) if file.suffix in SUFFIXES and file.name not in foreign
            and not re.match(r"(optimizer|scheduler|scaler|training_args|random_states|rng_state|sampler)", file.name)]
    if len(rest) == 1:
        return rest[0]
    found = f"several: {', '.join(file.name for file in rest[:5])}; name one" if rest else "none"
    raise ValueError(f"{folder} holds no weights under a usual name ({', '.join(MAIN_FILES[:2])}, "
                     f"{MAIN_FILES[4]}, ...), and of other files of weights {found}")


def _read_shards(index: Path) -> Content:
    places = index_places(index)
    names = sorted(set(places.values()))
    if all(name.endswith(".safetensors") for name in names):
        read_index(index)  # every shard is whole and holds what the index says
    parts = {name: _read_file(index.parent / name) for name in names}
    values: dict[str, Any] = {}
    tied: dict[str, str] = {}
    for name, part in parts.items():
        tied |= part.tied
        for key, value in part.values.items():
            if key in values and places.get(key) != name:
                continue
            values[key] = value
    absent = [f"{key} (in {name})" for key, name in places.items()
              if key not in parts[name].values and key not in tied]
    if absent:
        raise ValueError(f"{index} lists {len(absent)} tensors that its shards do not hold: {', '.join(absent[:5])}; "
                         "download the shards again")
    return Content(values, tuple(names), tied)


def _read_numbered(folder: Path, match: re.Match) -> Content:
    """Shards without an index: all of them must be there."""
    count = int(match["count"])
    names = [f"{match['stem']}-{number:05d}-of-{count:05d}{match['suffix']}"
             for number in range(1, min(count, 999) + 1)]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{len(missing)} of {count} shards are missing in {folder}: {', '.join(missing[:5])}")
    values: dict[str, Any] = {}
    tied: dict[str, str] = {}
    for name in names:
        part = _read_file(folder / name)
        twice = sorted(set(values) & set(part.values))
        if twice:
            raise ValueError(f"{folder / name} holds {twice[0]!r}, which another shard holds as well")
        values |= part.values
        tied |= part.tied
    return Content(values, tuple(names), tied)


def _read_file(path: Path) -> Content:
    strange = strange_content(path)
    if strange:
        raise refused(path, strange.replace("is damaged: it is empty", "is empty"))
    if _is_safetensors(path):
        return _read_safetensors(path)
    if path.suffix == ".onnx":
        raise refused(path, "is an ONNX file; use the authors' PyTorch weights")
    try:
        # an open file: of a path, torch would take the suffix for what the file is
        with open(path, "rb") as file, torch.serialization.safe_globals([(Unread, name) for name in PLAIN_CLASSES]):
            values = torch.load(file, map_location="cpu", weights_only=True)
    except LOAD_ERRORS as error:
        raise refused(path, _why_not(path, error)) from error
    if not isinstance(values, Mapping):
        listed = isinstance(values, list | tuple) and any(isinstance(value, Mapping) for value in values)
        if not listed:
            raise ValueError(f"{path} holds a {type(values).__name__}, not a table of tensors")
        values = {str(index): value for index, value in enumerate(values)}
    return Content(values, (path.name,))


def _is_safetensors(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(9)
    return head[8:] == b"{" or (path.suffix == ".safetensors" and not head.startswith((b"PK", b"\x80")))


def _read_safetensors(path: Path) -> Content:
    try:
        header, metadata = safetensors_header(path)
        values = load_file(path)
    except (ValueError, SafetensorError, OSError, KeyError, TypeError, RuntimeError) as error:
        words = str(error).partition("\n")[0].removeprefix(f"{path} ")
        raise refused(path, words if words.startswith("is ") else f"is damaged ({words})") from error
    # safetensors.torch.save_model keeps one of several names of a tensor, and the others in the metadata
    return Content(values, (path.name,), {key: value for key, value in metadata.items()
                                          if value in header and key not in header})


def _why_not(path: Path, error: BaseException) -> str:
    """What keeps a torch file from being read, without torch's advice to load it unsafely."""
    words = str(error)
    needed = re.search(r"GLOBAL ([\w.]+)", words) or re.search(r"(?:load|call reduce for)[^<]*<class '([\w.]+)'", words)
    if needed:
        return (f"needs the class {needed[1]}, and nothing but tensors and plain values is read, because reading a "
                "class can run code; where you trust the file, open it with its authors' code and save the weights "
                f"alone: {SAVE}")
    if "DTensor" in words or "torch.distributed" in words:
        return ("holds parts of tensors that are spread over processes; join them where it was trained, and save the "
                f"whole: {SAVE}")
    with open(path, "rb") as file:
        pickled = file.read(1) == b"\x80"
    if pickled and "Unsupported operand" in words:
        return f"is a pickle of another kind than torch.save writes; save the weights with torch.save, or {SAVE}"
    if isinstance(error, MemoryError):
        return "asks for more memory than there is"
    first = words.partition("\n")[0]
    advice = re.search(r"weights_only|unsafe|allowlist|trust", first)
    reason = type(error).__name__ if advice or not first else first[:160]
    return f"is damaged or holds more than tensors and plain values ({reason}); download it again"
