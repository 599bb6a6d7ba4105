#!/usr/bin/env bash
# onnxconverter-common's float16 conversion turns a sample rate of 24000 into 10000.
#
# `convert_float_to_float16` clips every float constant of a graph to max_finite_val, which is 1e4 by default although
# float16 reaches 65504. Audio graphs hold larger constants as a matter of course, such as the sample rate in a harmonic
# source (phase = f0 / rate), so the converted model runs and sings at another pitch, after one line of warning among many. onnxruntime has a copy of the same
# function whose default is the true limit.
#
# Seen with onnxconverter-common 1.16.0, onnx 1.23.2 and onnxruntime 1.32.0, Python 3.11:
#   f0 / 24000 in a graph, f0 = 12000: 0.5 before, 1.2 after onnxconverter-common, 0.5 after onnxruntime's copy
#
# For users: pass max_finite_val=65504, or use onnxruntime.transformers.float16.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 onnxconverter-common==1.16.0 numpy

cat > "$folder/look.py" <<'PY'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxconverter_common.float16 import convert_float_to_float16
from onnxruntime.transformers.float16 import convert_float_to_float16 as convert_by_onnxruntime


def phase():
    graph = helper.make_graph([helper.make_node("Div", ["f0", "rate"], ["y"])], "phase",
                              [helper.make_tensor_value_info("f0", TensorProto.FLOAT, [1])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
                              [numpy_helper.from_array(np.array([24000], np.float32), "rate")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def run(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return float(session.run(None, {"f0": np.array([12000], np.float32)})[0][0])


before = run(phase())
common = run(convert_float_to_float16(phase(), keep_io_types=True))
other = run(convert_by_onnxruntime(phase(), keep_io_types=True))
print("float32", before, "onnxconverter-common", common, "onnxruntime.transformers", other)
assert before == 0.5 and abs(common - 1.2) < 0.01 and abs(other - 0.5) < 0.01
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
