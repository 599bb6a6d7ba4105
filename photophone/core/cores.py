"""The processor's cores: those that this process may use, and what else wants to run on the machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

MACHINE = os.cpu_count() or 1
PROC = Path("/proc")
ROOT = Path("/")
QUOTA_SECONDS = 5
"""After so long the quotas of control groups are read again: they may change while a container runs."""
LOOKS = 3
"""At most so many: what runs for a moment only is no load."""
LOOK_APART_SECONDS = 0.0005


@dataclass(frozen=True)
class Cores:
    """Cores that this process may use.

    Args:
        count: of them, at least 1.
        machine: those of the whole machine.
        why: what decides the number, in a few words.
    """

    count: int
    machine: int
    why: str


def usable_cores() -> Cores:
    """Cores that affinity and control groups leave to this process."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else MACHINE
    count, why = allowed, "all cores" if allowed >= MACHINE else f"an affinity of {allowed} of {MACHINE} cores"
    quota = _quota(time.monotonic() // QUOTA_SECONDS)
    if quota is not None and max(1, int(quota)) < count:
        count, why = max(1, int(quota)), f"a quota of {quota:g} cores"
    return Cores(count, max(MACHINE, count), why)


@lru_cache(maxsize=1)
def _quota(moment: float) -> float | None:
    return quota_cores(PROC / "self", ROOT)


def quota_cores(process: Path, root: Path) -> float | None:
    """Cores that the control groups of a process allow it, of version 1 and 2, its parents' limits included; None: all.

    Args:
        process: its folder in /proc.
        root: of the file system that the mount points belong to.
    """
    limits = [limit for folder, is_new in _groups(process, root) for limit in [_limit(folder, is_new)] if limit]
    return min(limits, default=None)


def _groups(process: Path, root: Path) -> Iterator[tuple[Path, bool]]:
    """Folders of the groups that limit a process's time, up to the top; and whether they are of version 2."""
    try:
        mounts = (process / "mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        lines = (process / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    own = {}  # path of the process's group, by version
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "cpu" in controllers.split(","):
            own[False] = path
        elif not controllers:
            own[True] = path
    for line in mounts:
        mount, _, kind = line.partition(" - ")
        parts, kinds = mount.split(), kind.split()
        if len(parts) < 5 or len(kinds) < 3:
            continue
        is_new = kinds[0] == "cgroup2"
        limits_time = is_new or (kinds[0] == "cgroup" and "cpu" in kinds[2].split(","))
        if limits_time and is_new in own:
            top = root / parts[4].lstrip("/")
            yield from ((folder, is_new) for folder in _up(top, parts[3], own[is_new]))


def _up(top: Path, mounted: str, path: str) -> Iterator[Path]:
    """The folder of a group and those above it, below the mount point ``top``, which shows the group ``mounted``."""
    names = [name for name in path.split("/") if name]
    hidden = [name for name in mounted.split("/") if name]
    names = names[len(hidden):] if names[:len(hidden)] == hidden else []
    if ".." in names:  # a group outside the part that the process sees
        names = []
    for count in range(len(names), -1, -1):
        yield top.joinpath(*names[:count])


def _limit(folder: Path, is_new: bool) -> float | None:
    """Cores that one group allows, or None."""
    try:
        if is_new:
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max", no such file, or nothing that we know
        return None
    return cores if cores > 0 else None


def other_tasks(room: int) -> int:
    """Threads of other processes that run or want to run on this machine at the moment; 0 where nobody tells.

    Args:
        room: for so many; when there are more it is looked again, see ``LOOKS``.
    """
    least = None
    for look in range(LOOKS):
        if look:
            time.sleep(LOOK_APART_SECONDS)
        found = _runnable(PROC)
        if found is None:
            return 0
        found = max(0, found - 1)  # but for this thread
        if found:
            found = max(0, found + 1 - own_running(PROC / "self" / "task"))
        least = found if least is None else min(least, found)
        if least <= room:
            break
    return least


def _runnable(proc: Path) -> int | None:
    """Threads of the whole machine that run or could."""
    try:
        return int((proc / "loadavg").read_text(encoding="ascii").split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return None


def own_running(tasks: Path) -> int:
    """Threads of this process that run or could: those of OpenMP spin for a while when they have nothing to do."""
    count = 0
    try:
        names = os.listdir(tasks)
    except OSError:
        return 1
    for name in names:
        try:
            text = (tasks / name / "stat").read_bytes()
        except OSError:  # it ended
            continue
        count += text.rpartition(b")")[2].split()[:1] == [b"R"]
    return max(1, count)
