"""Tokens of one text to its speech, part by part, with a codec that remembers what came before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor

from photophone.core.tokens import Tokens
from photophone.pipelines.speech_attack import MURMURING, SharpAttack, begins_softly

if TYPE_CHECKING:
    from photophone.pipelines.speech_fronts import SpokenVoice
    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

DECODED_TOKENS = 500
"""Of a text that are decoded at once."""

Opened = TypeVar("Opened")


class TextSound:
    """The speech of one text; made and called while the codec streams.

    Args:
        pipeline: whose codec decodes.
        spoken: the voice whose recording the speech continues, or None.
    """

    def __init__(self, pipeline: TextToSpeechPipeline, spoken: SpokenVoice | None) -> None:
        self.codec, self.sample_rate = pipeline.codec, pipeline.sample_rate
        self.murmurs = pipeline.source["model"] in MURMURING
        self.attack: SharpAttack | None = None
        self.cut = pipeline.front.cut_frames * self.codec.hop_length
        lead_in = None if spoken is None else pipeline.front.lead_in(spoken)
        if lead_in is not None:
            self.codec.decode(Tokens(lead_in))

    def __call__(self, values: Tensor, opened: object = None) -> Tensor:
        """The next tokens (1, n, ...) as speech (T,).

        Args:
            opened: the piece of the text that begins with them, or None.
        """
        if opened is not None:
            self.attack = SharpAttack(self.sample_rate) if self.murmurs and begins_softly(opened) else None
        audio = self.codec.decode(Tokens(values))[0, 0]
        audio, self.cut = audio[self.cut:], max(0, self.cut - len(audio))
        return audio if self.attack is None else self.attack(audio)


def in_steps(parts: Iterable[tuple[Tensor, Opened | None]]) -> Iterator[tuple[Tensor, Opened | None]]:
    """The same tokens in parts of at most ``DECODED_TOKENS``, so that memory does not grow with a text; what a part
    opens stays with its first."""
    for values, opened in parts:
        for index, part in enumerate(values.split(DECODED_TOKENS, dim=1 if values.is_floating_point() else -1)):
            yield part, None if index else opened
