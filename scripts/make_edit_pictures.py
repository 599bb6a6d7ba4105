"""Makes the pictures of edits in the documentation, with the built-in weights."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from photophone.core.command import run_command
from photophone.core.files import atomic_write
from photophone.core.pictures import labelled_sheet
from photophone.pipelines.text_to_image import TextToImagePipeline

REGION = (32, 0, 32, 64)
COLUMNS = 6


def seeds(first: int, count: int) -> list[torch.Generator]:
    """Generators with a seed and those that follow it."""
    return [torch.Generator().manual_seed(first + index) for index in range(count)]


def without(image: Image.Image) -> Image.Image:
    """A picture whose region is grey."""
    left, top, width, height = REGION
    grey = image.copy()
    grey.paste((200, 200, 200), (left, top, left + width, top + height))
    return grey


def on_squares(image: Image.Image, side: int = 8) -> Image.Image:
    """A transparent picture on squares of two blues."""
    ground = Image.new("RGBA", image.size, "#9ec5ff")
    draw = ImageDraw.Draw(ground)
    for top in range(0, image.height, side):
        for left in range(side * (top // side % 2), image.width, 2 * side):
            draw.rectangle((left, top, left + side - 1, top + side - 1), fill="#3b6fb5")
    ground.alpha_composite(image)
    return ground.convert("RGB")


def write(image: Image.Image, file: Path) -> None:
    """A PNG of 256 colours, whole or not at all."""
    with atomic_write(file) as partial:
        image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(partial, format="PNG",
                                                                                           optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/pictures"), help="folder for the pictures")
    folder = parser.parse_args().output
    make = TextToImagePipeline.from_pretrained("photophone/tiny-image")
    make.set_progress_bar_config(disable=True)
    apple = make("red apple, 3d emoji", generator=seeds(7, 1)).images[0]
    cake = "birthday cake, 3d emoji"
    rows = [
        ("given, and variations of strength 0.9", [apple, *make.variations(
            apple, "green apple, 3d emoji", strength=0.9, num_images=COLUMNS - 1, generator=seeds(1, 5)).images]),
        ("given, the region, and it drawn anew as a tangerine", [apple, without(apple), *make.inpaint(
            apple, REGION, "tangerine, 3d emoji", num_images=COLUMNS - 2, generator=seeds(1, 4)).images]),
        ("from cat face to lion", make.interpolate("cat face, 3d emoji", "lion, 3d emoji", num_images=COLUMNS,
                                                   generator=seeds(3, 1)[0]).images),
        ("from red apple to birthday cake", make.interpolate("red apple, 3d emoji", cake, num_images=COLUMNS,
                                                             generator=seeds(3, 1)[0]).images),
        ("smiling cat face: three plain, three away from 'yellow'", [
            image for options in ({}, {"negative_prompt": "yellow"}) for image in make(
                "smiling cat face, 3d emoji", num_images_per_prompt=3, generator=seeds(1, 3), **options).images])]
    write(labelled_sheet(rows, scale=1, label_width=200), folder / "edits.png")
    sheet, _ = make.guidance_grid("a rocket", guidance_scales=[1, 3, 6], seeds=range(1, 5))
    write(sheet, folder / "guidance.png")
    words = ["a red apple", "a cute cat", "birthday cake with candles", "snowman", "a rocket", "a panda"]
    cut = make(words, generator=seeds(1, len(words)), transparent=True).images
    write(labelled_sheet([("transparent, on squares", [on_squares(image) for image in cut])], scale=1, label_width=200),
          folder / "transparent.png")
    write(labelled_sheet(sizes(make, words), scale=1, label_width=200), folder / "sizes.png")


def sizes(make: TextToImagePipeline, words: list[str]) -> list[tuple[str, list[Image.Image]]]:
    """The same pictures of the model's own size, enlarged bicubically, and of twice the size."""
    own, large = make.sizes
    small = make(words, generator=seeds(1, len(words))).images
    return [(f"{own} pixels, enlarged", [image.resize((large, large), Image.Resampling.BICUBIC) for image in small]),
            (f"{large} pixels", make(words, generator=seeds(1, len(words)), height=large, width=large).images)]


if __name__ == "__main__":
    run_command(main)
