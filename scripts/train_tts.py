"""Train a text-to-speech generator on aligned speech and its codec tokens."""

from __future__ import annotations

from photophone.training.loop.command import train_command
from photophone.training.tasks.speech_recipes import speech_generator_task

if __name__ == "__main__":
    train_command(__doc__, speech_generator_task)
