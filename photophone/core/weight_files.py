"""What a file of weights really is: told from its first bytes, before anything reads it whole.

Downloads leave other things under a weight's name: a Git LFS pointer, the page that asks to log in, an error in JSON.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

from photophone.core.limits import MAX_CHECKPOINT_BYTES, MAX_CONFIG_BYTES

AGAIN = "download the file itself again"
SHOWN = 60
"""Characters of a text under a weight's name that a message repeats."""
MAGIC = (
    (b"\x89HDF", "an HDF5 file, as Keras writes", "use the authors' PyTorch weights"),
    (b"GGUF", "a GGUF file of quantised weights", "use the authors' safetensors or PyTorch weights"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it first"),
    (b"\xfd7zXZ", "an xz archive", "unpack it first"),
    (b"BZh", "a bzip2 archive", "unpack it first"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first"),
    (b"\x93NUMPY", "a NumPy array", "save named tensors as safetensors"),
)
TAR = "is a tar archive; unpack it first (what torch wrote before version 0.1.10 is one too, and is not read)"
DTYPE_KINDS = {"BOOL": "bool", "U": "int", "I": "int", "F8": "float8", "F": "float", "BF": "float", "C": "complex"}
"""Kinds of the dtypes of safetensors by the beginnings of their names; the longest that fits counts."""


def strange_content(path: str | Path) -> str | None:
    """What a file is that cannot be weights, and the way out; None for what may be weights.

    Args:
        path: of an existing file.
    """
    path = Path(path)
    size = path.stat().st_size
    if size == 0:
        return f"is damaged: it is empty; {AGAIN}"
    if size > MAX_CHECKPOINT_BYTES:
        return f"has {size} bytes; at most {MAX_CHECKPOINT_BYTES} are read"
    with open(path, "rb") as file:
        head = file.read(1024)
    told = next((f"is {what}; {way_out}" for magic, what, way_out in MAGIC if head.startswith(magic)), None)
    if told or head[257:262] == b"ustar":
        return told or TAR
    return _strange_zip(path) if head.startswith(b"PK") else _pointer(head, size) or _strange_text(head)


def _strange_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
        return f"is cut short or damaged ({path.stat().st_size} bytes, without the index at its end); {AGAIN}"
    if any(name.endswith("constants.pkl") for name in names):
        return ("is a TorchScript program; save its weights alone where it can be run: "
                "safetensors.torch.save_file(program.state_dict(), 'model.safetensors')")
    if any(name.endswith("data.pkl") for name in names):
        return None
    if names and all(name.endswith(".npy") for name in names):
        return "is a NumPy archive; save its arrays as safetensors"
    return f"is a ZIP archive ({', '.join(names[:3]) or 'empty'}); unpack it first"


def _pointer(head: bytes, size: int) -> str | None:
    """A note that stands for a file, instead of which it was downloaded."""
    if head.startswith(b"version https://git-lfs"):
        real = re.search(rb"\nsize (\d+)", head)
        length = f"of {int(real[1])} bytes " if real else ""
        return (f"is a Git LFS pointer, a note of {size} bytes that stands for the real file {length}; run `git lfs "
                "pull` in its repository, or download the file itself")
    if head.startswith((b"/annex/objects/", b"../.git/annex", b".git/annex")):
        return "is a git-annex pointer that stands for the real file; run `git annex get` in its repository"
    return None


def _strange_text(head: bytes) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    try:
        words = text.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(text) - 4:  # not only a character that the reading cut
            return None
        words = text[:error.start].decode("utf-8")
    if not words or any(not char.isprintable() and not char.isspace() for char in words):
        return None
    start, lower = " ".join(words.split())[:SHOWN], words[:200].lower()
    kinds = ((("<!doctype html", "<html", "<head", "<body"), "a web page (HTML), such as a login or error page"),
             (("<",), "an XML text, such as a server's error"), (("{", "["), "a JSON text, such as a server's error"),
             (("",), "a text, not weights"))
    what = next(what for beginnings, what in kinds if lower.startswith(beginnings))
    return f"is {what}: {start!r}; {AGAIN}"


def safetensors_header(path: str | Path) -> tuple[dict[str, tuple[str, tuple[int, ...]]], dict[str, str]]:
    """Dtypes and shapes of the tensors of a safetensors file, and its metadata, without reading the tensors.

    Args:
        path: of an existing file.

    Raises:
        ValueError: it is no safetensors file, or one that is cut short; says what it is.
    """
    path = Path(path)
    strange = strange_content(path)
    if strange:
        raise ValueError(f"{path} {strange}")
    size = path.stat().st_size
    with open(path, "rb") as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        if not 2 <= length <= min(size - 8, 100_000_000):
            raise ValueError(f"{path} is damaged: no header of safetensors stands at its beginning; {AGAIN}")
        text = file.read(length)
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", None) or {}
        tensors = {name: (str(entry["dtype"]), tuple(entry["shape"])) for name, entry in header.items()}
        if not all(isinstance(size, int) and 0 <= size < 2**40 for _, shape in tensors.values() for size in shape):
            raise ValueError("a shape is no list of sizes")
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: its header cannot be read; {AGAIN}") from error
    if not isinstance(end, int) or end != size - 8 - length:
        raise ValueError(f"{path} is damaged: its header speaks of {end} bytes of tensors and {size - 8 - length} are "
                         f"there; {AGAIN}")
    return tensors, {str(key): str(value) for key, value in dict(metadata).items()}


def dtype_kind(name: str) -> str:
    """"float", "float8", "int", "bool", "complex" or "unknown" of a dtype of safetensors, such as "BF16"."""
    fitting = [start for start in DTYPE_KINDS if name.startswith(start)]
    return DTYPE_KINDS[max(fitting, key=len)] if fitting else "unknown"


def read_json(path: str | Path, limit: int = MAX_CONFIG_BYTES) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: it is missing, too large, no JSON, or nested too deeply; names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"No such file: {path}")
    size = path.stat().st_size
    if size > limit:
        raise ValueError(f"{path} has {size} bytes; at most {limit} are read")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
    except ValueError as error:
        what = strange_content(path)
        known = what if what and not what.startswith(("is a JSON", "is a text")) else f"is no JSON: {error}"
        raise ValueError(f"{path} {known}") from error


def read_json_object(path: str | Path, limit: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        ValueError: see :func:`read_json`; or it holds something else.
    """
    value = read_json(path, limit)
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object, it holds {json.dumps(value)[:40]}")
    return value
