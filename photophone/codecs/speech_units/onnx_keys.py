"""Weights of CosyVoice's ``speech_tokenizer_*.onnx`` under the names of their PyTorch modules."""

from __future__ import annotations

import re
from pathlib import Path

from photophone.loading.checkpoints import State
from photophone.loading.onnx_file import OnnxGraph, OnnxNode, read_onnx

BLOCK = re.compile(r"blocks\.\d+/.*")
PARTS = [("/", "."), ("LayerNormalization", "weight"), ("MatMul", "weight"), ("Add_1", "bias"), ("Mul", "weight"),
         ("Add", "bias"), ("mlp.mlp", "mlp"), ("fsmn_block.Conv", "fsmn_block.weight")]
"""Names of operators, which follow the modules that they come from, and of weights."""


def s3_state(path: str | Path) -> State:
    """The initialisers of an official file as the state dict of its network.

    Raises:
        ValueError: the file is no such graph.
    """
    graph = read_onnx(path)
    state: State = {}
    for node in graph.nodes:
        weights = [name for name in node.inputs if name in graph.initializers]
        if weights:
            _take(graph, node, weights, state)
    table = next((value for name, value in graph.initializers.items() if name.endswith("positional_embedding")), None)
    if table is not None:
        state["encoder.positional_embedding"] = table
    if not depth_of(state) or "encoder.conv1.weight" not in state:
        raise ValueError(f"{path} is no speech tokenizer of CosyVoice: its graph has no convolutions and blocks of the "
                         "names that the published files have")
    return state


def depth_of(state: State) -> int:
    """Blocks of a state dict."""
    return len({match[1] for key in state if (match := re.search(r"blocks\.(\d+)\.", key))})


def _take(graph: OnnxGraph, node: OnnxNode, weights: list[str], state: State) -> None:
    """Add the weights of one operator."""
    tensors = [graph.initializers[name] for name in weights]
    block = BLOCK.search(node.name)
    if block is not None:
        name = block[0]
        for theirs, ours in PARTS:
            name = name.replace(theirs, ours)
        value = tensors[0].T if tensors[0].ndim == 2 else tensors[0]
        if name.endswith((".weight", ".bias")) and value.ndim:
            state.setdefault(f"encoder.{name}", value)
        if node.kind == "LayerNormalization":
            state[f"encoder.{name.removesuffix('weight')}bias"] = tensors[1]
    elif node.kind == "Conv":
        count = 1 if "encoder.conv1.weight" not in state else 2
        state[f"encoder.conv{count}.weight"], state[f"encoder.conv{count}.bias"] = tensors
    elif node.kind == "MatMul" and tensors[0].ndim == 2:
        # behind the last block: distances to the codes of version 1, digits of version 2
        digits = tensors[0].shape[1] == 8
        key = "quantizer._codebook.project_down.weight" if digits else "quantizer._codebook.embed"
        state[key] = tensors[0].T
    elif node.kind in ("Add", "Gemm") and tensors[0].shape == (8,):
        state["quantizer._codebook.project_down.bias"] = tensors[0]
