"""Vocos: log-mel frames to waveforms by predicted spectra, as a codec whose tokens are the mel frames.

Paper: arXiv 2306.00814. Original code: github.com/gemelo-ai/vocos, MIT. Weights: MIT, as its hub pages state.
The variant that reads EnCodec's codes is in ``photophone/codecs/encodec/model.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from photophone.codecs.base import MelVocoder
from photophone.core.noise import Noise
from photophone.core.token_model import Reconstruction
from photophone.core.tokens import Tokens
from photophone.layers.istft import ISTFTHead
from photophone.layers.mel import MelSpectrogram
from photophone.layers.vocos_backbone import VocosBackbone
from photophone.loading.checkpoints import OriginalCheckpoint


class Vocos(OriginalCheckpoint, MelVocoder):
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

    trains = True
    fills_last_hop = True
    decode_options = ("condition",)
    CONTAINERS = ("state_dict",)
    DROPPED_KEYS = ("feature_extractor.mel_spec.*", "head.istft.window")  # constants of the config

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

    def forward(self, audio: Tensor, noise: Noise | None = None) -> Reconstruction:
        """One training pass of whole hops of audio (B, 1, T), through their mel frames; nothing is drawn."""
        made = self.synthesize(self.mel(audio[:, 0]).transpose(1, 2))
        return Reconstruction(made, made.new_zeros(()))

    def _decode(self, tokens: Tokens, condition: int | None = None) -> Tensor:
        """``condition`` is that of :meth:`synthesize`; None: the first, where there are some."""
        condition = 0 if condition is None and self.config.num_conditions else condition
        mask = None if tokens.lengths is None else tokens.mask
        return self.synthesize(tokens.values, mask, condition)
