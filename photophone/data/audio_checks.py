"""What audio files must be before anything decodes them. No torch here: the demo's decoding processes start quickly."""

from __future__ import annotations

import numpy as np

from photophone.core.limits import (
    MAX_AUDIO_FRAMES,
    MAX_CHANNELS,
    MAX_SAMPLE,
    MAX_SAMPLE_RATE,
    MIN_SAMPLE_RATE,
)

READ_FORMATS = {"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "AIFF"}
READ_SUBTYPES = {"PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW", "IMA_ADPCM",
                 "MS_ADPCM", "GSM610", "VORBIS", "OPUS", "MPEG_LAYER_III"}
"""What libsndfile is trusted with: FFmpeg decodes the same samples of telephone codecs. Its other ADPCMs are not."""
READ_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".m4a", ".aac", ".webm", ".wma",
                 ".amr", ".caf")
"""Of files that are taken from folders, those of the extra ``av`` too: none is left out in silence."""
WRITE_FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS"),
                 ".opus": ("OGG", "OPUS"), ".mp3": ("MP3", "MPEG_LAYER_III")}
KEPT_SUBTYPES = {".wav": ("PCM_16", "PCM_24", "FLOAT"), ".flac": ("PCM_16", "PCM_24")}
"""Depths of input files that output files of the same kind keep."""
WHOLE_BITS = {"PCM_16": 16, "PCM_24": 24}
"""Bits of the subtypes that are written as whole numbers."""
CODED_RATES = {".opus": (8000, 12_000, 16_000, 24_000, 48_000),
               ".mp3": (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)}
"""Rates of the formats that do not have any."""
BLOCK_FRAMES = 1 << 20
"""Frames decoded at a time: a header that lies about the length costs no memory."""


def check_rate(sample_rate: int, name: str = "audio") -> None:
    """Refuse a rate outside the limits.

    Raises:
        ValueError: names the rate and the limits.
    """
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise ValueError(f"{name} has a rate of {sample_rate} Hz; rates of {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz "
                         "are read and written")


def check_samples(audio: np.ndarray, name: str) -> None:
    """Refuse samples that are no sound.

    Args:
        audio: float, any shape.
        name: of where they come from.

    Raises:
        ValueError: NaN, infinity, or a magnitude over ``MAX_SAMPLE``.
    """
    if not audio.size:
        return
    low = float(audio.min())
    high = float(audio.max())
    if not np.isfinite(low + high):
        raise ValueError(f"{name} holds NaN or infinite samples")
    largest = high if high > -low else low
    if abs(largest) > MAX_SAMPLE:
        raise ValueError(f"{name} holds a sample of {largest:g}; full scale is 1, and over {MAX_SAMPLE:g} is refused: "
                         "divide 16-bit samples by 32768, or repair the recording")


def check_sound(format_: str, subtype: str, name: str) -> None:
    """Refuse a container or codec that is not read.

    Args:
        format_, subtype: libsndfile's names.
        name: of the file.

    Raises:
        ValueError: names what it is and what is read.
    """
    if format_ not in READ_FORMATS or subtype not in READ_SUBTYPES:
        raise ValueError(f"{name} is {format_} with {subtype}; read are {', '.join(sorted(READ_FORMATS))} "
                         f"with {', '.join(sorted(READ_SUBTYPES))}; convert it")


def check_size(channels: int, sample_rate: int, frames: int, name: str, max_seconds: float | None) -> None:
    """Refuse channels, a rate or a length over the limits.

    Raises:
        ValueError: names what it is and the limit.
    """
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"{name} has {channels} channels; at most {MAX_CHANNELS} are mixed to mono")
    check_rate(sample_rate, name)
    if frames > MAX_AUDIO_FRAMES:
        raise ValueError(f"{name} has {frames} frames, over the limit of {MAX_AUDIO_FRAMES}; cut it")
    if max_seconds is not None and frames > max_seconds * sample_rate:
        raise ValueError(f"{name} takes {frames / sample_rate:.0f} s, over the limit of {max_seconds:g} s; cut it")


def damaged(name: str, error: Exception) -> ValueError:
    """The error of a file that libsndfile cannot read, without the address of a buffer that its message has."""
    return ValueError(f"{name} cannot be read as audio, it is damaged or of another kind: "
                      f"{getattr(error, 'error_string', error)}")
