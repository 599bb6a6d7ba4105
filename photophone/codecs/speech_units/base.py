"""The contract of speech units: integers that a language model of speech reads and writes."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, NoReturn

import torch
from torch import Tensor
from torch.nn import functional

from photophone.codecs.base import AudioCodec
from photophone.codecs.speech_units.blocks import SAMPLE_RATE
from photophone.core.tokens import TokenFormat, Tokens
from photophone.layers.lengths import length_mask
from photophone.layers.rows import map_equal_lengths


class SpeechUnits(AudioCodec):
    """Speech (B, 1, T) at 16 kHz to units Long (B, N); there is no way back, which is another model's work.

    A family implements :meth:`units` and :meth:`token_lengths`. Rows are encoded apart where they differ in length, so
    a batch equals single clips.
    """

    OTHER: ClassVar[str] = "a model that speaks these units"
    """What makes speech of the units."""

    @abstractmethod
    def units(self, audio: Tensor) -> Tensor:
        """Clips float (B, T) of one length, at least :attr:`least_samples`, to units Long (B, N)."""

    @property
    @abstractmethod
    def num_units(self) -> int:
        """Different units."""

    @property
    def least_samples(self) -> int:
        """Shorter clips are filled up by silence to so many samples."""
        return self.hop_length

    @property
    def sample_rate(self) -> int:
        return SAMPLE_RATE

    @property
    def token_format(self) -> TokenFormat:
        return TokenFormat(codebook_size=self.num_units)

    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        audio = functional.pad(audio[:, 0].float(), (0, max(self.least_samples - audio.shape[-1], 0)))
        if lengths is not None:
            audio = torch.where(length_mask(lengths, audio.shape[1]), audio, 0)
            lengths = lengths.clamp(min=self.least_samples)
        return Tokens(map_equal_lengths(self.units, audio, lengths))

    def _decode(self, tokens: Tokens) -> NoReturn:
        raise ValueError(f"{type(self).__name__} reads speech and has no way back; {self.OTHER} makes speech of its "
                         "tokens")
