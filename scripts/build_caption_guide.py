"""Write the guide that makes ordinary prompts into captions of the training data, beside a vocabulary of captions."""

from __future__ import annotations

import argparse
from pathlib import Path

from photophone.core.command import run_command
from photophone.core.files import check_target
from photophone.data.image_sources import read_lines
from photophone.text.caption_guide import FILE, LEAST_STYLES, learn_guide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("captions", nargs="+", type=Path, help=".jsonl files of prepared images (prepare_images.py)")
    parser.add_argument("--style", required=True, help="for prompts that name none")
    parser.add_argument("--least-styles", type=int, default=LEAST_STYLES, help="in which a subject was drawn (default "
                                                                               f"{LEAST_STYLES})")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the vocabulary")
    parser.add_argument("--overwrite", action="store_true", help="replace a guide that is there")
    arguments = parser.parse_args()
    check_target(arguments.output / FILE, arguments.overwrite)
    rows = [row for file in arguments.captions for row in read_lines(file)]
    guide = learn_guide(rows, arguments.style, arguments.least_styles)
    guide.save(arguments.output)
    print(f"{len(guide.subjects)} subjects and {len(guide.styles)} styles in {arguments.output / FILE}")


if __name__ == "__main__":
    run_command(main)
