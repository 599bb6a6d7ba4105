"""The contract of vocoders, and what those of mel frames share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor

from photophone.core.threads import fitting_threads
from photophone.core.token_model import TokenModel
from photophone.core.tokens import Tokens
from photophone.layers.lengths import keep_valid, length_mask
from photophone.layers.streaming import streaming

CHUNK_SECONDS = 10.0
"""What models that stream are given of long audio at a time."""

PIECE_SECONDS = 0.2
"""Up to here tokens are a piece of a stream."""


class Vocoder(TokenModel):
    """:class:`Tokens`, which may be frames of a spectrum, to waveforms float ``(B, 1, T)`` in [-1, 1].

    A family has a ``sample_rate`` in its config and implements :attr:`token_format`, :attr:`hop_length` and
    :meth:`_decode`; one that does not make whole hops overrides :meth:`audio_lengths`. :meth:`decode` checks what it is
    given, moves it to the model and switches gradients off, and is the same for all.

    **Streams.** :meth:`stream` is the way for all families that have ``streams``: pieces of tokens in, waveforms out,
    as soon as they are certain. Those without a ``delay`` also have :meth:`streaming`, for callers that want the
    samples of each call of :meth:`decode` at once.
    """

    streams: bool = False
    """True where pieces of tokens through :meth:`stream` give what the whole gives."""
    stream_chunk: int = 1
    """Tokens that every piece but the last must be a multiple of."""
    delay: int = 0
    """Tokens that have come before :meth:`stream` makes the samples of the first."""
    needs_weights: bool = True
    """False where nothing is trained."""
    fade_in: ClassVar[int] = 0
    """Samples at the beginning of a decoded clip that are not yet whole; training does not compare them."""

    @property
    def sample_rate(self) -> int:
        """Samples per second of the audio that tokens speak of."""
        return self.config.sample_rate

    @property
    def output_sample_rate(self) -> int:
        """Samples per second of what :meth:`decode` makes; another than :attr:`sample_rate` in codecs that raise it."""
        return self.sample_rate

    @property
    @abstractmethod
    def hop_length(self) -> int:
        """Samples per token."""

    @property
    def frame_rate(self) -> float:
        """Tokens per second."""
        return self.sample_rate / self.hop_length

    @torch.no_grad()
    def decode(self, tokens: Tokens, **options: Any) -> Tensor:
        """Tokens to waveforms.

        Args:
            tokens: of this model, on any device.
            options: those of the family, see ``decode_options`` and its ``_decode``.

        Returns:
            (B, 1, T) at :attr:`output_sample_rate`; row b is valid up to ``audio_lengths(tokens)[b]``, and zero behind.

        Raises:
            ValueError: tokens that :meth:`check_tokens` refuses.
            TypeError: options of another family.
        """
        self.check_options(options, self.decode_options)
        self.check_tokens(tokens)
        tokens = tokens.to(self.device)
        if tokens.lengths is not None and not tokens.lengths.any():
            return torch.zeros(len(tokens), 1, 0, device=self.device)
        places = len(tokens) * tokens.num_tokens
        if tokens.num_tokens <= PIECE_SECONDS * self.frame_rate:
            places //= 4  # a piece of a stream: many layers of little work each, in which threads wait for each other
        with fitting_threads(self, places, gives_way=True):
            return self.silence_behind(self._decode(tokens, **options), tokens)

    @abstractmethod
    def _decode(self, tokens: Tokens) -> Tensor:
        """:meth:`decode` of the family: tokens are checked and on the model's device, and some row has tokens; the base
        writes silence behind the end of each row."""

    def decode_long(self, tokens: Tokens, *, chunk_seconds: float = CHUNK_SECONDS, **options: Any) -> Tensor:
        """As :meth:`decode`, row by row, in chunks of about ``chunk_seconds`` where the model has :meth:`streaming`, so
        that memory does not grow with the clip. All other models are given each row as a whole.

        Returns:
            (B, 1, T), on the model's device.
        """
        self.check_tokens(tokens)
        step = self.stream_chunk * max(1, round(chunk_seconds * self.frame_rate / self.stream_chunk))
        axis, rows = 1 if tokens.is_continuous else -1, []
        for index in range(len(tokens)):
            row = tokens[index]
            count = int(row.mask.sum())
            values = row.values.narrow(axis, 0, count)
            if not self.streams or self.delay or count <= step:
                rows.append(self.decode(Tokens(values), **options))
                continue
            with self.streaming(1):
                rows.append(torch.cat([self.decode(Tokens(part), **options) for part in values.split(step, dim=axis)],
                                      dim=-1))
        longest = max(row.shape[-1] for row in rows)
        return torch.cat([torch.nn.functional.pad(row, (0, longest - row.shape[-1])) for row in rows])

    def stream(self, pieces: Iterable[Tokens], **options: Any) -> Iterator[Tensor]:
        """Waveforms (B, 1, k) of one signal whose tokens come in pieces; together they are what :meth:`decode` makes of
        the whole.

        Args:
            pieces: all of the same B full rows, of whole ``stream_chunk`` but for the last.
            options: of :meth:`decode`, for the whole signal.

        Raises:
            ValueError: the architecture sees the whole clip and cannot stream.
        """
        pieces = iter(pieces)
        first = next(pieces, None)
        if first is None:
            return
        with self.streaming(len(first)):
            for piece in chain([first], pieces):
                yield self.decode(piece, **options)

    def streaming(self, batch_size: int = 1) -> AbstractContextManager[None]:
        """Within the context, each :meth:`decode` continues the last one, for ``batch_size`` rows.

        Raises:
            ValueError: the architecture sees the whole clip and cannot stream, or its samples come late.
        """
        if not self.streams:
            raise ValueError(f"{type(self).__name__} cannot stream: it sees the whole clip at once; decode the whole")
        if self.delay:
            raise ValueError(f"{type(self).__name__} cannot stream through decode(): its samples come {self.delay} "
                             "tokens late; use stream()")
        return streaming(self, batch_size)

    def audio_lengths(self, tokens: Tokens) -> Tensor:
        """Samples that each row of ``tokens`` decodes to, Long (B,)."""
        return tokens.mask.sum(1) * self.hop_length

    def silence_behind(self, audio: Tensor, tokens: Tokens) -> Tensor:
        """Decoded audio (B, 1, T) with zeros behind the end of each row."""
        mask = None if tokens.lengths is None else length_mask(self.audio_lengths(tokens), audio.shape[-1])
        return keep_valid(audio, mask)

    def check_tokens(self, tokens: Tokens) -> None:
        """As in the base, and of audio at another rate."""
        if tokens.sample_rate not in (None, self.sample_rate):
            raise ValueError(f"the tokens are of audio at {tokens.sample_rate} Hz, this codec reads {self.sample_rate}")
        super().check_tokens(tokens)
