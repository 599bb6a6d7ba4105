"""Overlap-add of the frames of an inverse short-time Fourier transform, windowed and normalised in one pass.

For B rows of F frames of L samples, ``hop`` apart, in b bytes: reads ``B F L b`` and writes ``B F hop b``; the window
comes from the cache. ``4 L / hop`` operations a sample for the sum and its envelope: about 16 at an overlap of 4, below
1 a byte: bandwidth is the limit. Eager torch multiplies by the window, folds, folds the squared windows, divides and
trims: about ``(4 L + 6 hop) B F b`` bytes in 8 kernels. The backward pass reads and writes the same, the other way.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from photophone.kernels.dispatch import choose

SMALLEST_ENVELOPE = 1e-11


def overlap_add(frames: Tensor, hop_length: int) -> Tensor:
    """Add frames (B, L, F), each ``hop_length`` later, to signals (B, (F - 1) * hop_length + L), in plain torch."""
    rows, size, count = frames.shape
    total = (count - 1) * hop_length + size
    return functional.fold(frames, (1, total), (1, size), stride=(1, hop_length)).reshape(rows, total)


def windowed_overlap_add(frames: Tensor, window: Tensor, hop_length: int, *, trim: int = 0,
                         mask: Tensor | None = None, valid: Tensor | None = None,
                         constant: Tensor | None = None) -> Tensor:
    """Frames times the window, added up, and divided by the sum of the squared windows where it is above 1e-11.

    Args:
        frames: float ``(B, L, F)``, any strides.
        window: ``(L,)``.
        hop_length: samples between frames.
        trim: samples cut from both ends.
        mask: Bool ``(B, F)``: only the frames that are True count in the divisor.
        valid: Long ``(B,)``, with ``mask``: samples of each row after trimming; the rest are zero.
        constant: float ``()``: divide by this instead; takes no mask.

    Returns:
        ``(B, (F - 1) * hop_length + L - 2 * trim)``.
    """
    choice = choose("overlap_add", frames, window, mask, valid, constant, backward=True)
    if choice == "triton" and not window.requires_grad:
        from photophone.kernels.fused import overlap_add as fused

        total = (frames.shape[2] - 1) * hop_length + frames.shape[1] - 2 * trim
        if total > 0 and (mask is None) == (valid is None):
            mask = None if mask is None else mask.contiguous()
            return fused.FusedOverlapAdd.apply(frames, window, mask, valid, constant, hop_length, trim, total,
                                               SMALLEST_ENVELOPE)
    audio = overlap_add(frames * window[:, None], hop_length)
    if constant is not None:
        return (audio / constant)[..., trim:audio.shape[-1] - trim]
    shown = frames.new_ones(1, 1, frames.shape[-1]) if mask is None else mask[:, None].to(frames.dtype)
    envelope = overlap_add(window.square()[:, None] * shown, hop_length)
    audio = audio[..., trim:audio.shape[-1] - trim]
    envelope = envelope[..., trim:envelope.shape[-1] - trim]
    audio = torch.where(envelope > SMALLEST_ENVELOPE, audio / envelope, 0)
    if valid is None:
        return audio
    return torch.where(torch.arange(audio.shape[-1], device=audio.device) < valid[:, None], audio, 0)
