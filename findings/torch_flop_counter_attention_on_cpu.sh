#!/usr/bin/env bash
# FlopCounterMode counts nothing for scaled_dot_product_attention on the processor: the flash kernel there has no formula.
#
# Costs that are counted so lack exactly the part that grows with the length: a transformer over a long context looks as
# if it cost the same for every token. On a GPU, and with the plain kernel, the products are counted.
#
# Seen with torch 2.14.1, Python 3.11, processor; 8 heads, 256 places, 64 channels, 4 * 8 * 256 * 256 * 64 expected:
#   as it is: 0; with SDPBackend.MATH: 134217728
#
# For users: count within sdpa_kernel(SDPBackend.MATH), or add the products of attention yourself.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy

cat > "$folder/look.py" <<'PY'
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

x = torch.randn(1, 8, 256, 64)
with FlopCounterMode(display=False) as usual:
    F.scaled_dot_product_attention(x, x, x)
with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as plain:
    F.scaled_dot_product_attention(x, x, x)
print(torch.__version__, usual.get_total_flops(), plain.get_total_flops())
assert usual.get_total_flops() == 0
assert plain.get_total_flops() == 4 * 8 * 256 * 256 * 64
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
