"""Measures of speech as functions: of one signal against another, of words against words.

Signals are float arrays (T,) of one rate, the reference first. Packages of the extra ``eval`` are imported on use.
"""

from __future__ import annotations

import functools
import importlib
import math
import warnings
from collections.abc import Hashable, Sequence
from types import ModuleType

import numpy as np
import torch
from torchaudio.functional import melscale_fbanks

from photophone.evaluation.metrics.spoken_words import spoken_words

PESQ_RATE = 16_000
STOI_SECONDS = (29 * 128 + 256) / 10_000
"""Of 30 frames of 256 samples, half of them new, at STOI's 10 kHz; shorter clips cannot be judged."""
MEL_FLOOR = 1e-5


def optional_module(name: str, package: str | None = None) -> ModuleType:
    """Import a module of the extra ``eval``.

    Raises:
        ImportError: it is missing; the message says what to install.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(f"this measure needs the package {package or name} ({error}); "
                          "pip install photophone[eval]") from error


def paired(reference: np.ndarray, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both signals as float64, cut to the shorter: codecs change the length by parts of a frame.

    Raises:
        ValueError: not (T,), empty, or with NaN or infinity.
    """
    signals = []
    for given in (reference, estimate):
        signal = np.asarray(given, dtype=np.float64)
        if signal.ndim != 1 or not len(signal) or not np.isfinite(signal).all():
            raise ValueError(f"signals must be finite with shape (T,), T > 0; got {signal.shape}, "
                             f"{int((~np.isfinite(signal)).sum())} values not finite")
        signals.append(signal)
    length = min(map(len, signals))
    return signals[0][:length], signals[1][:length]


def si_sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (arXiv 1811.02508), means removed; NaN for silent truth."""
    reference, estimate = (signal - signal.mean() for signal in paired(reference, estimate))
    energy = float(reference @ reference)
    if not energy:
        return math.nan
    target = float(estimate @ reference) / energy * reference
    distortion, kept = float(((estimate - target) ** 2).sum()), float((target**2).sum())
    if not kept:
        return -math.inf
    return math.inf if not distortion else 10 * math.log10(kept / distortion)


def pesq_wb(reference: np.ndarray, estimate: np.ndarray, sample_rate: int = PESQ_RATE) -> float:
    """Wide-band PESQ (ITU-T P.862.2), 1 to 4.64; NaN where it finds no speech on one side or under 0.25 s. Package
    pesq.

    Raises:
        ValueError: another rate than 16 kHz.
    """
    package = optional_module("pesq")
    if sample_rate != PESQ_RATE:
        raise ValueError(f"wide-band PESQ is defined at {PESQ_RATE} Hz, got {sample_rate}; resample first")
    reference, estimate = paired(reference, estimate)
    # The package scales both sides by one number, and by the level of each alone: a silent side divides by zero. Levels
    # do not matter to the measure, so each side comes with a peak of 1.
    peaks = [float(np.abs(signal).max()) for signal in (reference, estimate)]
    if not min(peaks):
        return math.nan
    try:
        return float(package.pesq(sample_rate, reference / peaks[0], estimate / peaks[1], "wb"))
    except package.PesqError:
        return math.nan


def stoi(reference: np.ndarray, estimate: np.ndarray, sample_rate: int, extended: bool = False) -> float:
    """Short-time objective intelligibility, or its extended form, up to 1. Package pystoi.

    NaN where it is not defined: for a silent reference, and for one with fewer than 30 active frames (0.4 s), where the
    package gives 1e-5. A silent estimate of real speech has 0.
    """
    reference, estimate = paired(reference, estimate)
    package = optional_module("pystoi")
    if not reference.any() or len(reference) < STOI_SECONDS * sample_rate:
        return math.nan
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        score = float(package.stoi(reference, estimate, sample_rate, extended=extended))
    too_short = any("Not enough STFT frames" in str(warning.message) for warning in caught)
    return math.nan if too_short else score


@functools.lru_cache(maxsize=4)
def _mel_bank(sample_rate: int, window: int, count: int) -> torch.Tensor:
    return melscale_fbanks(window // 2 + 1, 0.0, sample_rate / 2, count, sample_rate, norm="slaney",
                           mel_scale="slaney").double()


def log_mel(signal: np.ndarray, sample_rate: int, num_mels: int = 80) -> np.ndarray:
    """log10 of Slaney mels of the magnitude, floored at 1e-5: (frames, num_mels); window 64 ms, hop 16 ms, Hann."""
    window = round(0.064 * sample_rate)
    tensor = torch.as_tensor(np.asarray(signal), dtype=torch.float64)
    spectrum = torch.stft(tensor, window, round(0.016 * sample_rate), window=torch.hann_window(window).double(),
                          pad_mode="constant", return_complex=True).abs()  # (F, frames)
    return (spectrum.T @ _mel_bank(sample_rate, window, num_mels)).clamp(min=MEL_FLOOR).log10().numpy()


def mel_distance(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Mean absolute difference of :func:`log_mel`: 0.1 is a factor of 1.26 in amplitude."""
    reference, estimate = paired(reference, estimate)
    return float(np.abs(log_mel(reference, sample_rate) - log_mel(estimate, sample_rate)).mean())


def edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Levenshtein distance of two sequences of ids or words, O(len(first)) passes over ``second``."""
    ids: dict[Hashable, int] = {}
    a, b = (np.array([ids.setdefault(item, len(ids)) for item in row], dtype=np.int64) for row in (first, second))
    steps = np.arange(len(b) + 1)
    row = steps.copy()
    for count, item in enumerate(a, 1):
        best = np.concatenate([[count], np.minimum(row[1:] + 1, row[:-1] + (b != item))])
        row = np.minimum.accumulate(best - steps) + steps  # insertions, all at once
    return int(row[-1])


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Errors over words of all pairs, both sides as :func:`spoken_words`; NaN without reference words.

    Raises:
        ValueError: the numbers of texts differ.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references for {len(hypotheses)} hypotheses")
    errors = words = 0
    for reference, hypothesis in zip(references, hypotheses):
        truth = spoken_words(reference)
        errors += edit_distance(truth, spoken_words(hypothesis))
        words += len(truth)
    return errors / words if words else math.nan
