"""What lies between requests and workers: jobs, and bounded lines in which they wait.

A request lives in an event loop, its job is done in a worker's thread. The worker gives parts and an end; a client that
leaves, or a deadline, tells the worker that the job is not wanted any more.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

LONGEST_WAIT = 60
"""Seconds that clients are told to wait, at most."""


class Full(Exception):
    """A line holds as many jobs as it may.

    Args:
        seconds: after which it is worth to ask again.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many requests wait; try again in {seconds} s")
        self.seconds = seconds


class Refused(Exception):
    """What a client asks for cannot be done; the words are for it."""


class TooLate(Exception):
    """A job was not done at its deadline."""


class Job:
    """The work of one request, made within its event loop.

    Args:
        order: what is to be done, for the worker.
        seconds: until its deadline.
    """

    def __init__(self, order: Any, seconds: float) -> None:
        self.order = order
        self.made_at = time.monotonic()
        self.deadline = self.made_at + seconds
        self.told: Any = None  # what the worker says beside the parts, when all are there
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self._left = threading.Event()

    # in the worker's thread ---------------------------------------------------------------------------------------

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for it, and its time is not over."""
        return not self._left.is_set() and time.monotonic() < self.deadline

    def give(self, part: Any) -> None:
        """Hand over a part of the result."""
        self._tell("part", part)

    def end(self, error: Exception | None = None) -> None:
        """Say that no part comes any more, and why, where something went wrong."""
        self._tell("end", error)

    def _tell(self, kind: str, value: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._events.put_nowait, (kind, value))

    # in the event loop --------------------------------------------------------------------------------------------

    async def parts(self) -> AsyncIterator[Any]:
        """What the worker gives. A caller that stops early, or is cancelled, cancels the work.

        Raises:
            TooLate: the deadline came first.
            Exception: what the worker ended with.
        """
        try:
            while True:
                try:
                    async with asyncio.timeout(max(0.0, self.deadline - time.monotonic())):
                        kind, value = await self._events.get()
                except TimeoutError as error:
                    raise TooLate("this took too long and was stopped; ask for less, or when less is going on"
                                  ) from error
                if kind == "part":
                    yield value
                elif value is None:
                    return
                else:
                    raise value
        finally:
            self.leave()

    def leave(self) -> None:
        """Tell the worker that nobody waits any more."""
        self._left.set()


class Line:
    """Jobs that wait for one worker, first come first served.

    Args:
        most: that wait.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.seconds_each = 0.5
        """That a job takes lately."""
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        """Jobs that wait and are wanted."""
        with self._changed:
            self._drop_unwanted()
            return len(self._jobs)

    def check_room(self) -> None:
        """Refuse a job that would not fit.

        Raises:
            Full: it would not.
        """
        waiting = len(self)
        if waiting >= self.most:
            raise Full(min(LONGEST_WAIT, max(1, math.ceil(waiting * self.seconds_each))))

    def join(self, job: Job) -> None:
        """Let a job wait.

        Raises:
            Full: as many wait as may.
        """
        with self._changed:
            self.check_room()
            self._jobs.append(job)
            self._changed.notify_all()

    def take(self, most: int, wait: float | None = 0.0) -> list[Job]:
        """The next jobs that are wanted, at most so many.

        Args:
            most: jobs.
            wait: seconds to wait for the first; None: until there is one, or the line is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed, wait)
            self._drop_unwanted()
            return [self._jobs.popleft() for _ in range(min(most, len(self._jobs)))]

    def took(self, seconds: float, jobs: int = 1) -> None:
        """Remember how long jobs took together."""
        self.seconds_each += 0.2 * (seconds / max(1, jobs) - self.seconds_each)

    def close(self) -> None:
        """Let :meth:`take` wait no longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether nothing comes any more."""
        return self._closed

    def _drop_unwanted(self) -> None:
        if not all(job.is_wanted for job in self._jobs):
            self._jobs = deque(job for job in self._jobs if job.is_wanted)
