"""Losses of waveforms (B, 1, T) by their spectra at several resolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

FLOOR = 1e-4
"""Magnitudes below count as silence: -80 dB under a full-scale tone of a 1024-point window is about 0.03."""


def stft(audio: Tensor, window: Tensor, hop: int) -> Tensor:
    """Complex spectrum (B, bins, F) of (B, 1, T) in float32; the ends are padded with zeros."""
    return torch.stft(audio[:, 0].float(), len(window), hop, window=window.float(), pad_mode="constant",
                      return_complex=True)


class SpectralLoss(nn.Module):
    """Log-mel and log-magnitude distances over several window lengths (arXiv 1910.11480, 2306.06546).

    Args:
        sample_rate: in Hz.
        windows: window lengths in samples; hops are a quarter of them.
        mels: mel bands of each window.
    """

    def __init__(self, sample_rate: int, windows: tuple[int, ...] = (256, 512, 1024, 2048),
                 mels: tuple[int, ...] = (20, 40, 80, 120)) -> None:
        super().__init__()
        self.windows = windows
        for length, bands in zip(windows, mels, strict=True):
            self.register_buffer(f"window_{length}", torch.hann_window(length), persistent=False)
            filters = melscale_fbanks(length // 2 + 1, 0.0, sample_rate / 2, bands, sample_rate)
            self.register_buffer(f"filters_{length}", filters, persistent=False)  # (bins, mels)

    def forward(self, made: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Means over resolutions: ``mel`` (mean absolute difference of natural log-mels) and ``magnitude`` (that of
        log magnitudes, plus the relative error of magnitudes)."""
        mel, magnitude = [], []
        for length in self.windows:
            window, filters = getattr(self, f"window_{length}"), getattr(self, f"filters_{length}")
            x, y = (stft(audio, window, length // 4).abs() for audio in (made, real))
            mel.append((_log_mel(x, filters) - _log_mel(y, filters)).abs().mean())
            logs = (x.clamp(min=FLOOR).log() - y.clamp(min=FLOOR).log()).abs().mean()
            error, size = ((v.square().sum(dim=(1, 2)) + 1e-8).sqrt() for v in (x - y, y))
            magnitude.append(logs + (error / (size + 0.1)).mean())
        return {"mel": torch.stack(mel).mean(), "magnitude": torch.stack(magnitude).mean()}


def _log_mel(magnitude: Tensor, filters: Tensor) -> Tensor:
    return (filters.T @ magnitude).clamp(min=FLOOR).log()  # (mels, bins) @ (B, bins, F)
