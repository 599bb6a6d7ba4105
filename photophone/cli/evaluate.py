"""Commands that measure models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from photophone.cli.common import DeviceOption, JsonOption, ModelOption, OverwriteOption, app, check_json, load_pipeline

if TYPE_CHECKING:
    from photophone.evaluation.peers.base import Peers

evaluate = typer.Typer(no_args_is_help=True, help="Measure the quality of a model.")
app.add_typer(evaluate, name="evaluate")


def choose_peers(peers: Peers, names: list[str] | None) -> dict[str, Any]:
    """Systems to compare with that work here; of those that do not, standard error says why.

    Args:
        peers: all of a kind.
        names: of the option ``--peer``: None for all, ``none`` alone for none.

    Raises:
        ValueError: an unknown name.
    """
    usable, missing = peers.available([] if names == ["none"] else names)
    for name, reason in missing.items():
        print(f"without {name}: {reason}", file=sys.stderr)
    return usable


@evaluate.command("image")
def evaluate_image(data: Annotated[Path, typer.Option(help="Captioned images: a folder of them, a .parquet "
                                                           "or .tar file, a prepared file, or a folder with prepared "
                                                           "files val, train, test_combo and test_label.")] = Path(
                       "data/images"),
                   model: ModelOption = "photophone/tiny-image", device: DeviceOption = "cpu",
                   seed: Annotated[int, typer.Option(help="Of noise and of candidate images.")] = 0,
                   steps: Annotated[int | None, typer.Option(help="Solver steps.")] = None,
                   guidance: Annotated[float | None, typer.Option(help="Guidance scale.")] = None,
                   temperature: Annotated[float | None, typer.Option(help="Scale of the initial noise.")] = None,
                   split: Annotated[list[str] | None, typer.Option(help="Prepared files of a folder to generate for; "
                                                                   "the tests when not given, or else val.")] = None,
                   limit: Annotated[int | None, typer.Option(help="Only so many images of each split.")] = None,
                   output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file to write.")] = None,
                   overwrite: OverwriteOption = False, as_json: JsonOption = False) -> None:
    """PSNR, SSIM, Frechet distance and caption retrieval of a text-to-image model."""
    from photophone.evaluation.report import format_report, write_json
    from photophone.evaluation.tasks.image import evaluate_images
    from photophone.pipelines.text_to_image import TextToImagePipeline

    check_json(output, overwrite)
    pipeline = load_pipeline(TextToImagePipeline, model, device)
    pipeline.set_progress_bar_config(disable=True)
    result = evaluate_images(pipeline, data, seed=seed, num_inference_steps=steps, guidance_scale=guidance,
                             temperature=temperature, splits=split, limit=limit, progress=sys.stderr.isatty())
    if output is not None:
        write_json(result, output)
    print(json.dumps(result) if as_json else format_report("image", result))
