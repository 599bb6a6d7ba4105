"""A small network that says which phoneme is heard in each 25 ms of a recording.

It learns the times that the teacher voice tells, and with them its conventions: stress marks, spaces and punctuation
have a time of their own, and a sound counts 50 ms later than it is heard, as the built-in voice wants it.

Code and weights: Apache-2.0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.core.model import Model
from photophone.layers.convnext import ConvNeXtBlock
from photophone.layers.mel import MelSpectrogram
from photophone.text.phonemes import SYMBOLS

MELS_PER_FRAME = 2
FLOOR = 1e-4
"""Smallest magnitude of a mel band: that of faint noise."""


class PhonemeAligner(Model):
    """Speech (B, T) to log probabilities of phonemes, one row for each frame of 25 ms.

    Args:
        sample_rate: in Hz.
        frame_length: samples of a frame; half of it lies between two columns of mels.
        num_mels: of the input.
        width, depth: of the blocks; ``hidden`` channels inside their MLPs.
        dilations: of the blocks, taken in turn.
        kernel_size: of their depthwise convolutions.
        num_symbols: of the phoneme table; one more class is the blank of CTC.
    """

    def __init__(self, sample_rate: int = 16000, frame_length: int = 400, num_mels: int = 64, width: int = 128,
                 depth: int = 8, hidden: int = 256, dilations: list[int] | None = None, kernel_size: int = 9,
                 num_symbols: int = len(SYMBOLS)) -> None:
        super().__init__()
        steps = dilations or [1, 1, 2, 4]
        self.mels = MelSpectrogram(sample_rate, 512, frame_length // MELS_PER_FRAME, num_mels, padding="same",
                                   clip=FLOOR)
        self.conv_in = nn.Conv1d(num_mels, width, 3 * MELS_PER_FRAME, stride=MELS_PER_FRAME, padding=MELS_PER_FRAME)
        self.blocks = nn.ModuleList(ConvNeXtBlock(width, hidden, kernel_size, layer_scale=1 / depth,
                                                  dilation=steps[place % len(steps)]) for place in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, num_symbols + 1)

    @property
    def frame_seconds(self) -> float:
        """Of one row of the result."""
        return self.config.frame_length / self.config.sample_rate

    def features(self, audio: Tensor) -> Tensor:
        """Mel frames (B, num_mels, F) of speech (B, T), whole frames of it, without the colour of the microphone."""
        mels = self.mels(audio)
        return (mels - mels.mean(dim=2, keepdim=True)) / 2

    def forward(self, audio: Tensor) -> Tensor:
        """Log probabilities (B, N, num_symbols + 1) of speech (B, N * frame_length)."""
        x = self.conv_in(self.features(audio).to(self.dtype))
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x.transpose(1, 2))).log_softmax(dim=-1)

    @torch.no_grad()
    def listen(self, audio: Tensor) -> Tensor:
        """Log probabilities (N, num_symbols + 1) of one recording float (T,), silence after its end."""
        missing = -len(audio) % self.config.frame_length
        whole = nn.functional.pad(audio.to(self.device), (0, missing))
        return self(whole[None])[0].float()
