"""How far alignments are from known times, in silence and in noise."""

from __future__ import annotations

import numpy as np
import torch
from tqdm import tqdm

from photophone.data.mixing import scale_to_snr
from photophone.data.speech import SpeechDataset
from photophone.text.phonemes import PAUSE, encode_phonemes
from photophone.training.alignment.clips import SOUNDS, align_clip
from photophone.training.alignment.model import PhonemeAligner
from photophone.training.alignment.task import boundary_errors, check_times


def boundary_report(aligner: PhonemeAligner, data: SpeechDataset, noise: SpeechDataset | None = None,
                    snr_db: float = 10.0, limit: int | None = None, seed: int = 0) -> dict[str, float]:
    """Errors of the ends of phonemes against the times that the fields of clips tell.

    Each clip begins up to a frame later than it does, so that the frames of the teacher are not those of the aligner.

    Args:
        aligner: trained, at the rate of the data.
        data: clips with ``phonemes`` and ``seconds_per_phoneme``.
        noise: recorded noises, one at random for each clip; None adds none.
        snr_db: of the noise.
        limit: clips, at most.
        seed: of the shifts and noises.

    Returns:
        ``clips``, ``boundaries``, ``median_ms``, ``mean_ms``, ``p90_ms``, ``within_25_ms`` (a share), and the same
        median and share of ``sounds`` alone, without stress marks, spaces and punctuation; ``fit``, the median.
    """
    check_times(data)
    rng, rate = np.random.default_rng(seed), aligner.config.sample_rate
    errors, of_sounds, fits = [], [], []
    for index in tqdm(range(min(limit or len(data), len(data))), unit="clip", dynamic_ncols=True):
        fields, audio = data.fields[index], data.clip(index).numpy()
        later = int(rng.integers(aligner.config.frame_length))
        audio, known = audio[later:], list(fields["seconds_per_phoneme"])
        known[0] -= later / rate
        if noise is not None:
            part = noise.clip(int(rng.integers(len(noise)))).numpy()
            start = int(rng.integers(len(part)))
            part = np.take(part, np.arange(start, start + len(audio)), mode="wrap")
            audio = audio + scale_to_snr(audio, part, snr_db, rate) if part.any() else audio
        phonemes = fields["phonemes"].strip(PAUSE)
        found = align_clip(aligner, torch.from_numpy(np.asarray(audio, np.float32)), phonemes)
        errors.append(boundary_errors(torch.tensor(found.seconds), known))
        of_sounds.append(SOUNDS[encode_phonemes(phonemes)][:-1])
        fits.append(found.fit)
    together, heard = 1000 * torch.cat(errors), torch.cat(of_sounds)
    return {"clips": len(errors), "boundaries": len(together), "median_ms": float(together.median()),
            "mean_ms": float(together.mean()), "p90_ms": float(together.quantile(0.9)),
            "within_25_ms": float((together <= 25).float().mean()),
            "sounds_median_ms": float(together[heard].median()),
            "sounds_within_25_ms": float((together[heard] <= 25).float().mean()), "fit": float(np.median(fits))}
