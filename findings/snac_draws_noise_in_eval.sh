#!/usr/bin/env bash
# snac's decoder draws noise in eval mode: the same codes never decode to the same sound twice.
#
# Each stage of its decoder adds noise, drawn anew with `torch.randn` on the device at every call and scaled by a learned
# factor; eval() and inference_mode do not switch it off. Tests by equality, caches and streaming by overlapping windows
# (the usual way with its codes in speech models) see another signal each time, and there is no generator argument.
#
# Seen with snac 1.2.1 and torch 2.14.1, Python 3.11, random weights:
#   two decodings of the same codes differ; with noise=False they are equal
#
# For users: seed torch before each call, or build with noise=False where the weights allow.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 snac==1.2.1 numpy

cat > "$folder/look.py" <<'PY'
import torch
from snac import SNAC

torch.manual_seed(0)
small = {"sampling_rate": 24000, "encoder_dim": 4, "encoder_rates": [2, 2], "decoder_dim": 32, "decoder_rates": [2, 2],
         "attn_window_size": None, "codebook_size": 16, "codebook_dim": 4, "vq_strides": [2, 1], "depthwise": False}
audio = torch.randn(1, 1, 64)


def difference(model):
    with torch.inference_mode():
        codes = model.encode(audio)
        first, second = model.decode(codes), model.decode(codes)
    return float((first - second).abs().max()), float(first.abs().max())


noisy, plain = difference(SNAC(noise=True, **small).eval()), difference(SNAC(noise=False, **small).eval())
print("largest difference of two decodings and largest sample: with noise", noisy, "without", plain)
assert noisy[0] > 0.01 * noisy[1] and plain[0] == 0
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
