"""How the C++ code is compiled: for this processor on first use, or for levels of x86-64 when a wheel is made.

``setup.py`` runs this file by itself, so it imports nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-std=c++17", "-fPIC", "-fopenmp",
         "-fno-exceptions", "-fno-rtti")
"""Without -ffast-math: it adds up in another order than the code says, and needs more registers than there are. Without
exceptions no symbol is younger than glibc 2.27 and GCC 7, which torch itself needs."""
OWN = "-march=native"
LINK = ("-fopenmp", "-Wl,-s")
"""Of wheels. The libgomp.so.1 that they ask for is the one that torch has loaded under this name, also where the system
has none."""
SECONDS = 120
"""That a compiler may take."""
SOURCES = ("decode", "frames")
V3 = frozenset({"avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"})
LEVELS = {
    "v4": V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "v3": V3,
}
"""Levels of x86-64 that wheels hold code for, the best first, and what /proc/cpuinfo must say of a processor."""


def compiler() -> str | None:
    """Path of the C++ compiler: that of the environment variable CXX, else g++, clang++ or c++ on the search path."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    return next((path for name in names if (path := shutil.which(name))), None)


def compile_source(source: Path, target: Path, program: str, flags: Sequence[str], link: Sequence[str]) -> None:
    """Compile one source into a library, whole or not at all, and write its digest beside it.

    Args:
        source: of C++.
        target: the library; its folder exists.
        program: the compiler.
        flags: beside FLAGS.
        link: what the library is linked with.

    Raises:
        OSError: the compiler failed.
        subprocess.SubprocessError: it took longer than SECONDS.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / "code.o", Path(folder) / "code.so"
        for command in ([program, *FLAGS, *flags, "-c", str(source), "-o", str(made[0])],
                        [program, "-shared", str(made[0]), "-o", str(made[1]), *link]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
            if done.returncode:
                raise OSError(f"{program} failed: {done.stderr.strip()[:500]}")
        mark = Path(folder) / "code.sha256"
        mark.write_text(digest(made[1]), encoding="ascii")
        for file, place in ((made[1], target), (mark, digest_file(target))):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
            os.replace(file, place)  # whole or not at all, also when several processes compile


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_file(target: Path) -> Path:
    """Where the digest of a library lies."""
    return target.with_suffix(".sha256")


def is_whole(target: Path) -> bool:
    """Whether a library is there as it was compiled: loading a file that was cut short can kill the process."""
    try:
        return digest_file(target).read_text(encoding="utf-8") == digest(target)
    except (OSError, ValueError):
        return False


def level_file(folder: Path, name: str, level: str) -> Path:
    """The library of a source for a level."""
    return folder / f"{name}-x86-64-{level}.so"


def is_target(system: str | None = None, machine: str | None = None) -> bool:
    """Whether wheels for this system hold compiled code: Linux on x86-64, and nothing else."""
    return ((system or sys.platform) == "linux" and (machine or platform.machine()) == "x86_64"
            and sys.maxsize > 2**32)


def build_levels(folder: Path, into: Path, program: str | None = None) -> tuple[list[Path], list[str]]:
    """Compile all sources for all levels.

    Args:
        folder: of the sources.
        into: folder for the libraries, made if it is missing.
        program: the compiler; None: :func:`compiler`.

    Returns:
        The libraries and their digests; and in a few words each, what could not be made.
    """
    if not is_target():
        return [], []
    program = program or compiler()
    if program is None:
        return [], ["no C++ compiler: the code is compiled where it is first used, if there is one there"]
    into.mkdir(parents=True, exist_ok=True)
    made, failed = [], []
    for name in SOURCES:
        for level in LEVELS:
            target = level_file(into, name, level)
            try:
                compile_source(folder / f"{name}.cpp", target, program, [f"-march=x86-64-{level}"], LINK)
            except (OSError, subprocess.SubprocessError) as error:
                failed.append(f"{target.name}: {error}")
                continue
            made += [target, digest_file(target)]
    return made, failed
