"""Short-time Fourier transforms as real convolutions.

ONNX has no complex numbers, and onnxruntime's own STFT and DFT are inexact for lengths that are no power of two. The
transform of a frame is a product with a fixed matrix, so frames of all times are one convolution, whose stride is the
hop. Real parts stand before imaginary parts in the channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.kernels.overlap_add import SMALLEST_ENVELOPE


def fourier(n_fft: int) -> Tensor:
    """The real transform as a matrix float64 (n_fft + 2, n_fft): cosines of all bins, then negative sines."""
    # whole turns are taken away in whole numbers: a large angle would lose digits
    turns = torch.outer(torch.arange(n_fft // 2 + 1), torch.arange(n_fft)) % n_fft
    angles = 2 * torch.pi * turns.double() / n_fft
    return torch.cat([angles.cos(), -angles.sin()])


class Analysis(nn.Module):
    """Waveforms (B, T) to spectra (B, n_fft + 2, F) of frames that lie side by side from the first sample on.

    Args:
        window: (n_fft,).
        hop_length: samples between frames.
    """

    def __init__(self, window: Tensor, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        self.register_buffer("kernel", (fourier(len(window)) * window.double()).float()[:, None])

    def forward(self, audio: Tensor) -> Tensor:
        """Spectra of whole frames; samples behind the last whole frame are not seen."""
        return functional.conv1d(audio[:, None], self.kernel, stride=self.hop_length)


class Synthesis(nn.Module):
    """Spectra (B, n_fft + 2, F) to windowed frames, added up and divided by the sum of the squared windows.

    Args:
        window: (n_fft,).
        hop_length: samples between frames.
        constant: divide by this instead.
    """

    def __init__(self, window: Tensor, hop_length: int, constant: float | None = None) -> None:
        super().__init__()
        self.hop_length, self.constant = hop_length, constant
        size = len(window)
        shares = torch.full((size // 2 + 1, 1), 2.0 / size, dtype=torch.float64)
        shares[[0, -1]] = 1.0 / size  # the other bins stand for their mirror images as well
        inverse = fourier(size) * torch.cat([shares, shares]) * window.double()
        self.register_buffer("kernel", inverse.float()[:, None])
        self.register_buffer("squares", window.square()[None, None].float())

    def forward(self, spectrum: Tensor) -> Tensor:
        """(B, (F - 1) * hop_length + n_fft)."""
        audio = functional.conv_transpose1d(spectrum, self.kernel, stride=self.hop_length)[:, 0]
        if self.constant is not None:
            return audio / self.constant
        shown = torch.ones_like(spectrum[:1, :1])
        envelope = functional.conv_transpose1d(shown, self.squares, stride=self.hop_length)[:, 0]
        return torch.where(envelope > SMALLEST_ENVELOPE, audio / envelope.clamp(min=SMALLEST_ENVELOPE), 0)
