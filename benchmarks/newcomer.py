"""A newcomer's path, timed: a fresh clone and environment, a first image, speech, enhancement, a first training.

Everything happens in a temporary folder by the commands of docs/index.md, which holds the table that is printed.
The folder of images is the newcomer's own: about 100, each with its caption in a text file of the same name.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tables import add_json_option, publish

ROOT = Path(__file__).parents[1]
INSTALL = [
    ("environment and install, `[train]` included", "python3 -m venv .venv"),
    ("", "pip install '.[train]'"),
]
STEPS = [
    ("first image", 'photophone image "a red apple, 3d emoji" --seed 7 -o apple.png'),
    ("first speech", 'photophone speak "Light carries sound." --seed 1 -o light.wav'),
    ("first enhancement", "photophone enhance photophone/pretrained/tiny-enhance/noisy.flac -o clean.wav"),
    ("own images: prepare", "python scripts/prepare_images.py my_images/ -o data/mine.safetensors"),
    ("tokenize", "python scripts/tokenize_dataset.py data/mine.safetensors -o data/mine_tokens.safetensors "
                 "-t photophone/pretrained/tiny-image/image_tokenizer"),
    ("train, 200 steps", "python scripts/train_image_generator.py --config configs/finetune_image.yaml "
                         "--output runs/mine"),
    ("put together", "python scripts/build_pretrained.py -o my-model --name my-images --revision 1 --generator "
                     "runs/mine/export --image-tokenizer photophone/pretrained/tiny-image/image_tokenizer"),
    ("first image of the own model", 'photophone image "a red apple, 3d emoji" --model my-model --seed 7 -o mine.png'),
]
"""(row of the table, command in the folder of the clone); a step without a row counts to the one before."""
KEPT = ("apple.png", "light.wav", "clean.wav", "mine.png", "my-model", "runs/mine/metrics.jsonl")


def run(command: str, folder: Path) -> float:
    """Seconds that a command takes in a folder whose environment is active; what it prints is shown if it fails."""
    binaries = f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}"
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    began = time.perf_counter()
    done = subprocess.run(shlex.split(command), cwd=folder, env={**inherited, "PATH": binaries}, capture_output=True,
                          text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    print(f"{seconds:7.1f} s  {command}", flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, help="folder of images to train on")
    parser.add_argument("--repository", default=str(ROOT), help="what to clone (default: this repository)")
    parser.add_argument("--keep", type=Path, help="folder for what was made")
    add_json_option(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="newcomer-") as place:
        folder = Path(place, "photophone")
        rows = [("clone", run(f"git clone -q {arguments.repository} photophone", Path(place)))]
        shutil.copytree(arguments.images, folder / "my_images")
        for name, command in INSTALL + STEPS:
            seconds = run(command, folder)
            rows = [*rows, (name, seconds)] if name else [*rows[:-1], (rows[-1][0], rows[-1][1] + seconds)]
        for made in KEPT if arguments.keep else ():
            target = arguments.keep / Path(made).name
            arguments.keep.mkdir(parents=True, exist_ok=True)
            if (folder / made).is_dir():
                shutil.copytree(folder / made, target, dirs_exist_ok=True)
            else:
                shutil.copy(folder / made, target)
    since, table = 0.0, []
    for name, seconds in rows:
        since += seconds
        table.append([name, seconds, f"{int(since // 60)} min {since % 60:.0f} s"])
    publish({"newcomer": (("step", "seconds", "since the start"), table)}, arguments.json)


if __name__ == "__main__":
    main()
