"""The command line ``photophone``: one file for each group of commands, each added to the application on import.

A new group is a module here, named in the import below; heavy imports stay inside its functions.
Exit codes: 0, 2 for a user's error (one line on stderr, no traceback), 1 for anything else.
"""

from __future__ import annotations

import sys

# each adds its commands
from photophone.cli import codec, demo, doctor, enhance, evaluate, image, models, speech, tokens  # noqa: F401
from photophone.cli.common import app


def main() -> None:
    """Entry point: turns users' errors into one line and exit code 2."""
    try:
        app()
    except (ValueError, FileNotFoundError, PermissionError, NotADirectoryError) as error:
        print(f"photophone: {error}", file=sys.stderr)
        sys.exit(2)
    except ImportError as error:
        if "photophone[" not in str(error):  # not one of ours that names the extra to install
            raise
        print(f"photophone: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
