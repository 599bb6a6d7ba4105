"""Commands that make images."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from photophone.pipelines.images import ImageOutput

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
def image(prompt: Annotated[list[str], typer.Argument(help="What the picture shows; several make several pictures.")],
          number: Annotated[int, typer.Option("--number", "-n", help="Images for each prompt.")] = 1,
          seed: SeedOption = None, output: FolderOption = ".", steps: StepsOption = None,
          guidance: GuidanceOption = None, temperature: TemperatureOption = None,
          size: Annotated[int | None, typer.Option(help="Pixels per side, if the model has a choice.")] = None,
          model: ModelOption = "photophone/tiny-image", device: DeviceOption = "cpu", dtype: DtypeOption = "float32",
          quiet: QuietOption = False, overwrite: OverwriteOption = False,
          as_json: JsonOption = False) -> None:
    """Make images from prompts; a JSON with all settings is written beside each."""
    from photophone.pipelines.text_to_image import TextToImagePipeline, check_prompt

    for text in prompt:
        check_prompt(text)
    check_count(number, seed)
    check_dtype(dtype)
    check_place(output, [text for text in prompt for _ in range(number)], seed, overwrite)
    pipeline = load_pipeline(TextToImagePipeline, model, device, dtype)
    pipeline.set_progress_bar_config(disable=quiet or as_json or None)
    result = pipeline(prompt, num_images_per_prompt=number, generator=seeded(seed, len(prompt) * number), height=size,
                      width=size, num_inference_steps=steps, guidance_scale=guidance, temperature=temperature)
    save(result, output, overwrite, quiet, as_json)


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


def check_place(output: str, words: list[str], seed: int | None, overwrite: bool) -> None:
    """Refuse a place for results before anything is computed for it.

    Args:
        output: as the user gave it.
        words: that begin the name of each file in a folder.
        seed: of the first; where it is not given, names in a folder are not known yet.
        overwrite: whether files that are there may be replaced.

    Raises:
        ValueError, OSError: see :func:`photophone.pipelines.output.target_files`.
    """
    from photophone.core.pictures import PICTURE_FORMATS
    from photophone.pipelines.output import names_folder, target_files, unique_names

    unknown = seed is None and names_folder(output)
    first = seed or 0
    names = unique_names(words, list(range(first, first + len(words))), "image")
    target_files(output, names, tuple(PICTURE_FORMATS), "images", overwrite=overwrite or unknown)


def seeded(seed: int | None, count: int) -> list | None:
    """Generators with a seed and those that follow it; None: the pipeline draws seeds."""
    import torch

    return None if seed is None else [torch.Generator().manual_seed(seed + index) for index in range(count)]


def save(result: ImageOutput, output: str, overwrite: bool, quiet: bool, as_json: bool) -> None:
    """Write the images and say where they are."""
    files = result.save(output, overwrite=overwrite)
    if as_json:
        print(json.dumps({"files": [str(file) for file in files], "seeds": result.seeds, **result.settings}))
    elif not quiet:
        for file, used in zip(files, result.seeds):
            print(f"{file}  (seed {used})")
