"""What tests share; its place also lets all of them import :mod:`tiny`."""

import io
import os
import shutil
import sys

os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything imports Triton: its kernels run without a GPU here

import pytest  # noqa: E402
import torch  # noqa: E402
from tiny import small_pipeline  # noqa: E402

from photophone import cli  # noqa: E402

torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(scope="session")
def pipeline():
    return small_pipeline()


@pytest.fixture(scope="session")
def saved(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    """A saved pipeline to damage."""
    return shutil.copytree(saved, tmp_path / "copy")


@pytest.fixture
def run(monkeypatch, capfd):
    """``run(*arguments)`` gives the exit code, stdout and stderr of the command line."""
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["photophone", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        output = capfd.readouterr()
        assert "Traceback" not in output.err
        return stop.value.code or 0, output.out, output.err
    return call


@pytest.fixture
def run_binary(monkeypatch, capfdbinary):
    """``run`` with bytes of standard input, ``given``, and of standard output."""
    def call(*arguments, given=b""):
        monkeypatch.setattr(sys, "argv", ["photophone", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        output = capfdbinary.readouterr()
        assert b"Traceback" not in output.err
        return stop.value.code or 0, output.out, output.err.decode()
    return call
