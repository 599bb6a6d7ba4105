#!/usr/bin/env bash
# Ray Data cuts a safetensors payload to one byte when a batch function returns it in a numpy array.
#
# Batches are numpy arrays by default, and a column of bytes comes in as an object array. Returned as
# `np.array([save(...), ...])` it has numpy's type S, which pyarrow reads up to the first NUL of each string (not only
# without the trailing ones, as numpy does). A safetensors file begins with its header's length as 8 little-endian bytes,
# so one byte is left of it; other payloads lose their end. Nothing warns.
#
# Seen with ray 2.60.0, pyarrow 26.0.1, numpy 2.4.6, safetensors 0.8.0, Python 3.11:
#   payloads of 80 bytes returned as np.array(list of bytes): 1 byte each; returned as a list: 80 bytes each
#
# For users: return lists, or arrays of dtype object.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check 'ray[data]==2.60.0' pyarrow==26.0.1 numpy==2.4.6 safetensors==0.8.0

cat > "$folder/look.py" <<'PY'
import logging

import numpy as np
import ray
from safetensors.numpy import save

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
ray.data.DataContext.get_current().enable_progress_bars = False
rows = ray.data.from_items([{"scale": 1.0}, {"scale": 2.0}])


def payloads(batch):
    return [save({"w": np.full(4, scale, np.float32)}) for scale in batch["scale"]]


arrays = rows.map_batches(lambda batch: {"file": np.array(payloads(batch))}).take_all()
lists = rows.map_batches(lambda batch: {"file": payloads(batch)}).take_all()
print("array", [len(row["file"]) for row in arrays], "list", [len(row["file"]) for row in lists])
assert [len(row["file"]) for row in lists] == [80, 80] and [len(row["file"]) for row in arrays] == [1, 1]
ray.shutdown()
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
