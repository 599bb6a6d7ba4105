"""Audio files: read and written under limits, always mono float32 in memory."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor
from torchaudio.functional import resample

from photophone.core.files import atomic_write
from photophone.core.limits import MAX_AUDIO_BYTES
from photophone.data.audio_checks import (
    BLOCK_FRAMES,
    WRITE_FORMATS,
    audio_handle,
    check_info,
    check_rate,
    damaged,
    refuse_cut_riff,
)

MAX_RATIO_TERM = 500
"""Largest denominator of a resampling ratio; torchaudio's filter bank grows with it. Common rates are exact, odd ones
are off by at most 4 parts in a million."""


def read_audio(source: str | Path | bytes, sample_rate: int | None = None, *,
               max_seconds: float | None = None) -> tuple[np.ndarray, int]:
    """Read an audio file, mixed to mono.

    Args:
        source: path of a WAV, FLAC, Ogg Vorbis or Opus, MP3 or AIFF file, or the bytes of one.
        sample_rate: resample to this rate in Hz; None keeps the file's.
        max_seconds: a limit below the general one on frames.

    Returns:
        float32 (T,), nominally in [-1, 1], and its rate in Hz.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not audio, damaged, cut short, empty, of an unknown subtype, with NaN or infinity, or over a limit
            of ``photophone.core.limits`` on bytes, channels, rate or frames.
    """
    name = "the audio" if isinstance(source, bytes) else str(source)
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise FileNotFoundError(f"no such audio file: {name}")
    size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
    if not 0 < size <= MAX_AUDIO_BYTES:
        raise ValueError(f"{name} has {size} bytes; audio files have 1 to {MAX_AUDIO_BYTES}")
    refuse_cut_riff(source, size, name)
    try:
        info = soundfile.info(audio_handle(source))
        check_info(info, name, max_seconds)
        audio = _read_blocks(audio_handle(source), info.frames)
    except soundfile.SoundFileError as error:
        raise damaged(name, error) from error
    if len(audio) < info.frames and info.format != "MP3":  # the length of an MP3 is an estimate
        raise ValueError(f"{name} is cut short: {len(audio)} of {info.frames} frames can be read")
    if not len(audio):
        raise ValueError(f"{name} holds no samples")
    if not np.isfinite(audio).all():
        raise ValueError(f"{name} holds NaN or infinite samples")
    if sample_rate is None:
        return audio, info.samplerate
    return resample_audio(torch.from_numpy(audio), info.samplerate, sample_rate).numpy(), sample_rate


def write_audio(path: str | Path, audio: np.ndarray | Tensor, sample_rate: int) -> None:
    """Write mono audio atomically: 16 bits in ``.wav`` and ``.flac``, Vorbis in ``.ogg``.

    Args:
        path: its suffix says the format.
        audio: (T,); samples outside [-1, 1] are clipped.
        sample_rate: in Hz.

    Raises:
        ValueError: an unknown suffix, another shape, no samples, NaN or infinity, or a rate outside the limits.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITE_FORMATS:
        raise ValueError(f"cannot write audio to {path.name!r}; the name must end in {', '.join(WRITE_FORMATS)}")
    samples = np.asarray(audio.detach().cpu() if isinstance(audio, Tensor) else audio, dtype=np.float32)
    if samples.ndim != 1 or not len(samples):
        raise ValueError(f"audio to write must have shape (T,) with T > 0, got {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError(f"the audio for {path} holds NaN or infinite samples")
    check_rate(sample_rate, str(path))
    kind, subtype = WRITE_FORMATS[path.suffix.lower()]
    with atomic_write(path) as partial:
        soundfile.write(partial, samples.clip(-1, 1), sample_rate, format=kind, subtype=subtype)


def resample_audio(audio: Tensor, source_rate: int, target_rate: int) -> Tensor:
    """Resample (..., T) to (..., ceil(T * target_rate / source_rate)), windowed sinc.

    Raises:
        ValueError: a rate outside the limits.
    """
    check_rate(source_rate)
    check_rate(target_rate)
    if source_rate == target_rate:
        return audio
    ratio = Fraction(target_rate, source_rate).limit_denominator(MAX_RATIO_TERM)
    return resample(audio, ratio.denominator, ratio.numerator)


def _read_blocks(handle: str | io.BytesIO, frames: int) -> np.ndarray:
    """Mono float32 (T,), T at most ``frames``."""
    blocks = []
    left = frames
    with soundfile.SoundFile(handle) as file:
        while left > 0:
            block = file.read(min(left, BLOCK_FRAMES), dtype="float32", always_2d=True)
            if not len(block):
                break
            blocks.append(block.mean(axis=1))
            left -= len(block)
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
