"""How commands and scripts end: users' errors in one line, and in order when they are told to stop.

Exit codes: 0; 2 for a user's error (one line on stderr, no traceback); 128 and the number of the signal that ended it
(130 for INT, which is Ctrl-C; 143 for TERM); 1 for anything else.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from photophone.core.files import NoSpace
from photophone.core.privacy import keep_commands_quiet

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
AGAIN_SECONDS = 0.01
"""After which a signal comes again that came at a bad moment."""
WAYS_OUT = {
    errno.ENOENT: "check the path",
    errno.EACCES: "choose a place that you may read and write",
    errno.EPERM: "choose a place that you may read and write",
    errno.EROFS: "choose a place that can be written",
    errno.ENOTDIR: "a part of the path before the last is a file; choose a folder",
    errno.EISDIR: "a file is meant; add a file name",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOSPC: "the disk is full; make room, or choose another disk",
    errno.EDQUOT: "your share of the disk is used up; make room, or choose another disk",
    errno.EFBIG: "the file is larger than the system lets files be; see `ulimit -f`, or choose another disk",
    errno.ELOOP: "links lead in a circle; give the file itself",
    errno.EIO: "the disk fails; choose another one",
    errno.EMFILE: "too many files are open; raise `ulimit -n`",
}


@contextmanager
def as_command(name: str) -> Iterator[None]:
    """Run the block as a command.

    Args:
        name: begins the line of an error.

    Raises:
        SystemExit: 2 after a user's error; see this module for all codes.
    """
    keep_commands_quiet()
    try:
        with ending_in_order():
            yield
    except BrokenPipeError:  # who read our output is gone
        silence_stdout()
        sys.exit(1)
    except (ValueError, OSError) as error:
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except ImportError as error:
        if "photophone[" not in str(error):  # not one of ours that names the extra to install
            raise
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        sys.exit(2)


def run_command(main: Callable[[], None]) -> None:
    """``main()`` under :func:`as_command`, for scripts."""
    with as_command(Path(sys.argv[0]).name):
        main()


def one_line(error: Exception) -> str:
    """What went wrong and the way out, for people: path, reason, what to do."""
    if isinstance(error, OSError) and error.errno and error.strerror and not isinstance(error, NoSpace):
        told = f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
        way_out = WAYS_OUT.get(error.errno)
        return " ".join(f"{told}; {way_out}".split()) if way_out else " ".join(told.split())
    words = error.strerror if isinstance(error, NoSpace) else str(error)
    return " ".join(words.split()) or type(error).__name__


def silence_stdout() -> None:
    """Let what is left in the buffer of standard output go nowhere: nobody reads it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@contextmanager
def on_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call ``handler`` on TERM, INT and HUP while the block runs.

    Signals that this process was started to ignore (``nohup``, jobs in the background) stay ignored.
    """
    former = {}
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                former[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let the first TERM, INT or HUP end the block by a SystemExit, so that what is temporary is removed.

    The second is ignored, because that takes a moment; the third ends the process at once.
    """
    seen: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        if _within_callback(frame):
            threading.Timer(AGAIN_SECONDS, signal.raise_signal, [number]).start()
            return
        seen.append(number)
        if len(seen) == 1:
            raise SystemExit(128 + number)
        if len(seen) > 2:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    with on_signals(end):
        yield


def _within_callback(frame: FrameType | None) -> bool:
    """Whether C code called what runs: soundfile, which reads and writes through functions of Python. An exception is
    only printed there, and then the file cannot be written."""
    while frame is not None:
        code = frame.f_code
        if code.co_name.startswith("vio_") and Path(code.co_filename).name == "soundfile.py":
            return True
        frame = frame.f_back
    return False


class Stop:
    """Whether a signal asked to stop; see :func:`stopping_in_order`.

    Attributes:
        signal: the first one, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """That the process ends with."""
        return 128 + self.signal if self.signal else 0


@contextmanager
def stopping_in_order() -> Iterator[Stop]:
    """Only note the first TERM, INT or HUP: the block looks for it where it can stop, and saves. A second one ends it
    by a SystemExit."""
    stop = Stop()

    def note(number: int, frame: FrameType | None) -> None:
        if stop:
            raise SystemExit(128 + number)
        stop.signal = signal.Signals(number)

    with on_signals(note):
        yield stop
