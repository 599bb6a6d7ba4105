#!/usr/bin/env bash
# nn.LSTM on the processor orders its weights anew in every call: without oneDNN a single step takes a tenth of the time.
#
# In inference torch takes oneDNN's layer, which copies all weights into its own order each time. A stream that gives one
# frame a call, as codecs with LSTMs do (EnCodec), pays for that with every frame.
#
# Seen with torch 2.14.1, Python 3.11, processor (x86-64, AVX-512), one thread, LSTM of 2 x 512 units, milliseconds a call:
#   steps              1     2     8    32
#   as it is         6.7   8.1  10.8  13.5
#   without oneDNN   0.5   1.0   2.8   7.7
#
# For users: run short pieces within torch.backends.mkldnn.flags(enabled=False), or collect frames.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy

cat > "$folder/look.py" <<'PY'
import statistics
import time

import torch

torch.set_num_threads(1)
torch.manual_seed(0)
lstm = torch.nn.LSTM(512, 512, 2, batch_first=True).eval()


def milliseconds(x):
    for _ in range(3):
        lstm(x)
    times = []
    for _ in range(20):
        start = time.process_time()
        lstm(x)
        times.append(time.process_time() - start)
    return 1000 * statistics.median(times)


ratios = {}
with torch.inference_mode():
    for steps in (1, 2, 8, 32):
        x = torch.randn(1, steps, 512)
        made, usual = lstm(x)[0], milliseconds(x)
        with torch.backends.mkldnn.flags(enabled=False):
            torch.testing.assert_close(lstm(x)[0], made, atol=1e-5, rtol=1e-5)
            plain = milliseconds(x)
        ratios[steps] = usual / plain
        print(f"{steps} steps: {usual:.2f} ms, without oneDNN {plain:.2f} ms")
print(torch.__version__)
assert ratios[1] > 3, "a step alone is cheap now"
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
