"""The command line ``photophone``: one file for each group of commands, each added to the application on import.

A new group is a module here, named in the import below; heavy imports stay inside its functions.
Exit codes are those of :mod:`photophone.core.command`.
"""

from __future__ import annotations

# each adds its commands
from photophone.cli import (  # noqa: F401
    codec,
    demo,
    doctor,
    enhance,
    evaluate,
    export,
    image,
    interleave,
    models,
    serve,
    speech,
    speech_times,
    tokens,
    transcribe,
    verify,
)
from photophone.cli.common import app
from photophone.core.command import as_command


def main() -> None:
    """Entry point: turns users' errors into one line and exit code 2, and ends in order when it is told to."""
    with as_command("photophone"):
        app()
