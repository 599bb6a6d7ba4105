"""Chains whose loader and front lie in a file of their own, which is imported when one of their models is there."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from torch import Tensor

from photophone.generators.sampler import Sampler
from photophone.pipelines.language_fronts import Made, PieceFront
from photophone.pipelines.speech_fronts import Request, SpokenVoice

MODULES = {"DelayedSpeech": "stream", "Phonon": "phonon", "VoxInstructAR": "voxinstruct", "KallE": "kalle"}
"""Files (with "_front" behind the name) by the class of the speech generator.

Each has ``OTHERS``, further names of files that :meth:`photophone.TextToSpeechPipeline.from_original` takes, a function
``load_parts`` with the arguments of :func:`photophone.pipelines.phonon_front.load_parts`, and ``front(pipeline)``.
"""


def own_module(class_name: str) -> ModuleType | None:
    """The file for a class of speech generators, or None."""
    name = MODULES.get(class_name)
    return None if name is None else importlib.import_module(f"photophone.pipelines.{name}_front")


class WritingFront(PieceFront):
    """A front whose generator writes several pieces at once, which become sound one by one."""

    @abstractmethod
    def write(self, requests: list[Request], seeds: list[int], sampler: Sampler, made: list[Made]) -> list[Any]:
        """What the generator writes for some pieces, all together; each gets what it would get alone.

        Args:
            requests: the pieces and their voices.
            seeds: of all draws of each.
            sampler: of the generator.
            made: takes down what happened to each.
        """

    @abstractmethod
    def sound_of(self, request: Request, written: Any, seed: int, made: Made) -> Tensor:
        """Speech (T,) of what :meth:`write` wrote for a piece; T may be 0."""

    def stream(self, request: Request, seed: int, sampler: Sampler, made: Made) -> Iterator[Tensor]:
        """The same speech in parts, as soon as they can be made; here in one."""
        (written,) = self.write([request], [seed], sampler, [made])
        yield self.sound_of(request, written, seed, made)

    def first_decides(self, voice: SpokenVoice | None) -> bool:
        """Whether the first piece of a text finds the voice that speaks the others."""
        return voice is None or not len(voice.tokens)

    def speak(self, request: Request, seed: int, sampler: Sampler, made: Made, stream: bool = False
              ) -> Iterator[Tensor]:
        """The speech of one piece."""
        if stream:
            yield from self.stream(request, seed, sampler, made)
            return
        (written,) = self.write([request], [seed], sampler, [made])
        yield self.sound_of(request, written, seed, made)
