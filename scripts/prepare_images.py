"""Turn parquet files, image folders or webdataset shards into the training format."""

from __future__ import annotations

import argparse
from pathlib import Path

from photophone.core.command import run_command
from photophone.core.files import check_targets
from photophone.data.images import prepare_images

SHOWN = 10
"""Of files that belong to no image."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+", type=Path, help="parquet files, .tar shards or folders of images")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--size", type=int, default=64, help="pixels per side (default 64)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    arguments = parser.parse_args()
    check_targets([arguments.output, arguments.output.with_suffix(".jsonl")], arguments.overwrite)
    rest: list[str] = []
    written, skipped = prepare_images(arguments.sources, arguments.output, arguments.size, rest)
    print(f"{written} images of {arguments.size}x{arguments.size} in {arguments.output}, {skipped} corrupt skipped")
    if rest:
        shown = ", ".join(rest[:SHOWN]) + (", ..." if len(rest) > SHOWN else "")
        print(f"{len(rest)} files of the shards belong to no image: {shown}")


if __name__ == "__main__":
    run_command(main)
