"""C++ for the processor: wheels bring it compiled for levels of x86-64; elsewhere it is compiled on first use.

Sources lie beside this file, and in a wheel the libraries too; the best one that the processor can run is loaded. What
is compiled on first use is made for the very processor that runs it, and kept in the user's cache. Without either
there is none. All of it shares the OpenMP library that torch has loaded, so that there is one set of threads.

The environment variable PHOTOPHONE_NATIVE_LEVEL holds all of it to a level of x86-64, "v3" (AVX2) or "v4" (AVX-512):
for the same sums on different processors, or to see what another one would do.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import stat
import subprocess
from functools import cache
from pathlib import Path

import torch

from photophone.core.privacy import cache_folder
from photophone.kernels.native.build import (
    FLAGS,
    LEVELS,
    OWN,
    SECONDS,
    compile_source,
    compiler,
    is_target,
    is_whole,
    level_file,
)

LEVEL = "PHOTOPHONE_NATIVE_LEVEL"
"""Environment variable."""


def library_folder() -> Path:
    """Where compiled code is kept: a folder that only its user may write, made if it is missing.

    Raises:
        OSError: it cannot be made, or belongs to others.
    """
    folder = cache_folder() / "native"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{folder} can be written by others; code is not loaded from there")
    return folder


def _processor() -> str:
    """What the compiler's "native" depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.processor()


def levels() -> list[str]:
    """Levels of x86-64 that this processor can run and the environment allows, the best first; none on other machines.

    Raises:
        ValueError: the environment names a level that wheels have no code for, or this processor cannot run.
    """
    features = set(_processor().partition(":")[2].split())
    found = [level for level, needed in LEVELS.items() if is_target() and needed <= features]
    wanted = os.environ.get(LEVEL)
    if wanted and wanted not in found:
        raise ValueError(f"{LEVEL}={wanted!r} is no level that this processor runs: "
                         f"{', '.join(map(repr, found)) or 'it runs none'}; unset it for the best")
    return [wanted] if wanted else found


def _prebuilt(name: str) -> tuple[ctypes.CDLL, str] | None:
    """The library that came with the wheel, for the best level of this processor."""
    for level in levels():
        file = level_file(Path(__file__).parent, name, level)
        if is_whole(file):
            try:
                return ctypes.CDLL(str(file)), f"prebuilt for x86-64-{level}"
            except OSError:  # a C library that is too old, or no libgomp at all
                continue
    return None


@cache
def load(name: str) -> tuple[ctypes.CDLL | None, str]:
    """The library of ``name``.cpp: that of the wheel, else compiled if this processor has none yet; or None. And which,
    or why, in a few words."""
    found = _prebuilt(name)
    if found is not None:
        return found
    program = compiler()
    source = Path(__file__).with_name(f"{name}.cpp")
    if program is None or not hasattr(os, "getuid"):
        return None, "no C++ compiler"
    try:
        version = subprocess.run([program, "--version"], capture_output=True, timeout=SECONDS, check=True).stdout
        sources = [file.read_bytes() for file in (source, *sorted(source.parent.glob("*.h")))]
        own = f"-march=x86-64-{os.environ[LEVEL]}" if os.environ.get(LEVEL) else OWN
        parts = (*sources, version, " ".join((*FLAGS, own)).encode(), torch.__version__.encode(), _processor().encode())
        mark = hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]
        target = library_folder() / f"{name}-{mark}.so"
        if not is_whole(target):
            openmp = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*"))
            compile_source(source, target, program, [own], [str(file) for file in openmp] or ["-fopenmp"])
        return ctypes.CDLL(str(target)), f"compiled by {Path(program).name}"
    except (OSError, subprocess.SubprocessError) as error:
        return None, str(error)
