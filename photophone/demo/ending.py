"""How the demo ends: nothing new is taken up, what runs is finished or refused, and answers are still fetched.

All of it takes less than the ten seconds that containers give a program between TERM and KILL.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

WORDS = "the demo is ending; try again when it is back"
"""What visitors are told whose wish is not fulfilled any more."""
FINISH_SECONDS = 4.0
"""So long running jobs may take to finish; then they are refused."""
REFUSE_SECONDS = 3.0
"""So long it may take to tell that to all who wait."""
FETCH_SECONDS = 0.7
"""So long after the last answer its files can be fetched."""


class Ending:
    """What requests and jobs must know of the end.

    Attributes:
        closed: set when nothing new is taken up.
        over: set when what still runs is refused.
    """

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._open = 0
        self._last = 0.0

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request that is answered while the block runs."""
        with self._lock:
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
                self._last = time.monotonic()

    def is_idle(self) -> bool:
        """Whether no request is being answered, and none was just now."""
        with self._lock:
            return not self._open and time.monotonic() - self._last > FETCH_SECONDS

    def wait(self) -> None:
        """End in order; gives back when all visitors have a result or a sentence, or after a few seconds."""
        self.closed.set()
        self._wait_for_idle(FINISH_SECONDS)
        self.over.set()
        self._wait_for_idle(REFUSE_SECONDS)

    def _wait_for_idle(self, seconds: float) -> None:
        limit = time.monotonic() + seconds
        while not self.is_idle() and time.monotonic() < limit:
            time.sleep(0.05)
