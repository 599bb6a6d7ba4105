"""Train an audio codec, or a vocoder of mel frames, on prepared speech."""

from __future__ import annotations

from photophone.training.loop.command import train_command
from photophone.training.tasks.speech_recipes import codec_task

if __name__ == "__main__":
    train_command(__doc__, codec_task)
