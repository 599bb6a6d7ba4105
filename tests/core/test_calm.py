"""The thread that keeps sleeping threads of OpenMP."""

import subprocess
import sys

PROGRAM = """
import threading, torch
from photophone.core.calm import KEEPER

within = threading.Event()

def ask(count):
    within.set()
    for _ in range(50):  # the process ends meanwhile
        torch.ones(600, 600) @ torch.ones(600, 600)
    print("done")

KEEPER.use(1, ask)
within.wait()
"""


def test_a_process_that_ends_waits_for_it():
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_no_thread_is_begun_at_the_end():
    program = "from photophone.core.calm import KEEPER\nKEEPER.end()\nKEEPER.use(1, print)\nprint(KEEPER.thread)"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "None\n")
