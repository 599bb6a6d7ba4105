"""Vocos: log-mel frames to waveforms by predicted spectra, as a codec whose tokens are the mel frames.

Paper: arXiv 2306.00814. Original code: github.com/gemelo-ai/vocos, MIT. Weights: MIT, as its hub pages state.
The variant that reads EnCodec's codes is in ``photophone/codecs/encodec/model.py``.
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from photophone.codecs.base import AudioCodec
from photophone.core.tokens import Tokens
from photophone.layers.istft import ISTFTHead
from photophone.layers.mel import MelSpectrogram
from photophone.layers.vocos_backbone import VocosBackbone
from photophone.loading.checkpoints import OriginalCheckpoint


class Vocos(OriginalCheckpoint, AudioCodec):
    """Waveforms (B, 1, T) to natural log-mel frames (B, N, num_mels), and back.

    With centred frames a clip has a frame more than it has hops, and decodes to whole hops.

    Args:
        sample_rate: in Hz.
        n_fft, hop_length, num_mels: of the mel frames.
        width, hidden, depth: of the backbone; see :class:`photophone.layers.vocos_backbone.VocosBackbone`.
        num_conditions: numbered conditions of the backbone, or None.
        synthesis_n_fft: points of the predicted spectra; ``n_fft`` when None.
        padding: where frames lie, "center" or "same"; see :mod:`photophone.layers.istft`.

    Raises:
        ValueError: frames that leave gaps, or that lie unevenly around their hops.
    """

    CONTAINERS = ("state_dict",)
    DROPPED_KEYS = ("feature_extractor.mel_spec.*", "head.istft.window")  # constants of the config

    @register_to_config
    def __init__(self, sample_rate: int = 24000, n_fft: int = 1024, hop_length: int = 256, num_mels: int = 100,
                 width: int = 512, hidden: int = 1536, depth: int = 8, num_conditions: int | None = None,
                 synthesis_n_fft: int | None = None, padding: str = "center") -> None:
        super().__init__()
        if padding not in ("center", "same"):
            raise ValueError(f"padding must be 'center' or 'same', got {padding!r}")
        if padding == "same" and (n_fft - hop_length) % 2:
            raise ValueError(f"n_fft - hop_length must be even to lie in the middle, got {n_fft} and {hop_length}")
        self.mel = MelSpectrogram(sample_rate, n_fft, hop_length, num_mels, padding=padding)
        self.backbone = VocosBackbone(num_mels, width, hidden, depth, num_conditions=num_conditions)
        self.head = ISTFTHead(width, synthesis_n_fft or n_fft, hop_length, padding)

    @property
    def hop_length(self) -> int:
        return self.config.hop_length

    @property
    def token_dim(self) -> int:
        return self.config.num_mels

    @property
    def codebook_size(self) -> None:
        return None

    @property
    def num_codebooks(self) -> int:
        return 1

    def token_lengths(self, lengths: Tensor) -> Tensor:
        return super().token_lengths(lengths) + (self.config.padding == "center")

    def audio_lengths(self, tokens: Tokens) -> Tensor:
        frames = tokens.mask.sum(1) - int(self.config.padding == "center")
        return frames.clamp(min=0) * self.hop_length

    def synthesize(self, mels: Tensor, mask: Tensor | None = None, condition: int | None = None) -> Tensor:
        """Mel frames (B, N, num_mels), of which ``mask`` (B, N) are valid, to audio float32 (B, 1, T).

        Args:
            condition: its number, where the backbone has them.
        """
        told = None if condition is None else torch.tensor([condition], device=mels.device)
        x = self.backbone(mels.transpose(1, 2).to(self.dtype), told, mask)
        return self.head(x, mask)[:, None]

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """For training: audio (B, 1, T) of whole hops through its mel frames, a bottleneck's loss of zero, and no
        metrics."""
        made = self.synthesize(self.mel(audio[:, 0]).transpose(1, 2))
        return made, made.new_zeros(()), {}

    @torch.no_grad()
    def encode(self, audio: Tensor, lengths: Tensor | None = None) -> Tokens:
        """Audio to its mel frames; see :meth:`AudioCodec.encode`. The last hop is filled up with silence."""
        self.check_audio(audio, lengths)
        audio = self.whole_hops(audio.to(self.device), lengths)[:, 0]
        if lengths is None:
            return Tokens(self.mel(audio).transpose(1, 2), None, self.published_name)
        hops = -(-lengths.to(audio.device) // self.hop_length)
        mels = self.mel(audio, hops * self.hop_length).transpose(1, 2)
        return Tokens(mels, self.token_lengths(lengths.to(audio.device)), self.published_name)

    @torch.no_grad()
    def decode(self, tokens: Tokens, condition: int | None = None) -> Tensor:
        """Mel frames to waveforms; see :meth:`AudioCodec.decode` and :meth:`synthesize`."""
        self.check_tokens(tokens)
        tokens = tokens.to(self.device)
        condition = 0 if condition is None and self.config.num_conditions else condition
        mask = None if tokens.lengths is None else tokens.mask
        return self.synthesize(tokens.values, mask, condition)
