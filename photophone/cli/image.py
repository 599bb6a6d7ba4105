"""Commands that make images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from photophone.cli.common import DeviceOption, DtypeOption, JsonOption, ModelOption, QuietOption, app, load_pipeline


@app.command()
def image(prompt: Annotated[list[str], typer.Argument(help="What the picture shows; several make several pictures.")],
          number: Annotated[int, typer.Option("--number", "-n", help="Images for each prompt.")] = 1,
          seed: Annotated[int | None, typer.Option(help="First seed; the next images take the next seeds.")] = None,
          output: Annotated[Path, typer.Option("--output", "-o", help="A folder, or one .png.")] = Path("."),
          steps: Annotated[int | None, typer.Option(help="Solver steps.")] = None,
          guidance: Annotated[float | None, typer.Option(help="Guidance scale; 1 is none.")] = None,
          temperature: Annotated[float | None, typer.Option(help="Scale of the initial noise.")] = None,
          size: Annotated[int | None, typer.Option(help="Pixels per side, if the model has a choice.")] = None,
          model: ModelOption = "photophone/tiny-image", device: DeviceOption = "cpu", dtype: DtypeOption = "float32",
          quiet: QuietOption = False,
          as_json: JsonOption = False) -> None:
    """Make images from prompts; a JSON with all settings is written beside each."""
    import torch

    from photophone.pipelines.text_to_image import TextToImagePipeline, check_prompt

    for text in prompt:
        check_prompt(text)
    if number < 1:
        raise ValueError(f"--number must be at least 1, got {number}")
    if seed is not None and not 0 <= seed < 2**63:
        raise ValueError(f"--seed must be 0 to {2**63 - 1}, got {seed}")
    pipeline = load_pipeline(TextToImagePipeline, model, device, dtype)
    pipeline.set_progress_bar_config(disable=quiet or as_json or None)
    generators = None
    if seed is not None:
        generators = [torch.Generator().manual_seed(seed + i) for i in range(len(prompt) * number)]
    result = pipeline(prompt, num_images_per_prompt=number, generator=generators, height=size, width=size,
                      num_inference_steps=steps, guidance_scale=guidance, temperature=temperature)
    files = result.save(output)
    if as_json:
        print(json.dumps({"files": [str(file) for file in files], "seeds": result.seeds, **result.settings}))
    elif not quiet:
        for file, used in zip(files, result.seeds):
            print(f"{file}  (seed {used})")
