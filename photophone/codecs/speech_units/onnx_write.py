"""CosyVoice's speech tokenizers as ONNX files, with operators and weights named as in those of the authors.

The files hold what is read of them: the weights, at operators of the published names. They are no graphs to run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from photophone.core.files import atomic_write

if TYPE_CHECKING:
    from photophone.codecs.speech_units.s3 import S3Tokenizer

Operator = tuple[str, str, dict[str, np.ndarray]]
"""Its name and kind, and the weights that it reads, by name."""


def s3_operators(model: S3Tokenizer) -> Iterator[Operator]:
    """Operators of the authors' export that read weights."""
    own = {key: value.detach().cpu().float().numpy() for key, value in model.state_dict().items()}
    second = model.config.memory is not None
    yield "/conv1/Conv", "Conv", {"onnx::Conv_1": own["conv1.weight"], "onnx::Conv_2": own["conv1.bias"]}
    yield "/conv2/Conv", "Conv", {"onnx::Conv_3": own["conv2.weight"], "onnx::Conv_4": own["conv2.bias"]}
    if not second:
        yield "/Slice", "Slice", {"encoders.positional_embedding": own["positions"]}
    for index in range(model.config.depth):
        block = f"blocks.{index}."
        yield from _block(index, {key.removeprefix(block): value for key, value in own.items()
                                  if key.startswith(block)}, second)
    if second:
        yield "/quantizer/project_in/MatMul", "MatMul", {"onnx::MatMul_2536": own["to_digits.weight"].T}
        yield "/quantizer/project_in/Add", "Add", {"quantizer.project_in.bias": own["to_digits.bias"]}
    else:
        yield "/quantizer/rq/model/layers.0/_codebook/MatMul", "MatMul", {"onnx::MatMul_9": own["codebook"].T}


def _block(index: int, own: dict[str, np.ndarray], second: bool) -> Iterator[Operator]:
    """Of one block, whose weights are ``own``."""
    place, block = f"/blocks.{index}", f"blocks.{index}."
    for norm, name in (("norm1", "attn_ln"), ("norm2", "mlp_ln")):
        weights = {f"{block}{name}.w": own[f"{norm}.weight"]}, {f"{block}{name}.b": own[f"{norm}.bias"]}
        if second:
            yield f"{place}/{name}/LayerNormalization", "LayerNormalization", weights[0] | weights[1]
        else:
            yield f"{place}/{name}/Mul", "Mul", weights[0]
            yield f"{place}/{name}/Add_1", "Add", weights[1]
    queries = zip(("query", "key", "value"), np.split(own["to_qkv.weight"], 3), np.split(own["to_qkv.bias"], 3))
    layers = [(f"attn/{name}", weight, bias) for name, weight, bias in queries]
    layers.append(("attn/out", own["to_out.weight"], own["to_out.bias"]))
    layers += [(f"mlp/mlp.{layer}", own[f"feed_forward.{layer}.weight"], own[f"feed_forward.{layer}.bias"])
               for layer in (0, 2)]
    for name, weight, bias in layers:
        yield f"{place}/{name}/MatMul", "MatMul", {f"onnx::MatMul_{index}{name}": weight.T}
        if name != "attn/key":
            yield f"{place}/{name}/Add", "Add", {f"{block}{name}.bias": bias}
        elif bias.any():
            raise ValueError("the authors' files have no bias of the keys, and this tokenizer has one")
    if second:
        yield f"{place}/attn/fsmn_block/Conv", "Conv", {f"{block}fsmn": own["memory.weight"]}


def write_s3_onnx(model: S3Tokenizer, path: str | Path, **options: bool | int) -> None:
    """Write a tokenizer as its authors publish it; needs the package onnx.

    Args:
        model: of any version.
        path: such as ``speech_tokenizer_v2.onnx``.
        options: of ``onnx.save``.

    Raises:
        ValueError: a model with a bias of the keys, which the authors' files cannot hold.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights = [], []
    for place, (name, kind, tensors) in enumerate(s3_operators(model)):
        nodes.append(helper.make_node(kind, [f"x{place}", *tensors], [f"x{place + 1}"], name=name))
        weights += [numpy_helper.from_array(np.ascontiguousarray(value), key) for key, value in tensors.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x0", f"x{len(nodes)}")]
    graph = helper.make_graph(nodes, "s3", ends[:1], ends[1:], weights)
    if options:  # of external data, whose files lie beside the path
        onnx.save(helper.make_model(graph), str(path), **options)
        return
    with atomic_write(path) as partial:
        onnx.save(helper.make_model(graph), str(partial))


def write_voice_network(path: str | Path, width: int = 192, bands: int = 80, seed: int = 0) -> None:
    """A network in the place of CAM++, for chains that learn one voice: the spread of each mel band, mixed at random.

    Args:
        path: such as ``campplus.onnx``.
        width: of the vector.
        bands: of the kaldi frames (1, T, bands) that it reads.
        seed: of the mix.
    """
    import onnx
    from onnx import TensorProto, helper

    mix = np.random.default_rng(seed).normal(size=(bands, width)) / np.sqrt(bands)
    weights = [helper.make_tensor("mix", TensorProto.FLOAT, mix.shape, mix.flatten()),
               helper.make_tensor("axes", TensorProto.INT64, [1], [1])]
    nodes = [helper.make_node("Abs", ["feats"], ["size"]),
             helper.make_node("ReduceMean", ["size", "axes"], ["spread"], keepdims=0),
             helper.make_node("MatMul", ["spread", "mix"], ["embedding"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in
            (("feats", [1, None, bands]), ("embedding", [1, width]))]
    graph = helper.make_graph(nodes, "voice", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with atomic_write(path) as partial:
        onnx.save(model, str(partial))
