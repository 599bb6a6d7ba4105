#!/usr/bin/env bash
# transformers' MimiModel.decode takes the old name of its cache, and any other, and ignores it.
#
# Streaming code written for earlier versions passes `decoder_past_key_values=` from chunk to chunk. In 5.24 the argument
# is called `decoder_cache`, the rest goes to **kwargs, and nothing looks at it: every chunk is decoded without its past,
# with no error and no warning, and the voice changes at chunk borders. With the new name the attention remembers, but the
# convolutions still begin anew at every chunk.
#
# Seen with transformers 5.24.0 and torch 2.14.1, Python 3.11, random weights:
#   chunk with the old name equals the chunk without a cache: True; with decoder_cache: False
#   decode(codes, nonsense=3): accepted; chunks with decoder_cache equal the whole: False
#
# For users: rename the argument, and compare chunks with the whole.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 transformers==5.24.0 numpy

cat > "$folder/look.py" <<'PY'
import torch
from transformers import MimiConfig, MimiModel

torch.manual_seed(0)
config = MimiConfig(hidden_size=32, num_filters=4, upsampling_ratios=[4, 2], num_hidden_layers=1, intermediate_size=32,
                    num_attention_heads=2, num_key_value_heads=2, head_dim=16, codebook_size=16, codebook_dim=8,
                    num_quantizers=4, num_semantic_quantizers=1, vector_quantization_hidden_dimension=8,
                    sliding_window=20, upsample_groups=32, sampling_rate=200, layer_scale_initial_scale=1.0)
model = MimiModel(config).eval()
for name, buffer in model.named_buffers():
    if name.endswith("embed_sum"):
        buffer.copy_(torch.randn_like(buffer))
codes = torch.randint(0, 16, (1, 4, 8))
with torch.inference_mode():
    whole = model.decode(codes).audio_values
    first = model.decode(codes[..., :4], use_cache=True)
    alone = model.decode(codes[..., 4:]).audio_values
    old = model.decode(codes[..., 4:], decoder_past_key_values=first.decoder_cache, use_cache=True).audio_values
    model.decode(codes, nonsense=3)
    new = model.decode(codes[..., 4:], decoder_cache=first.decoder_cache, use_cache=True).audio_values
print("old name is as without a cache:", torch.equal(old, alone), "- new name:", torch.equal(new, alone))
print("largest difference of the second chunk from the whole", float((new - whole[..., -new.shape[-1]:]).abs().max()),
      "of", float(whole.abs().max()))
assert torch.equal(old, alone) and not torch.equal(new, alone)
assert (new - whole[..., -new.shape[-1]:]).abs().max() > 0.01 * whole.abs().max()
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
