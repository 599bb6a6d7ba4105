"""Commands that make images."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from photophone.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    OverwriteOption,
    QuietOption,
    SettingsOption,
    app,
    check_dtype,
    load_pipeline,
    named_values,
    read_settings,
)
from photophone.cli.image_modes import (
    AsWrittenOption,
    FromOption,
    GridOption,
    MaskOption,
    Modes,
    NegativeOption,
    PromptsOption,
    RegionOption,
    RoundsOption,
    StrengthOption,
    ToOption,
    TransparentOption,
    edit,
    run_file,
    sheet_file,
    write_sheet,
)

if TYPE_CHECKING:
    from photophone.pipelines.images import ImageOutput
    from photophone.pipelines.text_to_image import TextToImagePipeline

SeedOption = Annotated[int | None, typer.Option(help="First seed; the next images take the next seeds.")]
FolderOption = Annotated[str, typer.Option("--output", "-o", help="A folder, or one .png, .jpg, .webp, .bmp or .tif: "
                                                                  "the name says the format.")]
CheckpointsOption = Annotated[list[str] | None, typer.Option(
    "--weights", help="Official checkpoint of a registered generator: PART=FILE; `photophone models NAME` shows the "
                      "parts under `chain`. May be repeated.")]
StepsOption = Annotated[int | None, typer.Option(help="Solver steps.")]
GuidanceOption = Annotated[float | None, typer.Option(help="Guidance scale; 1 is none.")]
TemperatureOption = Annotated[float | None, typer.Option(help="Scale of the initial noise.")]


@app.command()
def image(prompt: Annotated[list[str] | None, typer.Argument(help="What the picture shows; several make several "
                                                                  "pictures.")] = None,
          number: Annotated[int, typer.Option("--number", "-n", help="Images for each prompt.")] = 1,
          seed: SeedOption = None, output: FolderOption = ".", steps: StepsOption = None,
          guidance: GuidanceOption = None, temperature: TemperatureOption = None, negative: NegativeOption = None,
          transparent: TransparentOption = False, picture: FromOption = None, strength: StrengthOption = None,
          mask: MaskOption = None, region: RegionOption = None, rounds: RoundsOption = None, to: ToOption = None,
          grid: GridOption = None, prompts: PromptsOption = None, as_written: AsWrittenOption = False,
          size: Annotated[int | None, typer.Option(help="Pixels per side, if the model has a choice.")] = None,
          model: ModelOption = "photophone/tiny-image", device: DeviceOption = "cpu", dtype: DtypeOption = "float32",
          quiet: QuietOption = False, overwrite: OverwriteOption = False,
          as_json: JsonOption = False) -> None:
    """Make images from prompts; a JSON with all settings is written beside each. Or vary a picture (--from), draw a
    part of it anew (--region), go from one prompt to another (--to), or work through a file of prompts (--prompts)."""
    texts = prompt or []
    modes = Modes(picture, strength, mask, region, rounds, to, grid, prompts)
    modes.check(texts, output, transparent)
    check_texts(texts, to, negative)
    check_count(number, seed)
    check_dtype(dtype)
    number = modes.count(number)
    sampler = {"num_inference_steps": steps, "guidance_scale": guidance, "temperature": temperature}
    options = {**sampler, "negative_prompt": negative, "as_written": as_written, "transparent": transparent,
               "height": size, "width": size}

    def load() -> TextToImagePipeline:
        from photophone.pipelines.text_to_image import TextToImagePipeline

        pipeline = load_pipeline(TextToImagePipeline, model, device, dtype)
        pipeline.check_size(size, size)
        pipeline.set_progress_bar_config(disable=quiet or as_json or None)
        return pipeline

    if prompts is not None:
        run_file(modes, load, output, number, seed, options, overwrite, quiet, as_json)
        return
    make_pictures(modes, load, texts, number, seed, output, options, overwrite, quiet, as_json)


def make_pictures(modes: Modes, load: Callable[[], TextToImagePipeline], texts: list[str], number: int,
                  seed: int | None, output: str, options: dict[str, Any], overwrite: bool, quiet: bool,
                  as_json: bool) -> None:
    """Images of one call, or a sheet, and files of them."""
    if modes.grid is not None:
        options = {name: value for name, value in options.items() if name != "guidance_scale"}
        seeds = [(drawn_seed() if seed is None else seed) + index for index in range(number)]
        sheet_file(texts[0], seeds[0], output, overwrite)
        file, facts = write_sheet(modes, load(), texts[0], seeds, output, options, overwrite)
        if as_json:
            print(json.dumps({"files": [str(file)], **facts}))
        elif not quiet:
            print(f"{file}  (seeds {seeds[0]} to {seeds[-1]})")
        return
    words = [f"{text} to {modes.to}" if modes.to else text for text in texts or [""] for _ in range(number)]
    check_place(output, words, seed, overwrite, alike=modes.to is not None)
    pipeline = load()
    if modes.to is not None:
        result = pipeline.interpolate(texts[0], modes.to, num_images=number, generator=one_generator(seed), **options)
    elif modes.picture is not None:
        result = edit(modes, pipeline, texts, number, {**options, "generator": seeded(seed, number)})
    else:
        result = pipeline(texts, num_images_per_prompt=number, generator=seeded(seed, len(texts) * number), **options)
    save(result, output, overwrite, quiet, as_json)


def check_texts(texts: list[str], *others: str | None) -> None:
    """Refuse prompts that are none, before a model is loaded.

    Raises:
        ValueError: see :func:`photophone.pipelines.text_to_image.check_prompt`.
    """
    from photophone.pipelines.text_to_image import check_prompt

    for text in (*texts, *others):
        if text is not None:
            check_prompt(text)


def load_generator(pipeline_class: type, model: str, device: str, dtype: str, files: dict[str, str]):
    """The pipeline of a folder or hub id, or of a registered generator with its official checkpoints.

    Raises:
        ValueError: checkpoints for what is not registered; see :func:`photophone.cli.common.load_pipeline`.
    """
    from photophone.loading.registry import REGISTRY

    if files and model not in REGISTRY:
        raise ValueError(f"--weights belongs to registered generators; {model} is not one")
    return load_pipeline(pipeline_class, model, device, dtype, files if model in REGISTRY else None)


@app.command("class-image")
def class_image(label: Annotated[list[int], typer.Argument(help="Number of a class, for published weights of ImageNet; "
                                                                "several make several pictures.")],
                model: Annotated[str, typer.Option("--model", "-m", help="Folder or hub id of a class-to-image "
                                                   "pipeline, or a registered generator such as mar-base.")],
                weights: CheckpointsOption = None,
                number: Annotated[int, typer.Option("--number", "-n", help="Images for each class.")] = 1,
                seed: SeedOption = None, output: FolderOption = ".", steps: StepsOption = None,
                guidance: GuidanceOption = None, temperature: TemperatureOption = None,
                option: SettingsOption = None,
                device: DeviceOption = "cpu", dtype: DtypeOption = "float32", quiet: QuietOption = False,
                overwrite: OverwriteOption = False, as_json: JsonOption = False) -> None:
    """Make images of classes; a JSON with all settings is written beside each."""
    from photophone.pipelines.class_to_image import ClassToImagePipeline

    check_count(number, seed)
    files, further = named_values("--weights", weights), read_settings(option, ClassToImagePipeline.__call__)
    check_dtype(dtype)
    check_place(output, [f"class {one}" for one in label for _ in range(number)], seed, overwrite)
    pipeline = load_generator(ClassToImagePipeline, model, device, dtype, files)
    pipeline.set_progress_bar_config(disable=quiet or as_json or None)
    result = pipeline(label, num_images_per_class=number, generator=seeded(seed, len(label) * number),
                      **{"num_inference_steps": steps, "guidance_scale": guidance, "temperature": temperature,
                         **further})
    save(result, output, overwrite, quiet, as_json)


def check_count(number: int, seed: int | None) -> None:
    """Refuse what cannot be before a model is loaded.

    Raises:
        ValueError: no images, or a seed that is none.
    """
    if number < 1:
        raise ValueError(f"--number must be at least 1, got {number}")
    if seed is not None and not 0 <= seed < 2**63:
        raise ValueError(f"--seed must be 0 to {2**63 - 1}, got {seed}")


def check_place(output: str, words: list[str], seed: int | None, overwrite: bool, alike: bool = False) -> None:
    """Refuse a place for results before anything is computed for it.

    Args:
        output: as the user gave it.
        words: that begin the name of each file in a folder.
        seed: of the first; where it is not given, names in a folder are not known yet.
        overwrite: whether files that are there may be replaced.
        alike: all have the same seed.

    Raises:
        ValueError, OSError: see :func:`photophone.pipelines.output.target_files`.
    """
    from photophone.core.pictures import PICTURE_FORMATS
    from photophone.pipelines.output import names_folder, target_files, unique_names

    unknown = seed is None and names_folder(output)
    first = seed or 0
    names = unique_names(words, [first + index * (not alike) for index in range(len(words))], "image")
    target_files(output, names, tuple(PICTURE_FORMATS), "images", overwrite=overwrite or unknown)


def seeded(seed: int | None, count: int) -> list | None:
    """Generators with a seed and those that follow it; None: the pipeline draws seeds."""
    import torch

    return None if seed is None else [torch.Generator().manual_seed(seed + index) for index in range(count)]


def one_generator(seed: int | None) -> Any:
    """A generator with a seed; None: the pipeline draws one."""
    generators = seeded(seed, 1)
    return None if generators is None else generators[0]


def drawn_seed() -> int:
    """A seed of the operating system that is short enough to type."""
    return int.from_bytes(os.urandom(4), "big")


def save(result: ImageOutput, output: str, overwrite: bool, quiet: bool, as_json: bool) -> None:
    """Write the images and say where they are."""
    files = result.save(output, overwrite=overwrite)
    if as_json:
        print(json.dumps({"files": [str(file) for file in files], "seeds": result.seeds, **result.settings}))
    elif not quiet:
        for file, used in zip(files, result.seeds):
            print(f"{file}  (seed {used})")
