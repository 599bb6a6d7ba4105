"""The demo is told to end while visitors wait: each has a result or a sentence, and no file is left."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from visitors import IMAGE_DEFAULTS, SPEECH_DEFAULTS, Visitor

from photophone.demo.ending import WORDS, Ending
from photophone.demo.jobs import Worker

ROOT = Path(__file__).parents[2]
PATIENCE = 60


def start(folder):
    """A demo of images and speech whose home and temporary files lie in ``folder``, and its address."""
    (folder / "tmp").mkdir()
    watch = f"{ROOT / 'tests' / 'watch'}{os.pathsep}{ROOT}"
    environment = {**os.environ, "PYTHONPATH": watch, "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"),
                   "WATCH_LOG": str(folder / "hosts.log")}
    process = subprocess.Popen([sys.executable, "-m", "photophone.cli", "demo", "--enhance-model", "none"],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    return process, re.search(r"http://\S+", process.stdout.readline())[0]


def visit(address, index, ends, until):
    """Ask again and again until the demo ends; what each call came to goes to ``ends``."""
    visitor = Visitor(address)
    while time.monotonic() < until:
        try:
            if index % 3:
                state, answer = visitor.call("image", ["a red apple", 4, 7, False, *IMAGE_DEFAULTS])
            else:
                state, answer = visitor.call("speech", ["Who goes there? " * 9, 1.0, 7, False, *SPEECH_DEFAULTS])
            if state == "complete" and index % 3:
                picture = Image.open(io.BytesIO(visitor.fetch(answer[0][0]["image"])))
                assert np.asarray(picture).std() > 0
                ends.append("result")
            elif state == "complete":
                assert visitor.fetch(answer[1])[:4] == b"RIFF"
                ends.append("result")
            else:
                ends.append(str(answer))
                if WORDS in ends[-1]:
                    return
        except httpx.ConnectError:  # it is gone, and says so before a question is asked
            return
        except Exception as error:  # noqa: BLE001 (whatever else happened to a visitor is the finding)
            ends.append(f"cut: {error!r}")
            return


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, id="TERM"),
                                    pytest.param(signal.SIGINT, id="INT", marks=pytest.mark.slow)])
def test_all_visitors_have_a_result_or_a_sentence_and_no_file_is_left(tmp_path, number):
    process, address = start(tmp_path)
    try:
        ends: list[str] = []
        threads = [threading.Thread(target=visit, args=(address, index, ends, time.monotonic() + PATIENCE))
                   for index in range(12)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + PATIENCE
        while "result" not in ends and time.monotonic() < deadline:
            time.sleep(0.02)
        assert any(path.is_file() for path in (tmp_path / "tmp").rglob("*"))
        process.send_signal(number)
        assert process.wait(PATIENCE) == 128 + number
        for thread in threads:
            thread.join(PATIENCE)
    finally:
        process.kill()
        output = process.communicate()[0]
    assert "Traceback" not in output, output
    full = [end for end in ends if end.startswith("Queue is full")]
    sentences = [end for end in ends if WORDS in end]
    assert len(ends) == ends.count("result") + len(full) + len(sentences), ends
    assert sentences and ends.count("result") >= 1
    assert [path for path in (tmp_path / "tmp").rglob("*") if path.is_file()] == []
    assert not list((tmp_path / "tmp").iterdir()) and not (tmp_path / "hosts.log").exists()
    cached = [path.parts[:2] for path in (file.relative_to(tmp_path / "home") for file in (tmp_path / "home").rglob(
        "*") if file.is_file())]
    assert set(cached) <= {(".cache", "photophone")}


def test_a_job_that_runs_may_finish_and_one_that_waits_is_refused():
    ending = Ending()
    worker = Worker("test", ending)
    go = threading.Event()
    running = worker.run(lambda emit: go.wait(5) and "made")
    assert next(running) == ("tick", None)
    waiting = worker.run(lambda emit: "never")
    assert next(waiting) == ("tick", None)
    ending.closed.set()
    go.set()
    assert list(running)[-1] == ("result", "made")
    with pytest.raises(ValueError, match=WORDS):
        list(waiting)
    with pytest.raises(ValueError, match=WORDS):
        next(worker.run(lambda emit: "never"))


def test_in_the_end_what_still_runs_is_refused():
    ending = Ending()
    go = threading.Event()
    running = Worker("test", ending).run(lambda emit: go.wait(20))
    next(running)
    ending.closed.set()
    next(running)
    ending.over.set()
    with pytest.raises(ValueError, match=WORDS):
        list(running)
    go.set()


def test_the_end_waits_for_requests_and_not_for_ever(monkeypatch):
    monkeypatch.setattr("photophone.demo.ending.FINISH_SECONDS", 0.2)
    monkeypatch.setattr("photophone.demo.ending.REFUSE_SECONDS", 0.2)
    ending = Ending()
    with ending.request():
        assert not ending.is_idle()
        ending.wait()
    assert ending.closed.is_set() and ending.over.is_set()
