"""Train a small text encoder on a prepared file of captioned images, for TA-TiTok, MaskGen and HART."""

from __future__ import annotations

from photophone.training.loop.command import train_command
from photophone.training.tasks.text_encoder import text_encoder_task

if __name__ == "__main__":
    train_command(__doc__, text_encoder_task)
