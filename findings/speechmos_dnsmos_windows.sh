#!/usr/bin/env bash
# speechmos's DNSMOS does not hear whole stretches of a clip, and a clip of 9 s counts seven times one of 10 s.
#
# Windows of 9.01 s begin at every second and are cut as [int(i * rate) : int((i + 9.01) * rate)]. For i from 7 to 22 the
# product is a hair below a whole number, the window is one sample short, and a rule for the end of clips drops it without
# a word. So a clip of 30 s is judged by its first 15 s alone. Clips below 9.01 s are doubled first, one of 9.0 s to 18 s
# with 7 windows, while one of 10.0 s has a single window: what is heard depends on the length alone.
#
# Seen with speechmos 0.0.1.1, Python 3.11, numpy 2; calls of its network, on noise:
#   9.0 s: 7 windows (of 18 s), 10.0 s: 1, 17.5 s: 7 of 8, 30.0 s: 7 of 21
#   full-scale noise from 16 to 30 s changes none of the four scores of the clip of 30 s
#
# For users: cut windows of 9.01 s (144,160 samples) yourself and give each to it alone.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check speechmos==0.0.1.1 librosa==0.11.0 onnxruntime==1.32.0 requests numpy

cat > "$folder/look.py" <<'PY'
import numpy as np
from speechmos import dnsmos

rng = np.random.default_rng(0)
judge = dnsmos.run
judge(0.1 * rng.standard_normal(145000).astype(np.float32), 16000)  # loads its networks


class Counted:
    def __init__(self, session):
        self.session, self.calls = session, 0

    def run(self, *arguments):
        self.calls += 1
        return self.session.run(*arguments)


counted = dnsmos.dnsmos.onnx_sess = Counted(dnsmos.dnsmos.onnx_sess)
found = {}
for seconds in (9.0, 10.0, 17.5, 30.0):
    counted.calls = 0
    judge(0.1 * rng.standard_normal(round(seconds * 16000)).astype(np.float32), 16000)
    found[seconds] = counted.calls
clip = 0.05 * rng.standard_normal(480000).astype(np.float32)
spoilt = clip.copy()
spoilt[256000:] = 0.9 * np.sign(rng.standard_normal(480000 - 256000))
same = judge(clip, 16000) == judge(spoilt, 16000)
print("windows", found, "- what lies behind 16 s changes a score:", not same)
assert found == {9.0: 7, 10.0: 1, 17.5: 7, 30.0: 7} and same
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
