"""CosyVoice's speech tokenizers as ONNX files, with operators and weights named as in the published ones."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def official_nodes(model):
    """Operators of the authors' export, with what they read, by the names that the published files have."""
    own = {key: value.numpy() for key, value in model.state_dict().items()}
    v2 = model.config.memory is not None
    yield "/conv1/Conv", "Conv", {"onnx::Conv_1": own["conv1.weight"], "onnx::Conv_2": own["conv1.bias"]}
    yield "/conv2/Conv", "Conv", {"onnx::Conv_3": own["conv2.weight"], "onnx::Conv_4": own["conv2.bias"]}
    if not v2:
        yield "/Slice", "Slice", {"encoders.positional_embedding": own["positions"]}
    for index in range(model.config.depth):
        block, place = f"blocks.{index}.", f"/blocks.{index}"
        for norm, name in (("norm1", "attn_ln"), ("norm2", "mlp_ln")):
            weight, bias = (own[f"{block}{norm}.{kind}"] for kind in ("weight", "bias"))
            if v2:
                yield f"{place}/{name}/LayerNormalization", "LayerNormalization", {f"{block}{name}.w": weight,
                                                                                 f"{block}{name}.b": bias}
            else:
                yield f"{place}/{name}/Mul", "Mul", {f"{block}{name}.w": weight}
                yield f"{place}/{name}/Add_1", "Add", {f"{block}{name}.b": bias}
        parts = {part: (weight, bias) for part, weight, bias in zip(
            ("query", "key", "value"), np.split(own[f"{block}to_qkv.weight"], 3),
            np.split(own[f"{block}to_qkv.bias"], 3))} | {
            "out": (own[f"{block}to_out.weight"], own[f"{block}to_out.bias"])}
        layers = {f"attn/{name}": pair for name, pair in parts.items()} | {
            f"mlp/mlp.{place}": (own[f"{block}feed_forward.{place}.weight"], own[f"{block}feed_forward.{place}.bias"])
            for place in (0, 2)}
        for name, (weight, bias) in layers.items():
            yield f"{place}/{name}/MatMul", "MatMul", {f"onnx::MatMul_{index}{name}": weight.T}
            if name != "attn/key":
                yield f"{place}/{name}/Add", "Add", {f"{block}{name}.bias": bias}
        if v2:
            yield f"{place}/attn/fsmn_block/Conv", "Conv", {f"{block}fsmn": own[f"{block}memory.weight"]}
    if v2:
        yield "/quantizer/project_in/MatMul", "MatMul", {"onnx::MatMul_2536": own["to_digits.weight"].T}
        yield "/quantizer/project_in/Add", "Add", {"quantizer.project_in.bias": own["to_digits.bias"]}
    else:
        yield "/quantizer/rq/model/layers.0/_codebook/MatMul", "MatMul", {"onnx::MatMul_9": own["codebook"].T}


def write_onnx(model, path, **options):
    nodes, weights = [], []
    for place, (name, kind, tensors) in enumerate(official_nodes(model)):
        nodes.append(helper.make_node(kind, [f"x{place}", *tensors], [f"x{place + 1}"], name=name))
        weights += [numpy_helper.from_array(np.ascontiguousarray(value), key) for key, value in tensors.items()]
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x0", f"x{len(nodes)}")]
    onnx.save(helper.make_model(helper.make_graph(nodes, "s3", floats[:1], floats[1:], weights)), str(path), **options)
    return path


def without_key_bias(model):
    """The official keys have no bias."""
    for block in model.blocks:
        block.to_qkv.bias.data.view(3, -1)[1] = 0
    return model.eval()
