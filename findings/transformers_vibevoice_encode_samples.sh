#!/usr/bin/env bash
# transformers' VibeVoice tokenizer gives other latents at each call, in eval mode, and loses the end of the clip.
#
# `encode` has sample=True: in eval mode and under inference_mode too it draws one noise level for each clip and adds noise
# of that level to all latents, where other codecs of the library are deterministic. And what does not fill the product
# of its strides is dropped: up to 3,199 samples, 0.13 s at 24 kHz, with nothing in the output that says so.
#
# Seen with transformers 5.24.0 and torch 2.14.1, Python 3.11, random weights, strides of 2 x 4:
#   two calls of encode: different; with sample=False: equal
#   47 samples encoded and decoded: 40
#
# For users: pass sample=False, and fill clips up to whole strides first.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 transformers==5.24.0 numpy

cat > "$folder/look.py" <<'PY'
import torch
from transformers import VibeVoiceAcousticTokenizerConfig, VibeVoiceAcousticTokenizerModel

torch.manual_seed(0)
config = VibeVoiceAcousticTokenizerConfig(hidden_size=4, num_filters=2, downsampling_ratios=[2, 4], depths=[1, 1, 1])
model = VibeVoiceAcousticTokenizerModel(config).eval()
audio = torch.randn(1, 1, 47)
with torch.inference_mode():
    drawn = [model.encode(audio).latents for _ in range(2)]
    fixed = [model.encode(audio, sample=False).latents for _ in range(2)]
    back = model.decode(fixed[0]).audio
print("twice the same:", torch.equal(*drawn), "with sample=False:", torch.equal(*fixed))
print("47 samples come back as", back.shape[-1])
assert not torch.equal(*drawn) and torch.equal(*fixed) and back.shape[-1] == 40
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
