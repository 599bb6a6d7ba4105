"""Audio files: read and written under limits, always mono float32 in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from photophone.data.audio_checks import check_samples
from photophone.data.audio_stream import AudioReader
from photophone.data.audio_write import AudioWriter, check_format, write_pieces
from photophone.data.resampling import resample_audio


def read_audio(source: str | Path | bytes, sample_rate: int | None = None, *,
               max_seconds: float | None = None) -> tuple[np.ndarray, int]:
    """Read an audio file, mixed to mono.

    Args:
        source: path of a WAV, FLAC, Ogg Vorbis or Opus, MP3 or AIFF file, or the bytes of one; with the extra ``av``
            also of an MP4, WebM, AAC, WMA, AMR or CAF file. Recordings that were joined byte for byte are one.
        sample_rate: resample to this rate in Hz; None keeps the file's.
        max_seconds: a limit below the general one on frames.

    Returns:
        float32 (T,), in [-1, 1] but for files of floats, which are given as they are, and its rate in Hz.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not audio, damaged, cut short, empty, of an unknown subtype, joined of sounds of different kinds,
            with NaN or infinity, or over a limit of ``photophone.core.limits`` on bytes, channels, rate, frames or
            the size of samples.
    """
    reader = AudioReader(source, max_seconds)
    blocks = [block.mean(axis=0) for block in reader.blocks()]  # (C, n) -> (n,)
    if not blocks:
        raise ValueError(f"{reader.name} holds no samples")
    audio = np.concatenate(blocks)
    if sample_rate is None:
        return audio, reader.sample_rate
    return resample_audio(torch.from_numpy(audio), reader.sample_rate, sample_rate).numpy(), sample_rate


def write_audio(path: str | Path, audio: np.ndarray | Tensor, sample_rate: int, *, dither: bool = False,
                overwrite: bool = True) -> AudioWriter:
    """Write mono audio atomically: 16 bits in ``.wav`` and ``.flac``, Vorbis in ``.ogg``, Opus in ``.opus``, ``.mp3``.

    Args:
        path: its suffix says the format.
        audio: (T,); samples outside [-1, 1] are cut, and counted in the result.
        sample_rate: in Hz; Opus and MP3 hold the usual ones only.
        dither: see :func:`photophone.data.audio_write.to_whole`.
        overwrite: whether it may replace a file.

    Returns:
        What wrote it; ``cut`` is the number of samples outside [-1, 1].

    Raises:
        ValueError: an unknown suffix, another shape, no samples, NaN or infinity, or a rate outside the limits.
        OSError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    samples = np.asarray(audio.detach().float().cpu() if isinstance(audio, Tensor) else audio, dtype=np.float32)
    check_format(path, sample_rate, 1)
    if samples.ndim != 1 or not len(samples):
        raise ValueError(f"audio to write must have shape (T,) with T > 0, got {samples.shape}")
    check_samples(samples, f"the audio for {path}")
    return write_pieces(path, [samples[None]], sample_rate, 1, dither=dither, overwrite=overwrite)
