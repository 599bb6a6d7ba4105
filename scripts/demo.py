"""What `make demo` shows: the built-in weights at work, offline."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from photophone.files import atomic_write
from photophone.pictures import labelled_sheet
from photophone.pipelines.text_to_image import TextToImagePipeline

PROMPTS = [
    "a red apple, 3d emoji",
    "smiling cat face, noto emoji",
    "house with garden, gradient emoji",
    "blue rocket, silhouette icon",
    "human woman wearing red robe holding staff, pixel art",
    "birthday cake, flat emoji",
    "flag of japan, emojione emoji",
    "green dragon, monster, pixel art",
]


def make_images(folder: Path, per_prompt: int) -> None:
    """Images of PROMPTS with seeds 0, 1, ... into ``folder``, and a labelled contact sheet."""
    started = time.perf_counter()
    pipeline = TextToImagePipeline.from_pretrained("photophone/tiny-image")
    print(f"loaded photophone/tiny-image in {time.perf_counter() - started:.1f} s")
    rows = []
    for prompt in PROMPTS:
        started = time.perf_counter()
        generators = [torch.Generator().manual_seed(seed) for seed in range(per_prompt)]
        result = pipeline(prompt, num_images_per_prompt=per_prompt, generator=generators)
        seconds = time.perf_counter() - started
        files = result.save(folder)
        rows.append((prompt, result.images))
        print(f"{seconds:5.2f} s  {per_prompt} images of {prompt!r}: {files[0]} ...")
    sheet = folder / "contact-sheet.png"
    with atomic_write(sheet) as partial:
        labelled_sheet(rows).save(partial, format="PNG")
    print(f"contact sheet: {sheet}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("outputs"), help="folder to write to")
    parser.add_argument("-n", "--number", type=int, default=6, help="images for each prompt")
    arguments = parser.parse_args()
    make_images(arguments.output / "images", arguments.number)


if __name__ == "__main__":
    main()
