"""Compiled code in the user's cache: what is damaged there is compiled again, never loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from photophone.kernels import native

pytestmark = pytest.mark.skipif(native.compiler() is None, reason="no C++ compiler")
SOURCE = 'extern "C" int answer() { return 42; }\n'
ASK = """
from photophone.kernels import native
native.__file__ = {file!r}
print(native.load("answer")[0].answer())
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The cache folder, in which "answer" was compiled."""
    (tmp_path / "answer.cpp").write_text(SOURCE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(native, "__file__", str(tmp_path / "native.py"))
    library, why = native.load.__wrapped__("answer")
    assert library.answer() == 42 and why.startswith("compiled by")
    return tmp_path / "cache" / "photophone" / "native"


def damaged(data, damage):
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return {"empty": b"", "half": data[: len(data) // 2], "flipped": bytes(changed), "longer": data + b"x"}[damage]


@pytest.mark.parametrize("part", ["so", "sha256"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "flipped", "longer"])
def test_what_is_damaged_counts_as_damaged(files, part, damage):
    library, file = next(files.glob("answer-*.so")), next(files.glob(f"answer-*.{part}"))
    assert native.is_whole(library)
    data = file.read_bytes()
    file.unlink()  # the file that is loaded stays as it is
    if damage != "missing":
        file.write_bytes(damaged(data, damage))
    assert not native.is_whole(library)


@pytest.mark.parametrize("damage", ["empty", "half"])
def test_what_is_damaged_is_compiled_again(files, damage):
    """In a process of its own: loading a library that was cut short kills the process."""
    file = next(files.glob("answer-*.so"))
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(damaged(data, damage))
    done = subprocess.run([sys.executable, "-c", ASK.format(file=native.__file__)], capture_output=True, text=True,
                          check=False, env={"PATH": os.environ["PATH"],
                                            "XDG_CACHE_HOME": str(files.parents[1]),
                                            "PYTHONPATH": str(Path(__file__).parents[2])})
    assert done.returncode == 0 and done.stdout == "42\n", f"exit {done.returncode}: {done.stderr}"
    assert native.is_whole(file) and len(list(files.iterdir())) == 2


def test_what_is_whole_is_not_compiled_again(files):
    file = next(files.glob("answer-*.so"))
    before = file.stat().st_mtime_ns
    assert native.load.__wrapped__("answer")[0].answer() == 42
    assert file.stat().st_mtime_ns == before
