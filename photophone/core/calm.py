"""Less spinning beside other work: GNU OpenMP, which torch's wheels ship, lets waiting threads sleep soon.

Its threads spin for milliseconds before they sleep. Beside other work the partner that they wait for may not run at
all meanwhile, and they take the cores that it waits for. Of ``OMP_WAIT_POLICY=passive`` it must be told before torch is
imported; but as its manual says under ``GOMP_SPINCOUNT``, it also spins less while a process has more OpenMP threads
than cores. So a thread of Python is kept that has some of its own, which only sleep.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

STAY_SECONDS = 1.0
"""After the last use the threads end."""
MOST_EXTRA = 8
SHARED_NUMBERS = 200_000
"""Numbers from which on torch shares the work of an addition among threads, by far."""

_lock = threading.Lock()
_used = 0.0
_keeper: threading.Thread | None = None


@cache
def can_calm() -> bool:
    """Whether torch computes with GNU OpenMP."""
    return any((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))


def calm(count: int, cores: int, ask: Callable[[int], object]) -> bool:
    """Let the process's threads spin less for a second or so.

    Args:
        count: threads that compute.
        cores: those that the process may use.
        ask: gives the calling thread so many threads.

    Returns:
        False where that cannot be done.
    """
    global _used, _keeper
    extra = max(1, cores - count + 1)
    if not can_calm() or extra > MOST_EXTRA:
        return False
    with _lock:
        _used = time.monotonic()
        if _keeper is None or not _keeper.is_alive():
            _keeper = threading.Thread(target=_keep, args=(extra, ask), name="photophone-calm", daemon=True)
            _keeper.start()
    return True


def _keep(extra: int, ask: Callable[[int], object]) -> None:
    torch.get_num_threads()  # torch's own choice for a new thread, which would come later
    ask(extra + 1)
    torch.zeros(SHARED_NUMBERS).add_(1)
    while (left := _used + STAY_SECONDS - time.monotonic()) > 0:
        time.sleep(left)
