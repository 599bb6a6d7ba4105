"""Inverse short-time Fourier transforms by overlap-add, and the head that predicts spectra (Vocos, arXiv 2306.00814).

Where frame ``k`` of ``window_length`` samples lies is called its padding, in analysis and in synthesis alike:

- ``"center"``: its middle is at sample ``k * hop``, so F frames make ``(F - 1) * hop`` samples, as in ``torch.stft``;
- ``"same"``: its middle is the middle of hop ``k``, so F frames make ``F * hop`` samples;
- ``"start"``: it begins at sample ``k * hop``: F frames make ``F * hop`` samples, and synthesis is causal.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.kernels.overlap_add import windowed_overlap_add
from photophone.layers.constants import ConstantsModule
from photophone.layers.frames import convolve
from photophone.layers.lengths import keep_valid
from photophone.layers.streaming import StreamingLayer

PADDINGS = ("center", "same", "start")
MAX_MAGNITUDE = 100.0


def check_frames(n_fft: int, hop_length: int, window_length: int, padding: str) -> None:
    """Refuse frames that leave gaps or exceed the transform, and unknown paddings."""
    if padding not in PADDINGS:
        raise ValueError(f"padding must be one of {', '.join(PADDINGS)}, got {padding!r}")
    if not 1 <= hop_length <= window_length <= n_fft:
        raise ValueError("frames need 1 <= hop_length <= window_length <= n_fft, "
                         f"got {hop_length}, {window_length} and {n_fft}")


class ISTFT(StreamingLayer, ConstantsModule):
    """Complex spectra (B, n_fft / 2 + 1, F) to samples float32 (B, T), with a periodic Hann window.

    With paddings "center" and "same" the sum is divided by the summed squared windows, so analysis and synthesis give
    back the signal. With "start" the normaliser is the constant that these sums reach where all frames overlap, so
    the first ``n_fft - hop_length`` samples fade in; it streams.

    Args:
        n_fft: samples of a frame.
        hop_length: samples between frames.
        padding: see the module.
        window_length: of the window, centred in the frame; ``n_fft`` when None.

    Raises:
        ValueError: frames leave gaps, or with "start" their squared windows do not add up to a constant.
    """

    def __init__(self, n_fft: int, hop_length: int, padding: str = "center", window_length: int | None = None) -> None:
        super().__init__()
        window_length = window_length or n_fft
        check_frames(n_fft, hop_length, window_length, padding)
        if padding == "start" and (window_length != n_fft or n_fft % hop_length or n_fft < 3 * hop_length):
            raise ValueError("causal synthesis needs an n_fft of 3 or more whole hops, all under the window, "
                             f"got {n_fft}, hop_length {hop_length} and window_length {window_length}")
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.padding = padding
        before = (n_fft - window_length) // 2
        window = torch.hann_window(window_length, dtype=torch.float64).float()
        self.add_constant("window", functional.pad(window, (before, n_fft - window_length - before)))

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros (batch_size, n_fft - hop_length): what past frames add to the next chunk."""
        if self.padding != "start":
            raise ValueError(f"synthesis with padding={self.padding!r} cannot stream; only 'start' is causal")
        return self.window.new_zeros(batch_size, self.n_fft - self.hop_length)

    def forward(self, spectrum: Tensor, mask: Tensor | None = None) -> Tensor:
        """Samples of ``spectrum``; ``mask`` Bool (B, F) is False where a row has ended, and its samples are zero."""
        window = self.window.to(spectrum.real.dtype)
        frames = torch.fft.irfft(keep_valid(spectrum, mask), n=self.n_fft, dim=1)  # (B, n_fft, F)
        if self.padding == "start":
            constant = self.window.square().sum() / self.hop_length
            return self._causal(windowed_overlap_add(frames, window, self.hop_length, constant=constant),
                                spectrum.shape[-1])
        trim = self.n_fft // 2 if self.padding == "center" else (self.n_fft - self.hop_length) // 2
        valid = None if mask is None else (mask.sum(1) - int(self.padding == "center")) * self.hop_length
        return windowed_overlap_add(frames, window, self.hop_length, trim=trim, mask=mask, valid=valid)

    def _causal(self, audio: Tensor, count: int) -> Tensor:
        if self.stream_state is not None:
            past = self.stream_state.shape[1]
            audio = torch.cat([audio[:, :past] + self.stream_state, audio[:, past:]], dim=1)
            self.stream_state = audio[:, count * self.hop_length:]
        return audio[:, :count * self.hop_length]


class ISTFTHead(nn.Module):
    """Frames (B, F, width) to samples float32 (B, T): a Linear predicts log-magnitude and phase of each bin.

    Args:
        width: channels of the frames.
        n_fft, hop_length, padding: of :class:`ISTFT`.
        max_magnitude: larger ones are cut, so random weights cannot overflow.
    """

    def __init__(self, width: int, n_fft: int, hop_length: int, padding: str = "center",
                 max_magnitude: float = MAX_MAGNITUDE) -> None:
        super().__init__()
        self.max_log = math.log(max_magnitude)
        self.out = nn.Linear(width, n_fft + 2)
        self.istft = ISTFT(n_fft, hop_length, padding)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask: Bool (B, F), False where a row has ended."""
        spectra = convolve(x.transpose(1, 2), self.out).float()
        log_magnitude, phase = spectra.chunk(2, dim=1)  # (B, n_fft / 2 + 1, F) each
        magnitude = log_magnitude.clamp(max=self.max_log).exp()
        spectrum = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())  # torch.polar takes twice the time
        return self.istft(spectrum, mask)
