"""What resampling folds back, what it loses and what it takes: ours, torchaudio's default, and soxr where installed.

Tones are resampled. "folded back" is the largest of what remains of tones from 1.02 of the lower Nyquist frequency on
(going down), or of what appears beside tones (going up); "lost" is the largest change of level of tones up to 0.95 of
it. Speeds are of one thread, in time of the processor.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable

import numpy as np
import torch
import torchaudio
from tables import Table, add_json_option, publish

from photophone.data.resampling import resample_audio

RATIOS = ((48_000, 16_000), (44_100, 16_000), (16_000, 48_000), (16_000, 24_000))
Resampler = Callable[[np.ndarray, int, int], np.ndarray]


def resamplers() -> dict[str, Resampler]:
    """By name, functions of float32 (T,), its rate and another rate to float32 (T',)."""
    ways: dict[str, Resampler] = {
        "photophone": lambda audio, source, target: resample_audio(torch.from_numpy(audio), source, target).numpy(),
        "torchaudio's default": lambda audio, source, target: torchaudio.functional.resample(
            torch.from_numpy(audio), source, target).numpy()}
    if importlib.util.find_spec("soxr"):
        import soxr

        for quality in ("HQ", "VHQ"):
            ways[f"soxr {quality}"] = lambda audio, source, target, quality=quality: soxr.resample(
                audio, source, target, quality=quality)
    return ways


def tone(frequency: float, rate: int) -> np.ndarray:
    """A second of a sine, float32."""
    return np.sin(2 * np.pi * frequency * np.arange(rate) / rate).astype(np.float32)


def split(made: np.ndarray, frequency: float, rate: int) -> tuple[float, float]:
    """Magnitudes of the tone and of all else in the middle half of what was made."""
    place = np.arange(len(made) // 4, 3 * len(made) // 4)
    waves = np.stack([f(2 * np.pi * frequency * place / rate) for f in (np.sin, np.cos)], axis=1)
    share, *_ = np.linalg.lstsq(waves, made[place].astype(np.float64), rcond=None)
    rest = made[place] - waves @ share
    return float(np.hypot(*share)), float(np.sqrt(2 * np.mean(rest ** 2)))


def decibels(magnitude: float) -> float:
    """20 times the logarithm."""
    return float(20 * np.log10(max(magnitude, 1e-12)))


def quality(resample: Resampler, source: int, target: int) -> tuple[float, float]:
    """(folded back, lost) in dB; see above."""
    nyquist = min(source, target) / 2
    kept = [split(resample(tone(f, source), source, target), f, target) for f in np.linspace(0.02, 0.95, 16) * nyquist]
    lost = max(abs(decibels(own)) for own, _ in kept)
    if source < target:
        return decibels(max(rest for _, rest in kept)), lost
    above = np.linspace(1.02 * nyquist, 0.99 * source / 2, 16)
    folded = [np.sqrt(2 * np.mean(np.square(made[len(made) // 4:3 * len(made) // 4], dtype=np.float64)))
              for made in (resample(tone(f, source), source, target) for f in above)]
    return decibels(max(folded)), lost


def speed(resample: Resampler, source: int, target: int, seconds: int) -> float:
    """Seconds of sound in a second of the processor."""
    audio = np.random.default_rng(0).standard_normal(seconds * source).astype(np.float32)
    resample(audio, source, target)
    began = time.process_time()
    resample(audio, source, target)
    return seconds / (time.process_time() - began)


def table(seconds: int) -> Table:
    """One row a ratio and a resampler."""
    rows = []
    for source, target in RATIOS:
        for name, resample in resamplers().items():
            folded, lost = quality(resample, source, target)
            rows.append((f"{source} to {target} Hz", name, f"{folded:.0f}", f"{lost:.3f}",
                         speed(resample, source, target, seconds)))
    return ("rates", "filter", "folded back (dB)", "lost below 0.95 of Nyquist (dB)", "times real time"), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="of the sound for speeds (default 60)")
    add_json_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    publish({"resample": table(arguments.seconds)}, arguments.json, threads=1)


if __name__ == "__main__":
    main()
