"""Mel spectrograms of waveforms, computed in float32 whatever the dtype of the model."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from photophone.layers.constants import ConstantsModule
from photophone.layers.istft import check_frames
from photophone.layers.lengths import reflect_pad

SLANEY_BREAK = 1000.0
"""Slaney's mel scale is linear below this frequency, at 3 mels per 200 Hz, and logarithmic above."""
SLANEY_STEP = math.log(6.4) / 27
LOGS = {"e": torch.log, "10": torch.log10, None: lambda x: x}


def hz_to_mel(hz: Tensor, scale: str) -> Tensor:
    """Frequencies to mels, on the scale "htk" or "slaney"."""
    if scale == "htk":
        return 2595 * torch.log10(1 + hz / 700)
    steps = torch.log(hz.clamp(min=SLANEY_BREAK) / SLANEY_BREAK) / SLANEY_STEP
    return hz.clamp(max=SLANEY_BREAK) * 3 / 200 + steps


def mel_to_hz(mel: Tensor, scale: str) -> Tensor:
    """The inverse of :func:`hz_to_mel`."""
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    bend = SLANEY_BREAK * 3 / 200
    return torch.where(mel < bend, mel * 200 / 3, SLANEY_BREAK * torch.exp(SLANEY_STEP * (mel - bend)))


def mel_filters(sample_rate: int, n_fft: int, num_mels: int, *, f_min: float = 0.0, f_max: float | None = None,
                scale: str = "htk", norm: str | None = None) -> Tensor:
    """Triangular filters float32 (n_fft / 2 + 1, num_mels), computed in float64.

    torchaudio's ``melscale_fbanks`` computes the same in float32, which is up to 7e-6 away: other bits of every mel,
    and more than official codecs, which take librosa's float64 filters, may differ by.

    Args:
        sample_rate, n_fft: of the spectrum.
        num_mels: filters, evenly spaced in mels.
        f_min, f_max: the band in Hz; half the sample rate when ``f_max`` is None.
        scale: "htk" or "slaney".
        norm: None for a peak of one, "slaney" for an area of one.

    Raises:
        ValueError: an unknown scale or norm, or an empty band.
    """
    f_max = sample_rate / 2 if f_max is None else f_max
    if scale not in ("htk", "slaney") or norm not in (None, "slaney"):
        raise ValueError(f"scale must be 'htk' or 'slaney' and norm None or 'slaney', got {scale!r} and {norm!r}")
    if not 0 <= f_min < f_max <= sample_rate / 2:
        raise ValueError(f"need 0 <= f_min < f_max <= {sample_rate / 2}, got {f_min} and {f_max}")
    with torch.device("cpu"):
        bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
        low, high = hz_to_mel(torch.tensor([f_min, f_max], dtype=torch.float64), scale)
        edges = mel_to_hz(low + (high - low) * torch.linspace(0, 1, num_mels + 2, dtype=torch.float64), scale)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp(min=0)
    if norm == "slaney":
        filters = filters * 2 / (edges[2:] - edges[:-2])
    return filters.float()


class MelSpectrogram(ConstantsModule):
    """Waveforms (B, T) to mel frames float32 (B, num_mels, F).

    Args:
        sample_rate: in Hz.
        n_fft: points of the transform.
        hop_length: samples between frames.
        num_mels: mel bands.
        window_length: of the periodic Hann window, centred in the transform; ``n_fft`` when None.
        f_min, f_max, mel_scale, norm: of :func:`mel_filters`.
        power: 1 for magnitudes, 2 for energies.
        padding: where the frames lie, see :mod:`photophone.layers.istft`; "center" and "same" mirror the ends,
            "start" assumes silence after the end.
        log: "e", "10", or None for no logarithm.
        clip: smallest value under the logarithm, or None.
        magnitude_eps: added under the square root of the magnitude (HiFi-GAN has 1e-9).
        magnitude_floor: smallest magnitude (dMel has 1e-5).
    """

    def __init__(self, sample_rate: int, n_fft: int, hop_length: int, num_mels: int, *,
                 window_length: int | None = None, f_min: float = 0.0, f_max: float | None = None,
                 mel_scale: str = "htk", norm: str | None = None, power: float = 1.0, padding: str = "center",
                 log: str | None = "e", clip: float | None = 1e-7, magnitude_eps: float = 0.0,
                 magnitude_floor: float = 0.0) -> None:
        super().__init__()
        window_length = window_length or n_fft
        check_frames(n_fft, hop_length, window_length, padding)
        if log not in LOGS:
            raise ValueError(f"log must be 'e', '10' or None, got {log!r}")
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.padding = padding
        self.power = power
        self.log = log
        self.clip = clip
        self.magnitude_eps = magnitude_eps
        self.magnitude_floor = magnitude_floor
        before = (n_fft - window_length) // 2
        window = torch.hann_window(window_length, dtype=torch.float64).float()
        self.add_constant("window", functional.pad(window, (before, n_fft - window_length - before)))
        self.add_constant("filters", mel_filters(sample_rate, n_fft, num_mels, f_min=f_min, f_max=f_max,
                                                 scale=mel_scale, norm=norm))  # (bins, mels)

    def frames(self, lengths: Tensor) -> Tensor:
        """Frames of clips of ``lengths`` samples, Long (B,)."""
        if self.padding == "center":
            return lengths // self.hop_length + 1
        trim = (self.n_fft - self.hop_length) % 2 if self.padding == "same" else 0
        return (lengths - trim) // self.hop_length

    def spectra(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Complex spectra (B, F, n_fft / 2 + 1) of waveforms (B, T); with ``lengths`` Long (B,), each row is mirrored
        at its own end, and frames behind ``frames(lengths)`` mean nothing."""
        audio = audio if audio.dtype == torch.float64 else audio.float()
        side = self.n_fft // 2
        if self.padding == "start":
            audio = functional.pad(audio, (0, self.n_fft - self.hop_length))
        else:
            side = side if self.padding == "center" else (self.n_fft - self.hop_length) // 2
            audio = reflect_pad(audio[:, None], side, side, lengths)[:, 0]
        frames = audio.unfold(-1, self.n_fft, self.hop_length) * self.window  # (B, F, n_fft)
        return torch.fft.rfft(frames)

    def magnitudes(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, F, n_fft / 2 + 1); see :meth:`spectra`."""
        magnitude = self.spectra(audio, lengths).abs()
        if self.magnitude_eps:
            magnitude = (magnitude.square() + self.magnitude_eps).sqrt()
        return magnitude.clamp(min=self.magnitude_floor) if self.magnitude_floor else magnitude

    def forward(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Mel frames (B, num_mels, F); see :meth:`spectra`."""
        magnitude = self.magnitudes(audio, lengths)
        mels = (magnitude if self.power == 1 else magnitude ** self.power) @ self.filters  # (B, F, mels)
        if self.clip is not None:
            mels = mels.clamp(min=self.clip)
        return LOGS[self.log](mels).transpose(1, 2)
