"""What routes ask workers for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from photophone.pipelines.picture_edit import Edit


@dataclass(frozen=True)
class SpeechOrder:
    """A text to speak.

    Args:
        options: of :meth:`photophone.pipelines.speech_rounds.SpeechRounds.join`.
    """

    text: str
    seed: int
    is_streamed: bool = False
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageOrder:
    """A prompt to draw, once for each seed; orders of one kind and equal options are drawn together.

    Args:
        prompt: None where a picture is edited and nothing is said.
        seeds: of the images; those on the way between two prompts share the first.
        options: of the pipeline.
        edit: of a picture that is given.
        to_prompt: a second prompt, for images on the way to it.
    """

    prompt: str | None
    seeds: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    edit: Edit | None = None
    to_prompt: str | None = None

    def joins(self, other: ImageOrder) -> bool:
        """Whether both may be drawn in one call."""
        if self.options != other.options or self.to_prompt is not None or other.to_prompt is not None:
            return False
        return self.kind == other.kind

    @property
    def kind(self) -> tuple[Any, ...]:
        """What orders of one call have in common beside options."""
        edit = self.edit
        return () if edit is None else (edit.strength, edit.rounds, edit.mask is None, self.prompt is None)


@dataclass(frozen=True)
class EnhanceOrder:
    """A recording, float32 (C, T), to make clean; ``mix`` None is what the model is best with."""

    audio: np.ndarray
    sample_rate: int
    mix: float | None = None


def chosen_seed(given: int | None) -> int:
    """The seed that was asked for, or one drawn from the operating system."""
    return int.from_bytes(os.urandom(4), "big") if given is None else given
