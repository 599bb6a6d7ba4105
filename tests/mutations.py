"""Seeded damage to saved models: values of configs, texts of files, bytes and kinds of weights."""

import json
import random
import re
import struct

VALUES = (0, -1, 1, 2, 3, 7, 10**9, 2**63, 10**30, -(10**12), 0.5, -0.5, 1e30, float("nan"), float("inf"), "", "64",
          "none", "x" * 10_000, None, True, False, [], {}, [1], [0], [-1], ["a"], [[]], [None], [1] * 100_000, {"a": 1},
          {"width": 10**9}, {"depth": None}, [10**9, 10**9], [[1, 2], [3]], [float("nan")])
TEXTS = ("", " ", "null", "[]", "{}", "3", '"text"', "{", '{"a": 1', "\x00\x01", "<html></html>", "not json",
         "[" * 100_000, '{"a":' * 5_000,
         "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "NaN", "\ufeff{}")
NAMES = ("Nothing", "os.system", "Model", "", None, 3, ["FlowARGenerator"], {"a": 1}, "Vocos", "../x")
DTYPES = ("I32", "U8", "F16", "BOOL", "F8_E4M3", "I64", "C64", "X99", 3)


def places(value, path=()):
    """Paths of all values of a nested config, but those that begin with an underscore."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if not str(key).startswith("_"):
            yield (*path, key)
            yield from places(inner, (*path, key))


def changed(value, path, new):
    """A copy of a nested config with another value at a path."""
    value = json.loads(json.dumps(value))
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return value


def mutate_config(file, draw):
    """Change, remove or add one value; returns what was done, and the name of the setting."""
    config = json.loads(file.read_text())
    path = draw.choice(list(places(config)))
    kind = draw.choice(("value",) * 8 + ("remove", "add"))
    if kind == "remove":
        config.pop(path[0])
        words = f"{path[0]} removed"
    elif kind == "add":
        config[f"{path[0]}_more"] = 3
        words, path = f"{path[0]}_more added", (f"{path[0]}_more",)
    else:
        new = draw.choice(VALUES)
        config = changed(config, path, new)
        words = f"{'.'.join(map(str, path))} = {new!r:.40}"
    file.write_text(json.dumps(config))
    return words, path[0]


def mutate_text(file, draw):
    """Another text, or the text cut off."""
    old = file.read_text()
    new = draw.choice((*TEXTS, old[:draw.randrange(len(old))], old + "}", old.replace(":", "=", 1)))
    file.write_text(new)
    return f"text {new!r:.40}", None


def mutate_class(file, draw):
    """Another name of the class."""
    config = json.loads(file.read_text())
    config["_class_name"] = draw.choice(NAMES)
    file.write_text(json.dumps(config))
    return f"_class_name = {config['_class_name']!r}", None


def mutate_weights(file, draw):
    """Flip, cut or exchange bytes of a safetensors file, or change what its header says."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    kind = draw.choice(("cut", "text", "dtype", "dtype", "shape", "name", "remove", "offsets", "header", "nan", "grow"))
    key = draw.choice([name for name in header if name != "__metadata__"])
    tail = data[8 + length:]
    if kind == "cut":
        file.write_bytes(data[:draw.randrange(len(data))])
    elif kind == "text":
        file.write_bytes(draw.choice(TEXTS).encode())
    elif kind == "nan":
        start = header[key]["data_offsets"][0]
        file.write_bytes(data[:8 + length] + tail[:start] + b"\xff\xff\xff\xff" + tail[start + 4:])
    elif kind == "header":
        at = draw.randrange(8, 8 + length)
        file.write_bytes(data[:at] + bytes([draw.randrange(256)]) + data[at + 1:])
    else:
        entry = header[key]
        if kind == "dtype":
            entry["dtype"] = draw.choice(DTYPES)
        elif kind == "shape":
            entry["shape"] = draw.choice(([], [0], [10**12], entry["shape"][::-1], [*entry["shape"], 1], "x", [-1]))
        elif kind == "offsets":
            entry["data_offsets"] = draw.choice(([0, 0], [0, 10**15], [5, 1], "x", [None, 3]))
        elif kind == "name":
            header[f"{key}.more"] = header.pop(key)
        elif kind == "remove":
            header.pop(key)
        elif kind == "grow":
            header["more"] = {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 0]}
        text = json.dumps(header).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + tail)
    return f"{kind} {key}", None


def mutate(folder, seed):
    """Damage one file of a saved model or pipeline; returns the file, what was done, and the setting that changed."""
    draw = random.Random(seed)
    files = sorted(file for file in folder.rglob("*") if file.suffix in (".json", ".safetensors"))
    configs = [file for file in files if file.name == "config.json"]
    weights = [file for file in files if file.suffix == ".safetensors"]
    kind = draw.choice(("config",) * 5 + ("weights", "weights", "text", "class", "missing"))
    if kind == "config":
        file, (words, key) = (one := draw.choice(configs)), mutate_config(one, draw)
    elif kind == "class":
        file, (words, key) = (one := draw.choice(configs)), mutate_class(one, draw)
    elif kind == "weights":
        file, (words, key) = (one := draw.choice(weights)), mutate_weights(one, draw)
    elif kind == "text":
        file = draw.choice([file for file in files if file.suffix == ".json"])
        words, key = mutate_text(file, draw)
    else:
        file, words, key = draw.choice(files), "missing", None
        file.unlink()
    return file, words, key


def one_line(error):
    """Whether an error's message can be shown as it is."""
    return "\n" not in str(error).strip() and not re.search("Traceback|weights_only=False", str(error))
