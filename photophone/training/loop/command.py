"""The command line that all training scripts share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from photophone.core.command import as_command, one_line, stopping_in_order
from photophone.training.loop.checkpoint import list_checkpoints
from photophone.training.loop.config import TrainConfig, load_config
from photophone.training.loop.task import Task
from photophone.training.loop.trainer import Trainer


def train_command(description: str, build_task: Callable[[TrainConfig], Task]) -> None:
    """Parse arguments, build the task from the settings and train.

    Args:
        description: for ``--help``.
        build_task: makes the task from the settings; a ValueError or TypeError of it is a user's error.

    Raises:
        SystemExit: see :mod:`photophone.core.command`. TERM, INT and HUP end a run after its step, with a checkpoint.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, required=True, help="YAML settings, see configs/")
    parser.add_argument("--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint in --output")
    parser.add_argument("--allow-changes", action="store_true", help="resume with other settings; says which changed")
    parser.add_argument("--max-minutes", type=float, help="checkpoint and stop after this time")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the YAML's")
    arguments = parser.parse_intermixed_args()
    with as_command(parser.prog), stopping_in_order() as stop:
        try:
            config = load_config(arguments.config, arguments.overrides)
            torch.manual_seed(config.seed)  # of the initial weights
            trainer = Trainer(build_task(config), config, arguments.output, arguments.resume, arguments.allow_changes)
        except TypeError as error:
            raise ValueError(str(error)) from error
        for note in trainer.notes:
            print(note)
        if stop:
            sys.exit(stop.exit_code)
        try:
            steps = trainer.run(None if arguments.max_minutes is None else 60 * arguments.max_minutes, stop)
        except OSError as error:
            raise ValueError(f"{one_line(error)}. {how_to_go_on(arguments.output)}") from error
        if stop and steps < config.steps:
            print(f"{parser.prog}: ended by {stop.signal.name} after step {steps} of {config.steps}. "
                  f"{how_to_go_on(arguments.output)}", file=sys.stderr)
            sys.exit(stop.exit_code)
        print(f"{steps} of {config.steps} steps done; averaged weights in {arguments.output / 'export'}")


def how_to_go_on(folder: Path) -> str:
    """What is left of a run that ended early, and how to continue it."""
    checkpoints = list_checkpoints(folder / "checkpoints")
    if not checkpoints:
        return "There is no checkpoint to continue from"
    return f"Saved in {checkpoints[-1]}; the same command with --resume continues there"
