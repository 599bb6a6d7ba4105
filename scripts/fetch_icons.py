"""Turn packages of SVG icons into the training format, with the licence of each set beside every caption.

Give the file that `npm pack @iconify-json/openmoji` writes, the folder of such a package, or its name, which npm
fetches.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

from tqdm import tqdm

from photophone.core.command import run_command
from photophone.core.files import check_targets
from photophone.data.icons import draw_with_alpha, find_renderer, read_icons
from photophone.data.images import write_prepared


def fetch(name: str, folder: str) -> Path:
    """The file of a package that npm fetches.

    Raises:
        ValueError: npm is not there, or has no such package.
    """
    try:
        done = subprocess.run(["npm", "pack", "--silent", "--pack-destination", folder, "--", name],
                              capture_output=True, text=True, check=False)
    except OSError as error:
        raise ValueError(f"npm cannot be run ({error}); install it, or give the file of the package") from error
    if done.returncode:
        raise ValueError(f"npm cannot fetch {name}: {done.stderr.strip()[-200:]}")
    return Path(folder) / done.stdout.split()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+", help="files of packages, folders, or names such as "
                                                   "@iconify-json/openmoji")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--size", type=int, default=64, help="pixels per side (default 64)")
    parser.add_argument("--style", help="words that end each caption (default: the title of the set)")
    parser.add_argument("--alpha", action="store_true", help="write the opacity of the drawings too, as `alphas`: what "
                                                             "train_matting.py learns from")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    arguments = parser.parse_args()
    images, alphas, rows, skipped = [], [], [], 0
    check_targets([arguments.output, arguments.output.with_suffix(".jsonl")], arguments.overwrite)
    render = find_renderer()
    for source in arguments.sources:
        with tempfile.TemporaryDirectory() as folder:
            package = Path(source) if Path(source).exists() else fetch(source, folder)
            for icon in tqdm(list(read_icons(package, arguments.style)), unit="icon", desc=source):
                try:
                    image, alpha = draw_with_alpha(icon.svg, arguments.size, render)
                    images.append(image)
                    alphas.append(alpha)
                    rows.append(icon.fields)
                except ValueError:
                    skipped += 1
    write_prepared(images, rows, arguments.output, alphas if arguments.alpha else None)
    print(f"{len(images)} icons of {arguments.size}x{arguments.size} in {arguments.output}, {skipped} skipped; "
          f"licences: {', '.join(sorted({row['licence'] for row in rows}))}")


if __name__ == "__main__":
    run_command(main)
