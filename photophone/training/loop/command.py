"""The command line that all training scripts share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from photophone.training.loop.config import TrainConfig, load_config
from photophone.training.loop.task import Task
from photophone.training.loop.trainer import Trainer


def train_command(description: str, build_task: Callable[[TrainConfig], Task]) -> None:
    """Parse arguments, build the task from the settings and train.

    Args:
        description: for ``--help``.
        build_task: makes the task from the settings; a ValueError or TypeError of it is shown as a usage error.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, required=True, help="YAML settings, see configs/")
    parser.add_argument("--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint in --output")
    parser.add_argument("--allow-changes", action="store_true", help="resume with other settings; says which changed")
    parser.add_argument("--max-minutes", type=float, help="checkpoint and stop after this time")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the YAML's")
    arguments = parser.parse_intermixed_args()
    try:
        config = load_config(arguments.config, arguments.overrides)
        torch.manual_seed(config.seed)  # of the initial weights
        trainer = Trainer(build_task(config), config, arguments.output, arguments.resume, arguments.allow_changes)
    except (ValueError, TypeError, OSError) as error:
        parser.error(str(error))
    for note in trainer.notes:
        print(note)
    try:
        steps = trainer.run(None if arguments.max_minutes is None else 60 * arguments.max_minutes)
    except ValueError as error:
        parser.error(str(error))
    print(f"{steps} of {config.steps} steps done; averaged weights in {arguments.output / 'export'}")
