"""Train the network that gives the pictures of a small image tokenizer twice their size."""

from __future__ import annotations

from photophone.training.loop.command import train_command
from photophone.training.tasks.icon_upscaling import upscaling_task

if __name__ == "__main__":
    train_command(__doc__, upscaling_task)
