"""Operators and initialisers of an ONNX file, read without the onnx package.

An ONNX file is a protocol buffer. Only what names weights is read: nothing is executed, and data outside the file is
refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from photophone.core.limits import MAX_CHECKPOINT_BYTES
from photophone.loading.wire import fields, whole_numbers

TYPES = {1: torch.float32, 2: torch.uint8, 3: torch.int8, 6: torch.int32, 7: torch.int64, 10: torch.float16,
         11: torch.float64, 16: torch.bfloat16}
"""Numbers of element types in ONNX."""
GRAPH, NODE, INITIALIZER = 7, 1, 5
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_KIND = 1, 2, 3, 4
DIMS, DATA_TYPE, FLOATS, INT64S, TENSOR_NAME, RAW, LOCATION = 1, 2, 4, 7, 8, 9, 14


@dataclass(frozen=True)
class OnnxNode:
    """One operator.

    Attributes:
        name, kind: such as "/blocks.0/attn/query/MatMul" and "MatMul".
        inputs, outputs: names of tensors.
    """

    name: str
    kind: str
    inputs: list[str]
    outputs: list[str]


@dataclass(frozen=True)
class OnnxGraph:
    """Operators in the order in which they run, and weights by name."""

    nodes: list[OnnxNode]
    initializers: dict[str, Tensor]


def read_onnx(path: str | Path) -> OnnxGraph:
    """The graph of a file.

    Raises:
        ValueError: the file is missing, too large, damaged, or keeps its weights in other files.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"no such file: {path}")
    if file.stat().st_size > MAX_CHECKPOINT_BYTES:
        raise ValueError(f"{path} has {file.stat().st_size} bytes, the limit is {MAX_CHECKPOINT_BYTES}")
    try:
        model = memoryview(file.read_bytes())
        graphs = [value for field, value in fields(model) if field == GRAPH]
        if len(graphs) != 1 or not isinstance(graphs[0], memoryview):
            raise ValueError("no graph")
        nodes, initializers = [], {}
        for field, value in fields(graphs[0]):
            if field == NODE:
                nodes.append(_node(value))
            elif field == INITIALIZER:
                name, tensor = _tensor(value)
                initializers[name] = tensor
    except (ValueError, IndexError, TypeError, RuntimeError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no ONNX file that can be read: {error}") from error
    return OnnxGraph(nodes, initializers)


def _node(data: memoryview) -> OnnxNode:
    texts: dict[int, list[str]] = {NODE_INPUT: [], NODE_OUTPUT: [], NODE_NAME: [], NODE_KIND: []}
    for field, value in fields(data):
        if field in texts:
            texts[field].append(str(bytes(value), "utf-8"))
    return OnnxNode("".join(texts[NODE_NAME]), "".join(texts[NODE_KIND]), texts[NODE_INPUT], texts[NODE_OUTPUT])


def _tensor(data: memoryview) -> tuple[str, Tensor]:
    shape: list[int] = []
    name, kind, raw = "", 0, b""
    for field, value in fields(data):
        if field == DIMS:
            shape += whole_numbers(value)
        elif field == DATA_TYPE:
            kind = int(value)
        elif field == TENSOR_NAME:
            name = str(bytes(value), "utf-8")
        elif field == RAW:
            raw = bytes(value)
        elif field == FLOATS:
            raw += bytes(value)
        elif field == INT64S:
            raw += struct.pack(f"<{len(whole_numbers(value))}q", *whole_numbers(value))
        elif field == LOCATION and value:
            raise ValueError("its weights lie in other files; save it as one file")
    if kind not in TYPES:
        return name, torch.zeros(0)  # booleans, strings: no weights
    if not raw:
        return name, torch.zeros(shape, dtype=TYPES[kind])
    return name, torch.frombuffer(bytearray(raw), dtype=TYPES[kind]).reshape(shape)
