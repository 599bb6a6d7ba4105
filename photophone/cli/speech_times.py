"""The command that measures the times of words."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from photophone.cli.common import DeviceOption, JsonOption, ModelOption, OverwriteOption, check_json, load_pipeline
from photophone.cli.evaluate import evaluate


@evaluate.command("times")
def evaluate_word_times(data: Annotated[Path | None, typer.Option(help="A text file with a sentence a line, or a .csv "
                                                                       "with the column text; fifty plain sentences "
                                                                       "when not given.")] = None,
                        limit: Annotated[int | None, typer.Option(help="At most so many sentences, spread "
                                                                       "evenly.")] = None,
                        seed: Annotated[int, typer.Option(help="The sentences take the seeds from it on.")] = 0,
                        speed: Annotated[float, typer.Option(help="0.5 to 2.")] = 1.0,
                        steps: Annotated[int | None, typer.Option(help="Solver steps.")] = None,
                        model: ModelOption = "photophone/tiny-speech", device: DeviceOption = "cpu",
                        output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file to "
                                                                    "write.")] = None,
                        overwrite: OverwriteOption = False, as_json: JsonOption = False) -> None:
    """When words are said, by the voice and by Whisper base."""
    from photophone.evaluation.report import format_report, write_json
    from photophone.evaluation.tasks.speech import read_test_sentences, spread_evenly
    from photophone.evaluation.tasks.speech_times import SENTENCES, evaluate_times
    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

    check_json(output, overwrite)
    sentences = spread_evenly(list(SENTENCES), limit) if data is None else read_test_sentences(data, None, limit)
    pipeline = load_pipeline(TextToSpeechPipeline, model, device)
    pipeline.set_progress_bar_config(disable=True)
    result = evaluate_times(pipeline, sentences, seed=seed, progress=sys.stderr.isatty(), speed=speed,
                            num_inference_steps=steps)
    result["settings"] = {"seed": seed, **pipeline.settings(speed, num_inference_steps=steps), **pipeline.source}
    if output is not None:
        write_json(result, output)
    print(json.dumps(result) if as_json else format_report("times", result))
