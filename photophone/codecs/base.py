"""The contract of audio codecs."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn import functional

from photophone.core.tokens import Tokens
from photophone.layers.lengths import keep_valid, length_mask
from photophone.layers.streaming import streaming
from photophone.quantizers.model import QuantizedModel


class AudioCodec(QuantizedModel):
    """Waveforms float ``(B, 1, T)`` in [-1, 1] at :attr:`sample_rate` to :class:`Tokens` and back.

    A family has a ``sample_rate`` in its config and a quantizer ``bottleneck``, or overrides the properties that speak
    of it, and implements :attr:`hop_length`, :meth:`encode` and :meth:`decode`. A clip of ``t`` samples has
    ``ceil(t / hop_length)`` tokens, and decodes to that many whole hops; a family that differs overrides
    :meth:`token_lengths` and :meth:`audio_lengths`.
    """

    streams: bool = False
    """True where decoding chunks of tokens within :meth:`streaming` equals decoding the whole."""
    stream_chunk: int = 1
    """Tokens that every chunk but the last must be a multiple of."""
    streams_encode: bool = False
    """True where encoding chunks within :meth:`streaming` equals encoding the whole, in steps of ``stream_chunk *
    hop_length`` samples."""
    needs_weights: bool = True
    """False where nothing is trained."""

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
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

    @abstractmethod
    def encode(self, audio: Tensor, lengths: Tensor | None = None) -> Tokens:
        """Waveforms to tokens.

        Args:
            audio: (B, 1, T) in [-1, 1].
            lengths: Long (B,), valid samples per row, or None when every row is full. What lies behind a row's
                length does not change its tokens, as far as the architecture allows.
        """

    @abstractmethod
    def decode(self, tokens: Tokens) -> Tensor:
        """Tokens to waveforms (B, 1, T); row b is valid up to ``audio_lengths(tokens)[b]``, and zero behind."""

    def token_lengths(self, lengths: Tensor) -> Tensor:
        """Tokens of clips of ``lengths`` samples, Long (B,)."""
        return -(-lengths // self.hop_length)

    def audio_lengths(self, tokens: Tokens) -> Tensor:
        """Samples that each row of ``tokens`` decodes to, Long (B,)."""
        return tokens.mask.sum(1) * self.hop_length

    def streaming(self, batch_size: int = 1) -> AbstractContextManager[None]:
        """Within the context, each :meth:`decode` continues the last one, for ``batch_size`` rows.

        Raises:
            ValueError: the architecture sees the whole clip and cannot stream.
        """
        if not self.streams:
            raise ValueError(f"{type(self).__name__} cannot stream: it sees the whole clip at once; decode the whole")
        return streaming(self, batch_size)

    def whole_hops(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Audio (B, 1, T) with zeros behind the end of each row and up to a multiple of the hop."""
        mask = None if lengths is None else length_mask(lengths.to(audio.device), audio.shape[-1])
        return functional.pad(keep_valid(audio, mask), (0, -audio.shape[-1] % self.hop_length))

    def silence_behind(self, audio: Tensor, tokens: Tokens) -> Tensor:
        """Decoded audio (B, 1, T) with zeros behind the end of each row."""
        mask = None if tokens.lengths is None else length_mask(self.audio_lengths(tokens), audio.shape[-1])
        return keep_valid(audio, mask)

    def check_audio(self, audio: Tensor, lengths: Tensor | None = None) -> None:
        """Refuse what :meth:`encode` cannot read.

        Raises:
            ValueError: wrong shape or dtype, an empty batch or clip, values that are not finite, or wrong lengths.
        """
        if audio.dim() != 3 or audio.shape[1] != 1 or not audio.numel():
            raise ValueError(f"audio must have shape (B, 1, T) with T > 0, got {tuple(audio.shape)}; "
                             "mix channels to mono and add a batch dimension first")
        if not audio.is_floating_point():
            raise ValueError(f"audio must be float in [-1, 1], got {audio.dtype}; divide 16-bit samples by 32768")
        if not torch.isfinite(audio).all():
            raise ValueError("the audio holds NaN or infinite samples")
        if lengths is None:
            return
        if lengths.dtype != torch.long or tuple(lengths.shape) != audio.shape[:1]:
            raise ValueError(f"lengths must be Long ({audio.shape[0]},), got {lengths.dtype} {tuple(lengths.shape)}")
        if not (int(lengths.min()) >= 1 and int(lengths.max()) <= audio.shape[-1]):
            raise ValueError(f"lengths must lie in 1..{audio.shape[-1]}, got {lengths.tolist()}")

    def check_tokens(self, tokens: Tokens) -> None:
        """Refuse tokens of another model, shape or kind, with codes outside the codebook, or with NaN or infinity.

        Raises:
            ValueError: names what was expected and what came.
        """
        values, own = tokens.values, self.published_name
        if own and tokens.model and tokens.model != own:
            raise ValueError(f"the tokens were made by {tokens.model}, they cannot be decoded by {own}")
        if tokens.sample_rate not in (None, self.sample_rate):
            raise ValueError(f"the tokens are of audio at {tokens.sample_rate} Hz, this codec reads {self.sample_rate}")
        if self.codebook_size is None:
            if not tokens.is_continuous or values.shape[2] != self.token_dim:
                raise ValueError(f"this codec decodes float tokens (B, N, {self.token_dim}), "
                                 f"got {values.dtype} {tuple(values.shape)}")
            if not torch.isfinite(values).all():
                raise ValueError("the tokens hold NaN or infinite values")
            return
        books = 1 if values.dim() == 2 else values.shape[1]
        if tokens.is_continuous or values.dim() - 2 != (self.num_codebooks > 1) or books != self.num_codebooks:
            shape = "(B, N)" if self.num_codebooks == 1 else f"(B, {self.num_codebooks}, N)"
            raise ValueError(f"this codec decodes Long tokens {shape}, got {values.dtype} {tuple(values.shape)}")
        if values.numel() and not (int(values.min()) >= 0 and int(values.max()) < self.codebook_size):
            raise ValueError(f"codes must lie in 0..{self.codebook_size - 1}, "
                             f"got {int(values.min())}..{int(values.max())}")
