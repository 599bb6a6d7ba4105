"""The command for text and images in one answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from photophone.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    SettingsOption,
    app,
    check_dtype,
    named_values,
    read_settings,
)
from photophone.cli.image import (
    CheckpointsOption,
    SeedOption,
    check_count,
    load_generator,
    seeded,
)

if TYPE_CHECKING:
    from PIL import Image


@app.command()
def interleave(text: Annotated[str, typer.Argument(help="What is asked; <image> in it marks the place of a picture, "
                                                        "else all stand in front.")],
               model: Annotated[str, typer.Option("--model", "-m", help="Folder or hub id of an interleaved pipeline, "
                                                  "or a registered generator such as orthus-7b-instruct.")],
               picture: Annotated[list[Path] | None, typer.Option("--picture", "-p", help="A picture of the request. "
                                                                  "May be repeated.")] = None,
               weights: CheckpointsOption = None,
               kind: Annotated[str, typer.Option(help="any: text and images as the model decides; image: one; text: "
                                                      "none.")] = "any",
               number: Annotated[int, typer.Option("--number", "-n", help="Answers.")] = 1, seed: SeedOption = None,
               output: Annotated[str, typer.Option("--output", "-o", help="A folder, or one .html.")] = ".",
               length: Annotated[int, typer.Option(help="Most ids of text.")] = 512,
               images: Annotated[int, typer.Option(help="Most images of an answer.")] = 4,
               option: SettingsOption = None, device: DeviceOption = "cpu", dtype: DtypeOption = "float32",
               quiet: QuietOption = False,
               overwrite: OverwriteOption = False, as_json: JsonOption = False) -> None:
    """Answer a request of text and pictures by text and images; each answer is a page beside a JSON of all settings."""
    from photophone.data.image_reading import open_picture
    from photophone.pipelines.interleaved import InterleavedPipeline, read_requests
    from photophone.pipelines.interleaved_output import InterleavedOutput
    from photophone.pipelines.output import names_folder, target_files, unique_names

    check_count(number, seed)
    files, further = named_values("--weights", weights), read_settings(option, InterleavedPipeline.__call__)
    check_dtype(dtype)
    request = place_pictures(text, [open_picture(file) for file in picture or []])
    read_requests([request])
    first = seed or 0
    words = [" ".join(part for part in request if isinstance(part, str))] * number
    target_files(output, unique_names(words, list(range(first, first + number)), "answer"), InterleavedOutput.SUFFIXES,
                 InterleavedOutput.NOUN, overwrite=overwrite or (seed is None and names_folder(output)))
    pipeline = load_generator(InterleavedPipeline, model, device, dtype, files)
    pipeline.set_progress_bar_config(disable=quiet or as_json or None)
    result = pipeline([request], kind=kind, num_answers_per_request=number, generator=seeded(seed, number),
                      max_new_tokens=length, max_images=images, **further)
    saved = result.save(output, overwrite=overwrite)
    if as_json:
        print(json.dumps({"files": [str(file) for file in saved], "seeds": result.seeds, "texts": result.texts,
                          **result.settings}, ensure_ascii=False))
    elif not quiet:
        for file, used, answer in zip(saved, result.seeds, result.texts):
            print(f"{answer}\n{file}  (seed {used})" if answer else f"{file}  (seed {used})")


def place_pictures(text: str, pictures: list[Image.Image]) -> list:
    """Texts and pictures of a request in their order.

    Raises:
        ValueError: marks that are not as many as the pictures.
    """
    pieces = text.split("<image>")
    if len(pieces) == 1:
        return [*pictures, text]
    if len(pieces) - 1 != len(pictures):
        raise ValueError(f"the text marks {len(pieces) - 1} places with <image>, and {len(pictures)} --picture were "
                         "given; give one for each mark, or no mark at all")
    parts: list = []
    for piece, image in zip(pieces, [*pictures, None]):
        parts += [piece] if piece.strip() else []
        parts += [] if image is None else [image]
    return parts
