"""Less spinning beside other work: GNU OpenMP, which torch's wheels ship, lets waiting threads sleep soon.

Its threads spin for milliseconds before they sleep. Beside other work the partner that they wait for may not run at
all meanwhile, and they take the cores that it waits for. Of ``OMP_WAIT_POLICY=passive`` it must be told before torch is
imported; but as its manual says under ``GOMP_SPINCOUNT``, it also spins less while a process has more OpenMP threads
than cores. So a thread of Python is kept that has some of its own, which only sleep.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

STAY_SECONDS = 1.0
"""After the last use the threads end."""
MOST_EXTRA = 8
NAME = "photophone-calm"
SHARED_NUMBERS = 200_000
"""Numbers from which on torch shares the work of an addition among threads, by far."""


@cache
def can_calm() -> bool:
    """Whether torch computes with GNU OpenMP."""
    return any((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))


class Keeper:
    """The thread of Python that keeps further threads of OpenMP, for as long as they are used.

    Attributes:
        used: the last time.
        ended: set when the process ends.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.used = 0.0
        self.thread: threading.Thread | None = None
        self.ended = threading.Event()

    def use(self, extra: int, ask: Callable[[int], object]) -> None:
        """Keep ``extra`` threads a while longer; they are those of the first use."""
        with self.lock:
            self.used = time.monotonic()
            if not self.ended.is_set() and (self.thread is None or not self.thread.is_alive()):
                self.thread = threading.Thread(target=self._keep, args=(extra, ask), name=NAME, daemon=True)
                self.thread.start()

    def _keep(self, extra: int, ask: Callable[[int], object]) -> None:
        torch.get_num_threads()  # torch's own choice for a new thread, which would come later
        ask(extra + 1)
        torch.zeros(SHARED_NUMBERS).add_(1)
        while (left := self.used + STAY_SECONDS - time.monotonic()) > 0 and not self.ended.wait(left):
            pass

    def end(self) -> None:
        """Wait for the thread. Python ends a daemon that is still within torch by force, which aborts the process."""
        with self.lock:
            self.ended.set()
        if self.thread is not None:
            self.thread.join()


KEEPER = Keeper()
atexit.register(KEEPER.end)


def calm(count: int, cores: int, ask: Callable[[int], object]) -> bool:
    """Let the process's threads spin less for a second or so.

    Args:
        count: threads that compute.
        cores: those that the process may use.
        ask: gives the calling thread so many threads.

    Returns:
        False where that cannot be done.
    """
    extra = max(1, cores - count + 1)
    if not can_calm() or extra > MOST_EXTRA:
        return False
    KEEPER.use(extra, ask)
    return True
