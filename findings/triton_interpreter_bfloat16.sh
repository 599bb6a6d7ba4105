#!/usr/bin/env bash
# Triton's interpreter computes other numbers for bfloat16 than a GPU: bits are multiplied as integers.
#
# numpy has no bfloat16, so the interpreter keeps its bits in an integer array. `tl.dot` multiplies these integers, and a
# cast from float32 cuts the low bits off instead of rounding, makes the largest float of what lies beyond it, and breaks
# subnormal numbers. A kernel whose tests run in the interpreter (TRITON_INTERPRET=1), as they must without a GPU, can be
# right and fail, or be wrong by a rounding and pass.
#
# Seen with triton 3.8.0 and torch 2.14.1, Python 3.11, processor:
#   tl.dot of 16 x 16 normal numbers: error 0 for float16 and float32, above 1e9 for bfloat16
#   1 + 3 / 256 to bfloat16: 1.0078 (torch: 1.0156); 3.4e38: 3.39e38 (torch: infinity); 1e-40: 1.0e-39 (torch: 9.2e-41)
#
# For users: convert to float32 before `tl.dot` in the interpreter, and test roundings of bfloat16 on a GPU.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 triton==3.8.0 numpy

cat > "$folder/look.py" <<'PY'
import os

os.environ["TRITON_INTERPRET"] = "1"
import torch
import triton
import triton.language as tl


@triton.jit
def dot(a, b, c, N: tl.constexpr):
    i = tl.arange(0, N)
    place = i[:, None] * N + i[None, :]
    tl.store(c + place, tl.dot(tl.load(a + place), tl.load(b + place)))


@triton.jit
def cast(x, y, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(y + i, tl.load(x + i).to(tl.bfloat16))


torch.manual_seed(0)
errors = {}
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    a, b, c = torch.randn(16, 16).to(dtype), torch.randn(16, 16).to(dtype), torch.zeros(16, 16)
    dot[(1,)](a, b, c, N=16)
    errors[str(dtype)] = float((c - a.float() @ b.float()).abs().max())
x = torch.tensor([1 + 3 / 256, 3.4e38, 1e-40, 1.0])
y = torch.zeros(4, dtype=torch.bfloat16)
cast[(1,)](x, y, N=4)
print("errors of tl.dot", errors)
print("casts", y.tolist(), "torch", x.bfloat16().tolist())
assert errors["torch.float32"] < 1e-5 and errors["torch.float16"] < 1e-2 and errors["torch.bfloat16"] > 1e6
assert not torch.equal(y[:3], x.bfloat16()[:3]) and float(y[0]) == 1.0078125 and y[1].isfinite() and float(y[2]) > 5e-40
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
