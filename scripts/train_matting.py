"""Train the network that finds the opacity of icons on white, for transparent pictures."""

from __future__ import annotations

from photophone.training.loop.command import train_command
from photophone.training.tasks.icon_matting import matting_task

if __name__ == "__main__":
    train_command(__doc__, matting_task)
