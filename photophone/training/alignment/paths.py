"""The most likely times of a text, given which phoneme is heard in each frame."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SMALLEST = -30.0
"""Of a log probability: one frame cannot forbid a text."""


class TooShort(ValueError):
    """A recording with fewer frames than its text has phonemes."""


def check_room(frames: int, phonemes: int) -> None:
    """Refuse a recording that cannot hold its text.

    Raises:
        TooShort: there are fewer frames than phonemes.
    """
    if frames < phonemes:
        raise TooShort(f"{frames} frames of 25 ms hold no {phonemes} phonemes; the recording is too short for its text")


def best_path(log_probs: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The most likely way through a text (Viterbi): each phoneme takes one frame or more, in order.

    Args:
        log_probs: (N, S) of each frame.
        ids: Long (L,), 1 to N of them.

    Returns:
        Frames of each phoneme, Long (L,), with sum N; and the mean log probability of each, float (L,).

    Raises:
        TooShort: see :func:`check_room`.
    """
    scores = log_probs[:, ids].clamp(min=SMALLEST).double().cpu().numpy()  # (N, L)
    frames, phonemes = scores.shape
    check_room(frames, phonemes)
    totals = np.full(phonemes, -np.inf)
    totals[0] = scores[0, 0]
    moved = np.zeros((frames, phonemes), bool)
    for frame in range(1, frames):
        before = np.concatenate([[-np.inf], totals[:-1]])
        moved[frame] = before > totals
        totals = np.where(moved[frame], before, totals) + scores[frame]
    place, path = phonemes - 1, np.empty(frames, np.int64)
    for frame in range(frames - 1, -1, -1):
        path[frame] = place
        place -= moved[frame, place]
    return _counted(path, scores, phonemes)


def ctc_path(log_probs: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The same for a network that was trained by CTC, by torchaudio's ``forced_align``: the frames of a phoneme last
    until halfway to the next one's first frame.

    Args:
        log_probs: (N, S), the last class is the blank.
        ids: Long (L,).

    Raises:
        TooShort: see :func:`check_room`.
    """
    import warnings

    from torchaudio.functional import forced_align

    check_room(len(log_probs), len(ids) + int((ids.diff() == 0).sum()))
    blank = log_probs.shape[1] - 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labels, _ = forced_align(log_probs[None].float(), ids[None], blank=blank)
    labels = labels[0].numpy()
    spoken = np.flatnonzero(labels != blank)
    changes = np.concatenate([[True], labels[1:] != labels[:-1], [True]])  # between frames, and at both ends
    starts, lasts = spoken[changes[spoken]], spoken[changes[spoken + 1]]
    borders = [(last + start) // 2 + 1 for last, start in zip(lasts, starts[1:])]
    path = np.searchsorted(borders, np.arange(len(labels)), side="right")
    return _counted(path, log_probs[:, ids].cpu().numpy(), len(ids))


def _counted(path: np.ndarray, scores: np.ndarray, phonemes: int) -> tuple[Tensor, Tensor]:
    """Frames of each phoneme, and the mean of their scores; ``path`` (N,) names the phoneme of each frame."""
    counts = np.bincount(path, minlength=phonemes)
    sums = np.bincount(path, scores[np.arange(len(path)), path], minlength=phonemes)
    return torch.from_numpy(counts), torch.from_numpy(sums / counts).float()
