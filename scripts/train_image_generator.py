"""Train an image generator on the tokens of a prepared file of images, from captions or classes."""

from __future__ import annotations

from photophone.training.loop.command import train_command
from photophone.training.tasks.image_recipes import image_generator_task

if __name__ == "__main__":
    train_command(__doc__, image_generator_task)
