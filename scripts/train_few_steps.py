"""Train the flow head of a generator to take one or a few steps, from paths that record_head.py recorded of it."""

from __future__ import annotations

from photophone.training.loop.command import train_command
from photophone.training.tasks.few_steps import few_steps_task

if __name__ == "__main__":
    train_command(__doc__, few_steps_task)
