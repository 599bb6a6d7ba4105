"""C++ for the processor, compiled on first use and kept in the user's cache; without a compiler there is none.

Sources lie beside this file. They are compiled for the very processor that runs them, and linked to the OpenMP library
that torch has loaded, so that both share one set of threads.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

from photophone.core.files import atomic_write, sync
from photophone.core.privacy import cache_folder

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-std=c++17", "-fPIC",
         "-fopenmp")
"""Without -ffast-math: it adds up in another order than the code says, and needs more registers than there are."""
SECONDS = 120
"""That a compiler may take."""


def compiler() -> str | None:
    """Path of the C++ compiler: that of the environment variable CXX, else g++, clang++ or c++ on the search path."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    return next((path for name in names if (path := shutil.which(name))), None)


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


def _build(source: Path, target: Path, program: str) -> None:
    openmp = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*"))
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / "code.o", Path(folder) / "code.so"
        for command in ([program, *FLAGS, "-c", str(source), "-o", str(made[0])],
                        [program, "-shared", str(made[0]), "-o", str(made[1]),
                         *(map(str, openmp) if openmp else ["-fopenmp"])]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
            if done.returncode:
                raise OSError(f"{program} failed: {done.stderr.strip()[:500]}")
        digest = _digest(made[1])
        sync(made[1])
        os.replace(made[1], target)  # whole or not at all, also when several processes compile
    with atomic_write(_digest_file(target)) as partial:
        partial.write_text(digest)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_file(target: Path) -> Path:
    return target.with_suffix(".sha256")


def _is_whole(target: Path) -> bool:
    """Whether a library is there as it was compiled: loading a file that was cut short can kill the process."""
    try:
        return _digest_file(target).read_text(encoding="utf-8") == _digest(target)
    except (OSError, ValueError):
        return False


@cache
def load(name: str) -> tuple[ctypes.CDLL | None, str]:
    """The library of ``name``.cpp, compiled if this processor has none yet; or None. And why, in a few words."""
    program = compiler()
    source = Path(__file__).with_name(f"{name}.cpp")
    if program is None or not hasattr(os, "getuid"):
        return None, "no C++ compiler"
    try:
        version = subprocess.run([program, "--version"], capture_output=True, timeout=SECONDS, check=True).stdout
        parts = (source.read_bytes(), version, " ".join(FLAGS).encode(), torch.__version__.encode(),
                 _processor().encode())
        mark = hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]
        target = library_folder() / f"{name}-{mark}.so"
        if not _is_whole(target):
            _build(source, target, program)
        return ctypes.CDLL(str(target)), f"compiled by {Path(program).name}"
    except (OSError, subprocess.SubprocessError) as error:
        return None, str(error)
