"""The contract of audio codecs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from photophone.codecs.vocoder import CHUNK_SECONDS, Vocoder
from photophone.core.limits import MAX_SAMPLE
from photophone.core.noise import Noise
from photophone.core.threads import fitting_threads
from photophone.core.token_model import Reconstruction
from photophone.core.tokens import TokenFormat, Tokens
from photophone.layers.lengths import keep_valid, length_mask
from photophone.layers.mel import MelSpectrogram


class AudioCodec(Vocoder):
    """Waveforms float ``(B, 1, T)`` in [-1, 1] at :attr:`sample_rate` to :class:`Tokens` and back.

    A family implements what a :class:`Vocoder` does, and :meth:`_encode`; one with a quantizer also inherits
    :class:`photophone.quantizers.model.QuantizedModel`, which has the token format. A clip of ``t`` samples has
    ``ceil(t / hop_length)`` tokens, and decodes to that many whole hops; a family that differs overrides
    :meth:`token_lengths` and :meth:`audio_lengths`. :meth:`encode` checks what it is given, moves it to the model,
    switches gradients off and says where the tokens come from, and is the same for all.
    """

    streams_encode: bool = False
    """True where encoding chunks within :meth:`streaming` equals encoding the whole, in steps of ``stream_chunk *
    hop_length`` samples."""
    trains: ClassVar[bool] = False
    """True where :meth:`forward` is a training pass."""

    @torch.no_grad()
    def encode(self, audio: Tensor, lengths: Tensor | None = None) -> Tokens:
        """Waveforms to tokens.

        Args:
            audio: (B, 1, T) in [-1, 1], on any device.
            lengths: Long (B,), valid samples per row, or None when every row is full. What lies behind a row's
                length does not change its tokens, as far as the architecture allows.

        Raises:
            ValueError: audio or lengths that :meth:`check_audio` refuses, or a model that only decodes.
        """
        self.check_audio(audio, lengths)
        audio = audio.to(self.device)  # in its own dtype: spectra are computed in float32, whatever the model's is
        lengths = None if lengths is None else lengths.to(self.device)
        counts = None if lengths is None else self.token_lengths(lengths)
        with fitting_threads(self, len(audio) * audio.shape[-1] // self.hop_length, gives_way=True):
            tokens = self._encode(audio, lengths)
        return replace(tokens, lengths=counts, model=self.published_name, sample_rate=self.sample_rate)

    @abstractmethod
    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        """:meth:`encode` of the family: audio and lengths are checked and on the model's device. The base adds the
        tokens' lengths, model and sample rate."""

    def encode_long(self, audio: Tensor, lengths: Tensor | None = None, *,
                    chunk_seconds: float = CHUNK_SECONDS) -> Tokens:
        """As :meth:`encode`; where the model has ``streams_encode``, row by row in chunks of about ``chunk_seconds``,
        so that memory does not grow with the clip. All other models are given the whole clip."""
        step = self.stream_chunk * self.hop_length
        step *= max(1, round(chunk_seconds * self.sample_rate / step))
        if not self.streams_encode or audio.shape[-1] <= step:
            return self.encode(audio, lengths)
        self.check_audio(audio, lengths)
        if lengths is None:
            lengths = torch.full((len(audio),), audio.shape[-1])
        axis, rows = 0 if self.token_format.is_continuous else -1, []  # of time in a row
        for row, length in zip(audio, lengths.tolist()):
            with self.streaming(1):
                parts = [self.encode(part[None]).values[0] for part in row[:, :length].split(step, dim=-1)]
            rows.append(torch.cat(parts, dim=axis))
        counts = self.token_lengths(lengths.to(self.device))
        missing = [int(counts.max()) - row.shape[axis] for row in rows]
        values = torch.stack([functional.pad(row, (0, 0) * (axis == 0) + (0, count))
                              for row, count in zip(rows, missing)])
        return Tokens(values, counts, self.published_name, self.sample_rate)

    def forward(self, audio: Tensor, noise: Noise | None = None) -> Reconstruction:
        """One training pass of whole hops of audio (B, 1, T).

        Raises:
            ValueError: a family that is not trained here.
        """
        raise ValueError(f"{type(self).__name__} has no training pass here; it runs with published weights")

    def as_read(self, audio: Tensor) -> Tensor:
        """Waveforms (B, 1, T) as the model's own are to be: the same, unless it changes what it reads."""
        return audio

    def token_lengths(self, lengths: Tensor) -> Tensor:
        """Tokens of clips of ``lengths`` samples, Long (B,)."""
        return -(-lengths // self.hop_length)

    def whole_hops(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Audio (B, 1, T) with zeros behind the end of each row and up to a multiple of the hop."""
        mask = None if lengths is None else length_mask(lengths.to(audio.device), audio.shape[-1])
        return functional.pad(keep_valid(audio, mask), (0, -audio.shape[-1] % self.hop_length))

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
        extremes = torch.stack(audio.aminmax())  # one pass over the samples; NaN becomes both
        if not torch.isfinite(extremes).all():
            raise ValueError("the audio holds NaN or infinite samples")
        if float(extremes.abs().max()) > MAX_SAMPLE:
            raise ValueError(f"the audio holds a sample of {float(extremes.abs().max()):g}; full scale is 1, and over "
                             f"{MAX_SAMPLE:g} is refused: divide 16-bit samples by 32768")
        if lengths is None:
            return
        if lengths.dtype != torch.long or tuple(lengths.shape) != audio.shape[:1]:
            raise ValueError(f"lengths must be Long ({audio.shape[0]},), got {lengths.dtype} {tuple(lengths.shape)}")
        if not (int(lengths.min()) >= 1 and int(lengths.max()) <= audio.shape[-1]):
            raise ValueError(f"lengths must lie in 1..{audio.shape[-1]}, got {lengths.tolist()}")


class MelVocoder(AudioCodec):
    """A vocoder of log-mel frames as a codec: its tokens are the frames (B, N, num_mels).

    A family has ``num_mels`` in its config, and its constructor builds ``mel``.
    """

    mel: MelSpectrogram
    fills_last_hop: ClassVar[bool] = False
    """True where an unfinished last hop is filled up with silence, False where it has no frame."""

    @property
    def token_format(self) -> TokenFormat:
        return TokenFormat(token_dim=self.config.num_mels)

    def token_lengths(self, lengths: Tensor) -> Tensor:
        if self.fills_last_hop:
            lengths = -(-lengths // self.hop_length) * self.hop_length
        return self.mel.frames(lengths)

    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        if self.fills_last_hop:
            audio = self.whole_hops(audio, lengths)
            lengths = None if lengths is None else -(-lengths // self.hop_length) * self.hop_length
        frames = self.mel(audio[:, 0], lengths).transpose(1, 2)  # (B, N, num_mels)
        return Tokens(frames if lengths is None else frames[:, :int(self.mel.frames(lengths).max())])
