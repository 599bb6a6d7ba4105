"""Train the aligner, which finds the time of each phoneme of a recording, on speech whose times are known."""

from __future__ import annotations

from photophone.training.alignment.task import aligner_task
from photophone.training.loop.command import train_command

if __name__ == "__main__":
    train_command(__doc__, aligner_task)
