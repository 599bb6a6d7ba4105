"""Griffin-Lim: phases for magnitudes, without training (Griffin and Lim 1984, with the momentum of Perraudin 2013)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from photophone.layers.istft import ISTFT
from photophone.layers.mel import MelSpectrogram

SMALLEST = 1e-12


def griffin_lim(magnitude: Tensor, analysis: MelSpectrogram, synthesis: ISTFT, iterations: int,
                momentum: float = 0.99, mask: Tensor | None = None) -> Tensor:
    """Waveforms whose spectra have nearly these magnitudes. Deterministic: every bin begins as a steady tone.

    Args:
        magnitude: (B, F, n_fft / 2 + 1).
        analysis, synthesis: with the same n_fft, hop, window and the padding "center".
        iterations: projections.
        momentum: of the accelerated iteration, 0 for the plain one.
        mask: Bool (B, F), False where a row has ended.

    Returns:
        (B, (F - 1) * hop), zero behind each row's end.
    """
    count, bins = magnitude.shape[1:]
    if count == 1:
        return magnitude.new_zeros(len(magnitude), 0)
    bin_index = torch.arange(bins, device=magnitude.device, dtype=magnitude.dtype)
    turns = bin_index * (analysis.hop_length / analysis.n_fft)  # per frame
    frames = torch.arange(count, device=magnitude.device)[:, None]
    phase = torch.polar(torch.ones_like(magnitude), (2 * math.pi * (turns * frames % 1)).expand_as(magnitude))
    lengths = None if mask is None else (mask.sum(1) - 1) * analysis.hop_length
    previous = torch.zeros_like(phase)
    for _ in range(iterations):
        audio = synthesis((magnitude * phase).transpose(1, 2), mask)
        spectrum = analysis.spectra(audio, lengths)
        step = spectrum - momentum / (1 + momentum) * previous
        phase, previous = step / step.abs().clamp(min=SMALLEST), spectrum
    return synthesis((magnitude * phase).transpose(1, 2), mask)
