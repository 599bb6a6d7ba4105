"""How many threads the processor's work gets: chosen for each call of a model, and put back after it.

torch starts a thread for every core. Threads wait for each other at the end of every operation, and spin while they
wait: where a partner waits for a core, because other programs run or a container has a quota, small operations take
many times as long. So a call gets no more threads than

1. its operations are worth: one for each ``WORK_PER_THREAD`` multiply-adds of a step, and any number from
   ``LARGE_WORK`` on;
2. there are cores for: those of the process's affinity, and those that its control groups allow;
3. torch has in the calling thread (``OMP_NUM_THREADS``, :func:`torch.set_num_threads`).

:func:`set_threads`, or the environment variable ``PHOTOPHONE_THREADS``, replaces 1 and 2; 3 holds even then.

While more wants to run than there are cores, codecs, tokenizers and enhancers take only the cores that are left: their
sums are not shared among threads, and came out the same to the last bit with any number of them. Sums of generators do
not, so what else runs does not change their number, and a seed gives the same to the last bit; their threads sleep
rather than spin then (:mod:`photophone.core.calm`).

The number belongs to the calling thread: other threads of Python keep theirs, also those that start meanwhile.
:func:`torch.set_num_threads` would give it to all that start later, so OpenMP and MKL are asked directly. Where they
cannot be, nothing is changed.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

from photophone.core.calm import calm
from photophone.core.cores import MACHINE, other_tasks, usable_cores

ENVIRONMENT = "PHOTOPHONE_THREADS"
MOST_THREADS = 1024
WORK_PER_THREAD = 5_000_000
"""Multiply-adds of a step. Two threads make 4 M (a sentence, word by word) 1.05 to 1.15 times as fast for twice the
processor time, 12 M (four images) 1.5 times, 50 M 1.7 times."""
LARGE_WORK = 32_000_000
"""From here on a step is worth all threads."""
LOOK_SECONDS = 0.05
"""Between two looks at what else runs; ten times that while there is much."""

Part = TypeVar("Part")

_lock = threading.Lock()
_here = threading.local()
_sizes: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
_running: dict[int, int] = {}  # threads in use, by the threads of Python that are within a call
_set: list[int] = []  # what set_threads asked for


def check_threads(value: object, name: str) -> int:
    """A number of threads.

    Raises:
        ValueError: no whole number of 1..``MOST_THREADS``.
    """
    try:
        count = int(str(value))
    except ValueError:
        count = 0
    if isinstance(value, bool) or not 1 <= count <= MOST_THREADS:
        raise ValueError(f"{name} must be a whole number of 1 to {MOST_THREADS} threads, got {value!r}")
    return count


def set_threads(count: int | None) -> None:
    """Let every call of a model use ``count`` threads, or with None as many as the library chooses.

    It comes before ``PHOTOPHONE_THREADS``; torch's own number in the calling thread remains the upper bound.

    Raises:
        ValueError: no whole number of 1..``MOST_THREADS``.
    """
    _set[:] = [] if count is None else [check_threads(count, "count")]


def asked_threads() -> int | None:
    """What :func:`set_threads` or the environment asks for, or None.

    Raises:
        ValueError: the environment holds something else than a number of threads.
    """
    if _set:
        return _set[0]
    text = os.environ.get(ENVIRONMENT)
    return check_threads(text, ENVIRONMENT) if text else None


def worth(work: int) -> int:
    """Threads that a step of ``work`` multiply-adds is worth."""
    return MOST_THREADS if work >= LARGE_WORK else max(1, work // WORK_PER_THREAD)


def choose_threads(work: int, bound: int) -> tuple[int, str]:
    """Threads for steps of ``work`` multiply-adds where torch has ``bound``, and why, in a few words."""
    asked = asked_threads()
    if asked is not None:
        name = "set_threads" if _set else ENVIRONMENT
        return min(asked, bound), f"{name}={asked}" + (f", torch has {bound}" if bound < asked else "")
    count, why = min((bound, f"torch has {bound}"), (worth(work), "small operations"), key=lambda choice: choice[0])
    if count > 1:
        cores = usable_cores()
        count, why = (cores.count, cores.why) if cores.count <= count else (count, why)
    return count, why


def _others(room: int) -> int:
    """Threads that want to run beside those of this call; for more than ``room`` of them it is looked twice."""
    now, seen = time.monotonic(), getattr(_here, "seen", None)
    apart = LOOK_SECONDS if seen is None or seen[1] <= room else 10 * LOOK_SECONDS  # it takes time on a busy machine
    if seen is None or now - seen[0] > apart:
        _here.seen = seen = (now, other_tasks(room))
    with _lock:
        return seen[1] + sum(count for owner, count in _running.items() if owner != threading.get_ident())


def size(model: nn.Module) -> int:
    """Numbers in all weights of a model; they are counted once."""
    if model not in _sizes:
        _sizes[model] = sum(weight.numel() for weight in model.parameters())
    return _sizes[model]


class Region:
    """The threads of one call.

    Args:
        work: multiply-adds of a step; None: the threads stay as they are.
        gives_way: take no more threads than other programs leave cores for.

    Attributes:
        count: threads in use, or None for those that torch has.
        why: in a few words.
    """

    def __init__(self, work: int | None, gives_way: bool = False) -> None:
        self.work = work
        self.gives_way = gives_way
        self.count: int | None = None
        self.why = ""

    def begin(self) -> None:
        """Choose and use a number of threads.

        Raises:
            ValueError: the environment asks for something else than a number.
        """
        self.count, self.why = choose_threads(self.work, _here.bound)
        if self.gives_way and self.count > 1 and asked_threads() is None:
            self._give_way()
        _ask(self.count)
        with _lock:
            _running[threading.get_ident()] = self.count
        self.adapt()

    def _give_way(self) -> None:
        """Leave the cores that other programs use to them, but for one; and spin less in what runs around the call."""
        left = max(1, MACHINE - _others(MACHINE - self.count))
        if left < self.count:
            calm(self.count, usable_cores().count, _ask)
            self.count, self.why = left, f"other programs leave {left} of {MACHINE} cores"

    def adapt(self) -> None:
        """Spin less while other programs run: to be called between steps, for they may have begun or ended."""
        if self.count is None or self.count == 1:
            return
        room = MACHINE - self.count
        if _others(room) > room:
            calm(self.count, usable_cores().count, _ask)


@contextmanager
def fitting_threads(model: nn.Module, places: int, gives_way: bool = False) -> Iterator[Region]:
    """Give the block threads that fit a model, and the calling thread its own back behind it.

    Calls may be nested: each is given what fits it, within what torch had before the outermost. Models on other
    devices and compiled ones, which are compiled for a number of threads, change nothing.

    Args:
        model: whose operations the block runs.
        places: vectors that go through its weights in one step: rows, tokens or frames at once.
        gives_way: take no more threads than other programs leave cores for: for what has the same result with any
            number of them.
    """
    if torch.compiler.is_compiling() or not _is_ours(model):
        yield Region(None)
        return
    with threads_for(places * size(model), gives_way) as region:
        yield region


@contextmanager
def threads_for(work: int, gives_way: bool = False) -> Iterator[Region]:
    """The same for operations of ``work`` multiply-adds on the processor, whatever makes them."""
    if not can_choose():
        yield Region(None)
        return
    outermost, before = not hasattr(_here, "bound"), torch.get_num_threads()
    if outermost:
        _here.bound = before
    former = _running.get(threading.get_ident())
    region = Region(work, gives_way)
    local = _ask(before)  # MKL's own number, which may be none
    try:
        region.begin()
        yield region
    finally:
        _put_back(before, local)
        with _lock:
            if former is None:
                _running.pop(threading.get_ident(), None)
            else:
                _running[threading.get_ident()] = former
        if outermost:
            del _here.bound


def each_with_threads(parts: Iterable[Part], model: nn.Module, places: int) -> Iterator[Part]:
    """The same parts, each of them made within :func:`fitting_threads`; between them the caller has its own threads."""
    parts = iter(parts)
    try:
        while True:
            with fitting_threads(model, places):
                try:
                    part = next(parts)
                except StopIteration:
                    return
            yield part
    finally:
        getattr(parts, "close", lambda: None)()


def _is_ours(model: nn.Module) -> bool:
    """Whether the threads of a call can and may be chosen."""
    weight = next(model.parameters(), None)
    if weight is None or weight.device.type != "cpu" or _setters()[0] is None:
        return False
    if "torch._dynamo" not in sys.modules:  # nothing was compiled
        return True
    return not any(part._compiled_call_impl is not None for part in model.modules())


@cache
def _setters() -> tuple[ctypes._CFuncPtr | None, ctypes._CFuncPtr | None]:
    """Of the OpenMP that torch computes with, and of its MKL; None for what is not there."""
    torch.get_num_threads()
    folder = Path(torch.__file__).parent / "lib"
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        try:
            library = ctypes.CDLL(str(folder / name))
        except OSError:
            continue
        return getattr(library, "omp_set_num_threads", None), getattr(library, "MKL_Set_Num_Threads_Local", None)
    return None, None


def told_threads() -> dict[str, Any]:
    """What this thread of Python would use and why, for people: torch's own number, that of small and large operations.

    Raises:
        ValueError: the environment asks for something else than a number.
    """
    bound = torch.get_num_threads()
    if not can_choose():
        return {"torch": bound, "small": bound, "large": bound, "why": "torch's OpenMP cannot be asked"}
    count, why = choose_threads(LARGE_WORK, bound)
    return {"torch": bound, "small": choose_threads(1, bound)[0], "large": count, "why": why}


def can_choose() -> bool:
    """Whether torch's OpenMP can be asked for a number of threads in one thread of Python."""
    return _setters()[0] is not None


def _ask(count: int) -> int:
    """Let the calling thread have ``count`` threads; gives what MKL had of its own, 0 for nothing."""
    openmp, mkl = _setters()
    openmp(count)
    return 0 if mkl is None else mkl(count)


def _put_back(count: int, local: int) -> None:
    openmp, mkl = _setters()
    openmp(count)
    if mkl is not None:
        mkl(local)
