"""Work of the demo: one job a model at a time, with progress, stopped when its visitor cancels or leaves."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from photophone.core.limits import DEMO_JOB_SECONDS
from photophone.demo.ending import WORDS, Ending

TICK_SECONDS = 0.2
Emit = Callable[[str, Any], None]


class Stopped(Exception):
    """Raised inside work whose visitor no longer wants it."""


class Worker:
    """One thread that runs jobs one after the other.

    Args:
        name: of the thread.
        ending: of the demo: jobs that it finds waiting are refused, and in the end those that run, too.
    """

    def __init__(self, name: str, ending: Ending | None = None) -> None:
        self.ending = ending or Ending()
        self.pool = ThreadPoolExecutor(1, thread_name_prefix=f"demo-{name}")

    def run(self, work: Callable[[Emit], Any], seconds: float = DEMO_JOB_SECONDS) -> Iterator[tuple[str, Any]]:
        """Do ``work(emit)`` in the thread and yield what it emits.

        ``emit(kind, value)`` yields ``(kind, value)`` here, and raises inside the work when the iteration was closed
        or the time is over. Between events ``("tick", None)`` comes, so that a closing is noticed.

        Yields:
            what is emitted, and at the end ``("result", RETURNED)``.

        Raises:
            ValueError: the time is over, the demo is ending, or the work refused its input.
        """
        events: queue.Queue[tuple[str, Any]] = queue.Queue()
        stop = threading.Event()

        def job() -> Any:
            limit = time.monotonic() + seconds

            def emit(kind: str, value: Any) -> None:
                if stop.is_set():
                    raise Stopped
                if time.monotonic() > limit:
                    raise ValueError(f"this took longer than {seconds:g} s and was stopped; ask for less")
                events.put((kind, value))

            emit("tick", None)  # a job that was cancelled while it waited does not start
            self.refuse(self.ending.closed)
            return work(emit)

        self.refuse(self.ending.closed)
        future = self.pool.submit(job)
        try:
            while not (future.done() and events.empty()):
                self.refuse(self.ending.over)
                try:
                    yield events.get(timeout=TICK_SECONDS)
                except queue.Empty:
                    yield "tick", None
            yield "result", future.result()
        finally:
            stop.set()
            future.cancel()

    @staticmethod
    def refuse(when: threading.Event) -> None:
        """Tell the visitor that the demo is ending, if it is so far.

        Raises:
            ValueError: it is.
        """
        if when.is_set():
            raise ValueError(WORDS)

    def close(self) -> None:
        """Let the running job end and start no other."""
        self.pool.shutdown(wait=False, cancel_futures=True)


def on_step(emit: Emit) -> Callable[..., dict]:
    """A ``callback_on_step_end`` for pipelines that reports each step as ``("step", (step, total))``."""
    def callback(pipeline: Any, step: int, total: int, values: dict) -> dict:
        emit("step", (step, total))
        return values
    return callback
