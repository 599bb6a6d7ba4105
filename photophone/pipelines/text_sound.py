"""Tokens of one text to its speech, part by part, with a codec that remembers what came before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from photophone.core.tokens import Tokens
from photophone.pipelines.speech_faults import Listener
from photophone.pipelines.speech_pieces import PAUSE, Effects, Part, Piece, SpeechCall

if TYPE_CHECKING:
    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

DECODED_TOKENS = 500
"""Of a text that are decoded at once."""


class TextSound:
    """The speech of one text; made and called while the codec streams.

    Args:
        pipeline: whose codec decodes.
        call: what the text belongs to; speech goes on from the end of the recording of its voice.
    """

    def __init__(self, pipeline: TextToSpeechPipeline, call: SpeechCall) -> None:
        self.pipeline, self.call = pipeline, call
        self.effects: Effects | None = None
        self.listener: Listener | None = None
        self.cut = pipeline.front.cut_frames * pipeline.codec.hop_length
        lead_in = None if call.voice is None else pipeline.front.lead_in(call.voice)
        if lead_in is not None:
            pipeline.codec.decode(Tokens(lead_in))

    def __call__(self, values: Tensor, opened: Piece | str | None = None) -> Tensor:
        """The next tokens (1, n, ...) as speech (T,), behind what the effects of the piece before have left.

        Args:
            opened: see :data:`photophone.pipelines.speech_pieces.Part`.
        """
        left = torch.zeros(0)
        if isinstance(opened, Piece):
            left = self.finish()
            self.effects = self.pipeline.effects_of(opened, self.call)
            self.listener = self.pipeline.listener_of(opened, self.call)
        audio = self.pipeline.codec.decode(Tokens(values))[0, 0]
        audio, self.cut = audio[self.cut:], max(0, self.cut - len(audio))
        if opened != PAUSE and self.listener is not None:
            self.listener.hear(audio)
        audio = audio if self.effects is None else self.effects(audio)
        return torch.cat([left.to(audio), audio]) if len(left) else audio

    def finish(self) -> Tensor:
        """What the effects of the last piece have left."""
        return torch.zeros(0) if self.effects is None else self.effects.finish()


def in_steps(parts: Iterable[Part]) -> Iterator[Part]:
    """The same tokens in parts of at most ``DECODED_TOKENS``, so that memory does not grow with a text."""
    for values, opened in parts:
        for index, part in enumerate(values.split(DECODED_TOKENS, dim=1 if values.is_floating_point() else -1)):
            yield part, opened if not index or opened == PAUSE else None
