"""By how much sounds are heard before the times that are told for them.

The teacher voice makes sounds before the tokens that it lays out for them; the aligner learned that from it, and every
voice that is trained on times of the two learns it from them. It is measured here, not assumed: log spectra are
explained by the phoneme at each moment, and best where the times are moved by the right amount.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from photophone.data.speech import SpeechDataset
from photophone.layers.mel import MelSpectrogram
from photophone.text.phonemes import SYMBOLS, encode_phonemes

STEP = 0.005
"""Seconds between two moments, and between two leads that are tried."""
RANGE = (-0.1, 0.2)
"""Seconds of lead that are tried."""
NUM_MELS, WINDOW = 40, 0.02
MOST_SECONDS = 120.0
"""Of speech that is looked at; more does not change what is found."""
Timed = tuple[np.ndarray, str, Sequence[float]]
"""A clip float (T,), its phonemes with a pause at both ends, and the seconds of each."""


def clips_with_times(data: SpeechDataset) -> Iterator[Timed]:
    """The clips of a prepared file whose phonemes have times."""
    for index, fields in enumerate(data.fields):
        yield data.clip(index).numpy(), fields["phonemes"], fields["seconds_per_phoneme"]


def sound_lead(clips: Iterable[Timed], sample_rate: int) -> float:
    """Seconds by which sounds come before their times; negative where they come later.

    Args:
        clips: some tens of seconds at least.
        sample_rate: of them, in Hz.

    Raises:
        ValueError: there are none.
    """
    hop = round(STEP * sample_rate)
    mels = MelSpectrogram(sample_rate, round(WINDOW * sample_rate), hop, NUM_MELS, padding="center", clip=1e-3)
    frames, times, ids = [], [], []
    left = MOST_SECONDS
    for audio, phonemes, seconds in clips:
        spectrum = mels(torch.from_numpy(np.asarray(audio, np.float32))[None])[0].T  # (F, M)
        frames.append(spectrum - spectrum.mean(dim=0))
        times.append(np.cumsum(seconds))
        ids.append(encode_phonemes(phonemes.strip("_")).numpy())
        left -= len(audio) / sample_rate
        if left < 0:
            break
    if not frames:
        raise ValueError("no clips to measure a lead of")
    leads = np.arange(round(RANGE[0] / STEP), round(RANGE[1] / STEP) + 1) * STEP
    together = torch.cat(frames).double()
    shares = []
    for lead in leads:
        places = [np.searchsorted(ends, np.arange(len(part)) * hop / sample_rate + lead, side="right")
                  for part, ends in zip(frames, times, strict=True)]
        labels = [own[place.clip(max=len(own) - 1)] for own, place in zip(ids, places, strict=True)]
        shares.append(explained(together, torch.from_numpy(np.concatenate(labels))))
    return round(float(leads[int(np.argmax(shares))]), 4)


def explained(frames: Tensor, labels: Tensor) -> float:
    """The share of the variance of frames (F, M) that the mean of each label, Long (F,), explains."""
    counts = labels.bincount(minlength=len(SYMBOLS))[:, None]
    means = torch.zeros(len(counts), frames.shape[1], dtype=frames.dtype).index_add_(0, labels, frames)
    means = means / counts.clamp(min=1)
    centre = frames.mean(dim=0)
    return float((counts * (means - centre) ** 2).sum() / ((frames - centre) ** 2).sum().clamp(min=1e-9))
