"""Commands that train."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from photophone.cli.common import JsonOption, app

train = typer.Typer(no_args_is_help=True, help="Train a model of your own.")
app.add_typer(train, name="train")


@train.callback()
def group() -> None:
    """Train a model of your own."""


@train.command("voice")
def train_own_voice(recordings: Annotated[list[Path], typer.Argument(help="Recordings of one person with their words: "
                                          "a folder (LJSpeech, LibriTTS, or audio files with a .txt each), a .csv that "
                                          "names files, a .parquet or a .tar.")],
                    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make; the same command "
                                                         "goes on where it ended.")],
                    model: Annotated[str, typer.Option("--model", "-m", help="The voice to start from: a built-in name "
                                                       "or a folder.")] = "photophone/tiny-speech",
                    speaker: Annotated[str | None, typer.Option(help="Whose recordings to take, where there are "
                                                                "several speakers.")] = None,
                    minutes: Annotated[float | None, typer.Option(help="Of recordings, at most.")] = None,
                    steps: Annotated[int | None, typer.Option(help="Of training; by the amount of speech when not "
                                                              "given.")] = None,
                    seed: Annotated[int, typer.Option(help="Of the order of clips and of noise.")] = 0,
                    as_json: JsonOption = False) -> None:
    """Make a voice of your own from recordings: a folder that `photophone speak --model` reads."""
    from photophone.core.command import stopping_in_order
    from photophone.training.voice.plan import VoicePlan
    from photophone.training.voice.run import Ended, train_voice

    for name, value in (("--minutes", minutes), ("--steps", steps)):
        if value is not None and value <= 0:
            raise ValueError(f"{name} must be above 0, got {value:g}")
    plan = VoicePlan(recordings, output, model, speaker, minutes, steps, seed)
    with stopping_in_order() as stop:
        try:
            made = train_voice(plan, lambda words: print(words, file=sys.stderr), stop)
        except Ended:
            print(f"photophone: ended by {stop.signal.name}; the same command goes on", file=sys.stderr)
            sys.exit(stop.exit_code)
    if as_json:
        print(json.dumps({"file": str(made / "model_index.json"), "model": str(made)}))
    else:
        print(f'It speaks: photophone speak "Light carries sound." --model {shlex.quote(str(made))}')
