#!/usr/bin/env bash
# onnxruntime's STFT and DFT lose 30 to 50 dB of their range where the length is no power of two.
#
# Lengths of powers of two take a plain FFT, all others Bluestein's chirp, whose angles are computed in float32: the error
# grows with the length. Speech front ends have 400 points (25 ms at 16 kHz) or 1920 and 2400, so quiet bins of a log
# spectrogram hold the error instead of the sound. numpy with float32 and torch stay at -140 dB.
#
# Seen with onnxruntime 1.32.0, Python 3.11, processor; largest error against float64, of a sine, in dB of its peak:
#   STFT 512: -139, 1024: -139, 2048: -141
#   STFT 400: -103, 960: -99, 1920: -92, 2400: -88
#
# For users: export spectrograms as matrix products or convolutions with the cosines as weights, or pad frames to a power
# of two where the model allows.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy

cat > "$folder/look.py" <<'PY'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

sine = np.sin(2 * np.pi * 0.1 * np.arange(6000)).astype(np.float32)


def decibels(size):
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("STFT", ["x", "hop", "window"], ["y"], onesided=1)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, None, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(160), "hop"), numpy_helper.from_array(window, "window")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    made = session.run(None, {"x": sine[None, :, None]})[0][0]
    frames = np.stack([sine[start:start + size] * window for start in range(0, len(sine) - size + 1, 160)])
    true = np.abs(np.fft.rfft(frames.astype(np.float64)))
    return 20 * np.log10(np.abs(np.hypot(made[..., 0], made[..., 1]) - true).max() / true.max())


found = {size: decibels(size) for size in (512, 1024, 2048, 400, 960, 1920, 2400)}
print({size: round(value, 1) for size, value in found.items()})
assert all(found[size] < -130 for size in (512, 1024, 2048))
assert all(found[size] > -115 for size in (400, 960, 1920, 2400)) and found[2400] > -95
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
