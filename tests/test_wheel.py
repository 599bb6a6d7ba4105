"""The wheel: its name, what is in it, and that it is whole without a compiler, too."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from photophone.kernels.native import build

ROOT = Path(__file__).parents[1]
LIBRARIES = [f"{name}-x86-64-{level}.{ending}" for name in build.SOURCES for level in build.LEVELS
             for ending in ("so", "sha256")]


def make_wheel(folder, path):
    """The wheel of this checkout, made with the programs of ``path`` only; without the large weights."""
    source = folder / "source"
    shutil.copytree(ROOT / "photophone", source / "photophone",
                    ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.sha256", "*.safetensors"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    environment = {name: value for name, value in os.environ.items() if name not in ("CXX", "PYTHONPATH")}
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index",
               "--disable-pip-version-check", "-w", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**environment, "PATH": path})
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def native_files(wheel):
    """Names of the files of the compiled code and its sources."""
    with zipfile.ZipFile(wheel) as archive:
        start = "photophone/kernels/native/"
        return {name.removeprefix(start) for name in archive.namelist() if name.startswith(start)}


SOURCES = {"__init__.py", "build.py", "barrier.h", "decode.cpp", "frames.cpp"}


@pytest.mark.skipif(not build.is_target() or build.compiler() is None,
                    reason="wheels bring compiled code for Linux on x86-64, made by a C++ compiler")
def test_the_wheel_brings_the_code_of_all_levels(tmp_path):
    wheel = make_wheel(tmp_path, os.environ["PATH"])
    assert wheel.name == "photophone-0.1.0-py3-none-linux_x86_64.whl"
    assert native_files(wheel) == {*SOURCES, *LIBRARIES}
    with zipfile.ZipFile(wheel) as archive:
        (information,) = (name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        assert "Root-Is-Purelib: false" in archive.read(information).decode()
        for name in LIBRARIES[::2]:
            data = archive.read(f"photophone/kernels/native/{name}")
            noted = archive.read(f"photophone/kernels/native/{name[:-3]}.sha256").decode()
            assert hashlib.sha256(data).hexdigest() == noted
        names = set(archive.namelist())
    assert {"photophone/demo/assets/player.js", "photophone/pretrained/tiny-speech/model_index.json"} <= names
    assert not any(name.startswith(("tests/", "benchmarks/", "scripts/")) for name in names)


def test_without_a_compiler_the_wheel_is_for_all(tmp_path):
    wheel = make_wheel(tmp_path, str(tmp_path / "nothing"))
    assert wheel.name == "photophone-0.1.0-py3-none-any.whl"
    assert native_files(wheel) == SOURCES
