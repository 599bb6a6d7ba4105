"""Recordings of voices as generators of speech want them."""

from __future__ import annotations

import torch
from torch import Tensor


def end_on_pause(audio: Tensor, sample_rate: int, *, pause_seconds: float = 0.08, fade_seconds: float = 0.02,
                 floor_db: float = 35.0) -> Tensor:
    """A recording that ends with exactly so much silence, as the prompts of Pocket TTS do in its training.

    One that stops within a word would be continued with it; one with a long silence behind it delays the first word.
    The silence at the end (windows of 20 ms that are ``floor_db`` below the loudest) is cut, what is left fades out,
    and zeros follow.

    Args:
        audio: (T,) in [-1, 1].
        sample_rate: in Hz.
        pause_seconds: of the silence.
        fade_seconds: of the fade.
        floor_db: how far below the loudest window silence begins.

    Returns:
        (T',); a recording of less than a window as it is.
    """
    size = max(1, int(0.02 * sample_rate))
    count = len(audio) // size
    if not count:
        return audio
    level = 20 * torch.log10(audio[:count * size].unflatten(0, (count, size)).square().mean(dim=1).sqrt() + 1e-12)
    loud = torch.nonzero(level > level.max() - floor_db).flatten()
    end = (int(loud[-1]) + 1) * size
    kept = audio[:end].clone()
    fade = min(int(fade_seconds * sample_rate), end)
    kept[end - fade:] *= torch.linspace(1, 0, fade, device=audio.device, dtype=audio.dtype)
    return torch.cat([kept, audio.new_zeros(int(pause_seconds * sample_rate))])
