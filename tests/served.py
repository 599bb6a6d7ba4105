"""A real server for tests and benchmarks: ``photophone serve`` in a process of its own."""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Served:
    """A running server.

    Attributes:
        address: ``http://127.0.0.1:PORT``.
        process: of it.
    """

    def __init__(self, *arguments, **environment):
        command = [sys.executable, "-m", "photophone.cli", "serve", "--port", "0", *map(str, arguments)]
        # a pipe that nobody reads is full some day, and the server stands still
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the server)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._errors, text=True,
                                        env={**os.environ, "PYTHONPATH": str(ROOT), **environment})
        line = self.process.stdout.readline()
        if "http://" not in line:
            raise RuntimeError(self.errors())
        self.address = line.split()[2]

    def memory(self):
        """Bytes that the process holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def end(self, number=signal.SIGTERM, seconds=120):
        """Send a signal and wait; exit code and what stood on standard error."""
        self.process.send_signal(number)
        self.process.communicate(timeout=seconds)
        return self.process.returncode, self.errors()

    def errors(self):
        """What it wrote on standard error so far."""
        file = self._errors.fileno()  # the place in the file is the server's, too: it stays
        return os.pread(file, os.fstat(file).st_size, 0).decode("utf-8", "replace")


def watched(folder):
    """The environment of a process whose home and temporary files lie in ``folder``, and whose look-ups of hosts are
    written down there."""
    (folder / "tmp").mkdir()
    return {"PYTHONPATH": f"{ROOT / 'tests' / 'watch'}{os.pathsep}{ROOT}", "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"), "WATCH_LOG": str(folder / "hosts.log")}


def check_watched(folder):
    """Nothing was looked up, and no file is left but for caches of ours."""
    assert not (folder / "hosts.log").exists() and not list((folder / "tmp").iterdir())
    files = [path.relative_to(folder / "home") for path in (folder / "home").rglob("*") if path.is_file()]
    assert {path.parts[:2] for path in files} <= {(".cache", "photophone")}


@contextmanager
def served(*arguments, **environment):
    """A server while the block runs."""
    server = Served(*arguments, **environment)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()
