#!/usr/bin/env bash
# onnxruntime's dynamic int8 quantizer ignores per_channel=True for convolutions, in silence.
#
# `quantize_dynamic(..., per_channel=True)` gives linear layers a scale for each output, but a Conv becomes ConvInteger
# with one scale for all channels, with no warning, and the file equals that of per_channel=False. Depthwise convolutions,
# of which codecs and vocoders are full, have channels of very different size: the small ones are rounded to zero.
#
# Seen with onnxruntime 1.32.0 and onnx 1.23.2, Python 3.11, processor: a depthwise convolution of 32 channels whose
# weights grow from 0.001 to 10:
#   linear layer, per_channel=True: 32 scales
#   convolution, per_channel=True: 1 scale; relative error of the first channels 1.0 (they are silent), of the last 0.01
#
# For users: quantize convolutions statically (QLinearConv has scales by channel), or leave them in floats.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy

cat > "$folder/look.py" <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

rng = np.random.default_rng(0)
sizes = np.logspace(-3, 1, 32)
kernel = (rng.standard_normal((32, 1, 7)) * sizes[:, None, None]).astype(np.float32)
matrix = (rng.standard_normal((16, 32)) * sizes).astype(np.float32)
x = rng.standard_normal((1, 32, 100)).astype(np.float32)


def save(node, weight, shape, path):
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
                              [numpy_helper.from_array(weight, "weight")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def scales(path):
    return next(list(item.dims) for item in onnx.load(path).graph.initializer if item.name == "weight_scale")


def run(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


save(helper.make_node("Conv", ["x", "weight"], ["y"], group=32, pads=[3, 3]), kernel, [1, 32, 100], "conv.onnx")
save(helper.make_node("MatMul", ["x", "weight"], ["y"]), matrix, [100, 16], "linear.onnx")
for name in ("conv", "linear"):
    quantize_dynamic(f"{name}.onnx", f"{name}_int8.onnx", per_channel=True, weight_type=QuantType.QUInt8)
quantize_dynamic("conv.onnx", "conv_one.onnx", per_channel=False, weight_type=QuantType.QUInt8)
true, made = run("conv.onnx"), run("conv_int8.onnx")
error = np.abs(made - true).max(axis=(0, 2)) / np.abs(true).max(axis=(0, 2))
print("scales of the linear layer", scales("linear_int8.onnx"), "of the convolution", scales("conv_int8.onnx"))
print("relative error by channel", error[[0, 8, 16, 24, 31]].round(3).tolist())
assert scales("linear_int8.onnx") == [32] and scales("conv_int8.onnx") == []
assert np.array_equal(made, run("conv_one.onnx"))
assert error[0] > 0.9 and error[31] < 0.05
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
