"""Train a speech enhancer on prepared speech and noises, mixed on the fly."""

from __future__ import annotations

from photophone.training.loop.command import train_command
from photophone.training.tasks.speech_recipes import enhancer_task

if __name__ == "__main__":
    train_command(__doc__, enhancer_task)
