#!/usr/bin/env bash
# torch.set_num_threads in one thread of Python: what others have then depends on whether they have asked torch before.
#
# The call looks as if it set a number of the whole process, and restoring it behind a block looks safe. But each thread
# of Python has its own number in OpenMP. It is set from torch's global one the first time that the thread asks torch for
# anything, and by its own calls; the global one is what any thread set last. So a worker that "restores" the number
# changes that of all threads that begin later, does not change those that have computed, and takes away what a thread
# set for itself and has not used yet.
#
# Seen with torch 2.14.1, Python 3.11, Linux, GNU OpenMP; a worker sets 1 where the process had 4:
#   thread that has computed before: 4
#   thread that set 4 itself, and computes after that: 1
#   thread that starts later: 1
#
# For users: to limit one call in a server with several threads of Python, ask OpenMP itself (omp_set_num_threads of the
# library that torch has loaded), in the calling thread; set torch's own number once, before any thread begins.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy

cat > "$folder/look.py" <<'PY'
import threading

import torch

found = {}
computed, has_set, worker_done = threading.Event(), threading.Event(), threading.Event()


def has_computed():
    torch.ones(10).sum()
    torch.get_num_threads()
    computed.set()
    worker_done.wait()
    found["has computed"] = torch.get_num_threads()


def sets_itself():
    torch.set_num_threads(4)
    has_set.set()
    worker_done.wait()
    found["set its own"] = torch.get_num_threads()


def worker():
    torch.set_num_threads(1)


torch.set_num_threads(4)
early = [threading.Thread(target=target) for target in (has_computed, sets_itself)]
for thread in early:
    thread.start()
computed.wait()
has_set.wait()
one = threading.Thread(target=worker)
one.start()
one.join()
worker_done.set()
for thread in early:
    thread.join()
late = threading.Thread(target=lambda: found.update({"starts later": torch.get_num_threads()}))
late.start()
late.join()
print(torch.__version__, found)
assert found == {"has computed": 4, "set its own": 1, "starts later": 1}
PY
cd "$folder"
OMP_NUM_THREADS=4 "$folder/env/bin/python" "$folder/look.py"
