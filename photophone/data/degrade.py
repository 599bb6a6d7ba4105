"""What recordings suffer: band limits, clipping, coarse codecs, changes of level. float32 (T,) in and out."""

from __future__ import annotations

import io

import numpy as np
import soundfile
import torch

from photophone.data.resampling import resample_audio

CODECS = ("mu_law", "gsm", "vorbis", "bits")
TELEPHONE_HZ = (300.0, 3400.0)
TELEPHONE_RATE = 8000


def band_limit(audio: np.ndarray, sample_rate: int, low: float | None = None, high: float | None = None,
               width: float = 0.1) -> np.ndarray:
    """Without what lies below ``low`` and above ``high`` Hz, without delay.

    The gain goes from 1 to 0 along half a cosine over ``width`` octaves outside of the band.
    """
    spectrum = np.fft.rfft(audio, 2 * len(audio))  # twice as long: the ends do not meet
    octaves = np.log2(np.maximum(np.fft.rfftfreq(2 * len(audio), 1 / sample_rate), 1e-3))
    for edge, sign in ((low, -1), (high, 1)):
        if edge is not None:
            outside = np.clip(sign * (octaves - np.log2(edge)) / width, 0, 1)
            spectrum *= 0.5 + 0.5 * np.cos(np.pi * outside)
    return np.fft.irfft(spectrum, 2 * len(audio))[:len(audio)].astype(np.float32)


def clip_peaks(audio: np.ndarray, share: float) -> np.ndarray:
    """Cut at the level that a ``share`` (0 to 1) of the samples exceeds."""
    level = np.quantile(np.abs(audio), 1 - share)
    return audio.clip(-level, level) if level > 0 else audio


def mu_law(audio: np.ndarray, levels: int = 256) -> np.ndarray:
    """Through the logarithmic quantisation of telephones (G.711): the error is under a few per cent of each sample."""
    mu = levels - 1
    code = np.sign(audio) * np.log1p(mu * np.abs(audio.clip(-1, 1))) / np.log1p(mu)
    code = np.round(code * (levels // 2 - 1)) / (levels // 2 - 1)
    return (np.sign(code) * np.expm1(np.abs(code) * np.log1p(mu)) / mu).astype(np.float32)


def telephone(audio: np.ndarray, sample_rate: int, coded: bool = True) -> np.ndarray:
    """The band of telephones, ``TELEPHONE_HZ``, by way of their rate; of the same length, without delay.

    Args:
        coded: with the error of :func:`mu_law`, too.
    """
    sound = torch.from_numpy(band_limit(audio, sample_rate, *TELEPHONE_HZ))
    narrow = resample_audio(sound, sample_rate, TELEPHONE_RATE)
    if coded:
        narrow = torch.from_numpy(mu_law(narrow.numpy()))
    return resample_audio(narrow, TELEPHONE_RATE, sample_rate)[:len(audio)].numpy()


def through_file(audio: np.ndarray, sample_rate: int, kind: str, subtype: str, **options) -> np.ndarray:
    """Through a lossy file in memory, cut or filled with zeros to the same length."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.clip(-1, 1), sample_rate, format=kind, subtype=subtype, **options)
    buffer.seek(0)
    made = soundfile.read(buffer, dtype="float32")[0][:len(audio)]
    return np.pad(made, (0, len(audio) - len(made)))


def codec_artefacts(audio: np.ndarray, sample_rate: int, name: str) -> np.ndarray:
    """Through one of CODECS: mu-law of 8 bits, GSM 06.10, Vorbis at its lowest quality, or 8 plain bits.

    Raises:
        ValueError: another name.
    """
    if name == "mu_law":
        return mu_law(audio)
    if name == "gsm":
        return through_file(audio, sample_rate, "WAV", "GSM610")
    if name == "vorbis":
        return through_file(audio, sample_rate, "OGG", "VORBIS", compression_level=1.0)
    if name == "bits":
        return (np.round(audio.clip(-1, 1) * 127) / 127).astype(np.float32)
    raise ValueError(f"the codec must be one of {CODECS}, got {name!r}")


def level_curve(length: int, sample_rate: int, range_db: float, rng: np.random.Generator) -> np.ndarray:
    """A gain float32 (length,) that wanders between ``-range_db`` and 0 dB, a new aim about each second."""
    count = max(2, round(length / sample_rate) + 1)
    places = np.linspace(0, length - 1, count)
    decibels = np.interp(np.arange(length), places, rng.uniform(-range_db, 0, count))
    return (10 ** (decibels / 20)).astype(np.float32)
