"""What ``photophone image`` does beside making images from prompts: edits of a picture, pictures between two captions,
a sheet of guidance and seeds, a file of prompts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from PIL import Image

    from photophone.pipelines.images import ImageOutput
    from photophone.pipelines.text_to_image import TextToImagePipeline

NegativeOption = Annotated[str | None, typer.Option("--negative", help="What the picture shall not show.")]
AsWrittenOption = Annotated[bool, typer.Option("--as-written", help="Take prompts as they stand; else those without a "
                                               "style become captions that the model knows.")]
TransparentOption = Annotated[bool, typer.Option("--transparent", help="Cut the white ground away: PNG, WebP or TIFF "
                                                                       "with an alpha channel.")]
FromOption = Annotated[Path | None, typer.Option("--from", help="A picture: variations of it are made; with --mask or "
                                                                "--region, that part of it is drawn anew.")]
StrengthOption = Annotated[float | None, typer.Option(help="Of variations: 0.1 changes details, 1 keeps nothing; 0.6 "
                                                           "when not given.")]
MaskOption = Annotated[Path | None, typer.Option(help="A picture, white where something new is drawn.")]
RegionOption = Annotated[str | None, typer.Option(help="LEFT,TOP,WIDTH,HEIGHT of the part that is drawn anew, in "
                                                       "pixels of the model's size.")]
RoundsOption = Annotated[int | None, typer.Option(help="Of --mask and --region; 8 when not given, more fit better.")]
ToOption = Annotated[str | None, typer.Option("--to", help="A second prompt: -n pictures on the way to it (8 when 1).")]
GridOption = Annotated[str | None, typer.Option("--grid", help="Strengths of guidance, such as 1,3,6: one sheet with a "
                                                "line for each and -n seeds as columns (4 when 1).")]
PromptsOption = Annotated[Path | None, typer.Option("--prompts", help="A file of prompts, one a line, or a .csv with "
                                                    "columns prompt and seed: numbered pictures in the folder -o. The "
                                                    "same command goes on after a stop.")]
LARGEST = 1024
"""Pixels per side that are of use of a picture that is given."""
OPAQUE = (".jpg", ".jpeg", ".bmp")
"""Formats without an alpha channel, or whose readers mostly ignore it."""


@dataclass(frozen=True)
class Modes:
    """The options that choose what is done.

    Args:
        picture, strength, mask, region, rounds, to, grid, prompts: as given on the command line; ``picture`` is
            ``--from``. None where they were not given.
    """

    picture: Path | None
    strength: float | None
    mask: Path | None
    region: str | None
    rounds: int | None
    to: str | None
    grid: str | None
    prompts: Path | None

    def check(self, prompt: list[str], output: str, transparent: bool) -> None:
        """Refuse options that do not go together.

        Raises:
            ValueError: names them, and what to do.
        """
        chosen = [name for name, given in (("--from", self.picture), ("--to", self.to), ("--grid", self.grid),
                                           ("--prompts", self.prompts)) if given is not None]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} do not go together; give one of them")
        for name, given in (("--strength", self.strength), ("--mask", self.mask), ("--region", self.region),
                            ("--rounds", self.rounds)):
            if given is not None and self.picture is None:
                raise ValueError(f"{name} belongs to a picture that is given; add --from PICTURE")
        if self.mask is not None and self.region is not None:
            raise ValueError("--mask and --region both say what is drawn anew; give one of them")
        if self.strength is not None and self.inpaints:
            raise ValueError("--strength belongs to variations; with --mask or --region give --rounds")
        if self.rounds is not None and not self.inpaints:
            raise ValueError("--rounds belongs to --mask and --region")
        if self.prompts is not None and prompt:
            raise ValueError("--prompts has the prompts in a file; give none beside it")
        if not prompt and self.prompts is None and self.picture is None:
            raise ValueError("write what the picture shows, such as 'a red apple', or give --prompts FILE")
        if chosen and chosen != ["--prompts"] and len(prompt) > 1:
            raise ValueError(f"{chosen[0]} takes one prompt, got {len(prompt)}; put it in quotes")
        if transparent and Path(output).suffix.lower() in OPAQUE:
            raise ValueError(f"{output} cannot hold a transparent picture; choose .png, .webp or .tif")

    @property
    def inpaints(self) -> bool:
        """Whether a part of a picture is drawn anew."""
        return self.mask is not None or self.region is not None

    def count(self, number: int) -> int:
        """Pictures that are made for the one prompt: those on the way to another, or seeds of a sheet, are several."""
        return {"to": 8, "grid": 4}["to" if self.to is not None else "grid"] if number == 1 and (
            self.to is not None or self.grid is not None) else number


def open_picture(file: Path) -> Image.Image:
    """A picture of a user, decoded under the limits on images.

    Raises:
        ValueError, OSError: it cannot be read.
    """
    from photophone.core.files import check_source
    from photophone.data.image_decoding import open_image

    return open_image(check_source(file).read_bytes(), LARGEST)


def read_numbers(text: str, option: str, kind: Callable[[str], Any], form: str) -> list[Any]:
    """Numbers with commas between them.

    Raises:
        ValueError: something else.
    """
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{option} must be {form}, got {text!r}") from error


def edit(modes: Modes, pipeline: TextToImagePipeline, prompt: list[str], number: int, options: dict[str, Any],
         ) -> ImageOutput:
    """Variations of a picture, or a part of it drawn anew."""
    picture = open_picture(modes.picture)
    text = prompt[0] if prompt else None
    if not modes.inpaints:
        strength = {} if modes.strength is None else {"strength": modes.strength}
        return pipeline.variations(picture, text, num_images=number, **strength, **options)
    rounds = {} if modes.rounds is None else {"rounds": modes.rounds}
    if modes.mask is not None:
        mask: Any = open_picture(modes.mask)
    else:
        mask = tuple(read_numbers(modes.region, "--region", int, "LEFT,TOP,WIDTH,HEIGHT in whole pixels"))
    return pipeline.inpaint(picture, mask, text, num_images=number, **rounds, **options)


def write_sheet(modes: Modes, pipeline: TextToImagePipeline, prompt: str, seeds: list[int], output: str,
                options: dict[str, Any], overwrite: bool) -> tuple[Path, dict[str, Any]]:
    """A sheet of guidance and seeds with a JSON beside it: its file, and what the JSON says."""
    from photophone.core.pictures import write_picture
    from photophone.pipelines.output import file_with_facts, is_own_result

    scales = read_numbers(modes.grid, "--grid", float, "numbers with commas between them, such as 1,3,6")
    file = sheet_file(prompt, seeds[0], output, overwrite)
    sheet, lines = pipeline.guidance_grid(prompt, guidance_scales=scales, seeds=seeds, **options)
    facts = {**lines[0].facts(0), "guidance_scale": scales, "seed": seeds}
    with file_with_facts(file, facts, overwrite=overwrite or is_own_result(file)) as partial:
        write_picture(sheet, partial, file.suffix)
    return file, facts


def sheet_file(prompt: str, seed: int, output: str, overwrite: bool) -> Path:
    """Where a sheet is written.

    Raises:
        ValueError, OSError: see :func:`photophone.pipelines.output.target_files`.
    """
    from photophone.core.pictures import PICTURE_FORMATS
    from photophone.pipelines.output import target_files, unique_names

    names = unique_names([f"grid {prompt}"], [seed], "grid")
    return target_files(output, names, tuple(PICTURE_FORMATS), "sheets", overwrite=overwrite)[0]


def run_file(modes: Modes, load: Callable[[], TextToImagePipeline], output: str, number: int, seed: int | None,
             options: dict[str, Any], overwrite: bool, quiet: bool, as_json: bool) -> None:
    """Images of a file of prompts."""
    from photophone.pipelines.image_batch import ImageBatch, read_prompts

    prompts = read_prompts(modes.prompts)
    if Path(output).suffix and not Path(output).is_dir():
        raise ValueError(f"--prompts writes many files; -o must be a folder, got {output}")
    pipeline = load()
    settings = {name: value for name, value in options.items() if value not in (None, False)}
    batch = ImageBatch(output, prompts, number=number, seed=seed, settings=settings, model=pipeline.source,
                       overwrite=overwrite)
    there = len(batch.wanted) - len(batch.left)
    pipeline.set_progress_bar_config(disable=True)
    told = None if quiet or as_json or not sys.stderr.isatty() else (
        lambda done, whole: print(f"\r{done} of {whole}", end="" if done < whole else "\n", file=sys.stderr))
    made = batch.run(pipeline, told)
    if as_json:
        print(json.dumps({"manifest": str(batch.manifest), "made": made, "there_before": there}))
    elif not quiet:
        print(f"{made} images made, {there} were there; {batch.manifest}")
