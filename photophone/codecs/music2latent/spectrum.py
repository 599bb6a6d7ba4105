"""Waveforms as complex spectrograms whose magnitudes are compressed, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from photophone.kernels.overlap_add import windowed_overlap_add
from photophone.layers.constants import ConstantsModule

OVERLAP = 4
"""A frame is so many hops long; its squared Hann windows then add up to a constant."""


class CompressedSpectrum(ConstantsModule):
    """Samples (B, T) to maps float32 (B, 2, 2 * hop, F), real and imaginary parts, and back.

    A bin X becomes ``scale * |X| ** exponent`` with the phase of X. Frame k begins at sample ``k * hop``, nothing is
    padded, and the highest frequency is dropped: ``(F + 3) * hop`` samples have F frames. The first and the last three
    hops fade in and out, as fewer frames overlap there.

    Args:
        hop: samples between frames.
        exponent: in (0, 1].
        scale: above 0.

    Raises:
        ValueError: settings outside these ranges.
    """

    def __init__(self, hop: int, exponent: float, scale: float) -> None:
        super().__init__()
        if hop < 1 or not 0 < exponent <= 1 or scale <= 0:
            raise ValueError("a spectrum needs hop >= 1, an exponent in (0, 1] and a scale above 0, "
                             f"got {hop}, {exponent} and {scale}")
        self.hop, self.exponent, self.scale = hop, exponent, scale
        # rounded from float32 arithmetic as the official window is: tokens are then equal to the last bits
        self.add_constant("window", torch.hann_window(OVERLAP * hop, dtype=torch.float32))

    @property
    def bins(self) -> int:
        """Frequencies of a map."""
        return OVERLAP * self.hop // 2

    def samples(self, frames: int) -> int:
        """Samples that ``frames`` frames cover."""
        return (frames + OVERLAP - 1) * self.hop

    def analyse(self, audio: Tensor) -> Tensor:
        """Samples (B, T), at least four hops, to a map (B, 2, bins, F)."""
        frames = audio.float().unfold(-1, OVERLAP * self.hop, self.hop) * self.window  # (B, F, 4 * hop)
        spectra = torch.fft.rfft(frames)[..., :self.bins].transpose(1, 2)  # (B, bins, F)
        compressed = torch.polar(self.scale * spectra.abs() ** self.exponent, spectra.angle())
        return torch.stack([compressed.real, compressed.imag], dim=1)

    def synthesise(self, x: Tensor) -> Tensor:
        """A map (B, 2, bins, F) to samples float32 (B, (F + 3) * hop), cut to [-1, 1]."""
        compressed = torch.complex(x[:, 0].float(), x[:, 1].float())  # (B, bins, F)
        magnitude = (compressed.abs() / self.scale) ** (1 / self.exponent)
        spectra = torch.polar(magnitude, compressed.angle())
        # irfft fills up the highest frequency, which was dropped, with zeros
        frames = torch.fft.irfft(spectra, n=OVERLAP * self.hop, dim=1)  # (B, 4 * hop, F)
        constant = self.window.square().sum() / self.hop
        return windowed_overlap_add(frames, self.window, self.hop, constant=constant).clamp(-1, 1)
