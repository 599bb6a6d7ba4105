"""Train an image tokenizer on a prepared file of images."""

from __future__ import annotations

from photophone.training.loop.command import train_command
from photophone.training.tasks.image_recipes import image_tokenizer_task

if __name__ == "__main__":
    train_command(__doc__, image_tokenizer_task)
