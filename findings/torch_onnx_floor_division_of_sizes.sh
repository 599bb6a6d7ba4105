#!/usr/bin/env bash
# torch.onnx.export writes floor division of sizes as ONNX's Div, which rounds towards zero: the usual words for rounding up,
# -(-n // 4), round down in the file, without a warning.
#
# Python's // and the graph of torch.export round towards minus infinity, ONNX's Div of whole numbers towards zero. The
# checks that exporting makes do not see it where the example's size is a multiple of four, and lengths of other sizes then
# come out one short. With (n + 3) // 4, where nothing is negative, file and model agree.
#
# Seen with torch 2.14.1, onnxscript 0.7.2 and onnxruntime 1.32.0: 9 numbers give 3 in torch, 2 in the file.
#
# For users: round sizes up as (n + k - 1) // k in models that are exported, and compare files on sizes that are no
# multiples of a hop.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy onnx==1.23.2 \
    onnx-ir==1.1.0 onnxscript==0.7.2 onnxruntime==1.32.0

cat > "$folder/look.py" <<'PY'
import numpy as np
import onnxruntime
import torch


class RoundedUp(torch.nn.Module):
    def __init__(self, negated: bool) -> None:
        super().__init__()
        self.negated = negated

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        length = audio.shape[0]
        return torch.zeros(-(-length // 4) if self.negated else (length + 3) // 4)


def sizes(negated: bool, length: int) -> tuple[int, int]:
    """How many numbers torch makes, and the file."""
    model = RoundedUp(negated)
    name = f"rounded_{negated}.onnx"
    torch.onnx.export(model, (torch.zeros(8),), dynamo=True, verbose=False,
                      dynamic_shapes=({0: torch.export.Dim("length", min=1)},)).save(name)
    session = onnxruntime.InferenceSession(name)
    (made,) = session.run(None, {session.get_inputs()[0].name: np.zeros(length, np.float32)})
    return len(model(torch.zeros(length))), len(made)


for length in (8, 9, 11, 12):
    print(f"{length} numbers, torch and file: -(-n // 4) {sizes(True, length)}, (n + 3) // 4 {sizes(False, length)}")
assert sizes(True, 8) == (2, 2)
assert sizes(True, 9) == (3, 2)
assert sizes(False, 9) == (3, 3)
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
