"""Prepared recordings and their texts: the times of all phonemes, and which clips do not fit what they should say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from photophone.data.resampling import resample_audio
from photophone.data.speech import SpeechDataset, write_prepared
from photophone.text.phonemes import PAUSE, SYMBOLS, encode_phonemes
from photophone.text.speech_text import speech_pieces
from photophone.training.alignment.model import PhonemeAligner
from photophone.training.alignment.paths import best_path

LONGEST_SENTENCE = 2_000
"""Phonemes; nothing of a clip is cut."""
UNDER_MEDIAN = 0.8
"""A clip does not say its text if its :attr:`Alignment.fit` is so much under the median of all clips of the reader,"""
WORST_FIT = (-2.5, -1.2)
"""but in any case under the first of these, and never over the second. docs/own-voice.md has the numbers."""
SOUNDS = torch.tensor([symbol.isalpha() and symbol not in "ˈˌːʰʲ" for symbol in SYMBOLS])
"""Which of the symbols are heard by themselves."""


@dataclass(frozen=True)
class Alignment:
    """When the phonemes of a clip are said.

    Attributes:
        phonemes: with a pause at both ends.
        seconds: of each of them; they add up to the clip.
        fit: how much less likely the text is than what is heard in each frame, mean of the logarithm over its sounds:
            0 is best. That of the words of another clip is far lower.
    """

    phonemes: str
    seconds: list[float]
    fit: float


def text_phonemes(text: str) -> str:
    """The phonemes of all sentences of a text, as the built-in voice would read it.

    Raises:
        ValueError: it cannot be read as English.
    """
    return " ".join(piece.phonemes for piece in speech_pieces(text, LONGEST_SENTENCE))


def align_clip(aligner: PhonemeAligner, audio: Tensor, phonemes: str) -> Alignment:
    """Align a clip float (T,) at the aligner's rate.

    Raises:
        TooShort: it has fewer frames than phonemes.
    """
    ids = encode_phonemes(phonemes)
    log_probs = aligner.listen(audio)
    counts, _ = best_path(log_probs, ids)
    path = ids.repeat_interleave(counts)
    lost = log_probs.gather(1, path[:, None])[:, 0] - log_probs.max(dim=1).values
    heard = SOUNDS[path]
    seconds = [round(float(count) * aligner.frame_seconds, 4) for count in counts]
    seconds[-1] = round(max(aligner.frame_seconds, len(audio) / aligner.config.sample_rate - sum(seconds[:-1])), 4)
    known = "".join(SYMBOLS[index] for index in ids.tolist()[1:-1])
    return Alignment(f"{PAUSE}{known}{PAUSE}", seconds, float(lost[heard].mean()) if bool(heard.any()) else 0.0)


def align_all(aligner: PhonemeAligner, data: SpeechDataset, name: str = "align"
              ) -> Iterator[tuple[int, Alignment | ValueError]]:
    """Number and alignment of each clip, or why it has none."""
    for index in tqdm(range(len(data)), desc=name, unit="clip", dynamic_ncols=True):
        text = data.fields[index].get("text", "")
        try:
            phonemes = data.fields[index].get("phonemes", "").strip(PAUSE) or text_phonemes(text)
            audio = resample_audio(data.clip(index), data.sample_rate, aligner.config.sample_rate)
            yield index, align_clip(aligner, audio, phonemes)
        except ValueError as error:
            yield index, error


def worst_fit(fits: Sequence[float]) -> float:
    """The smallest fit of a clip that says its text, for one reader."""
    low, high = WORST_FIT
    return min(max(float(np.median(fits)) - UNDER_MEDIAN, low), high) if len(fits) else low


def align_prepared(aligner: PhonemeAligner, source: Path, output: Path, worst: float | None = None
                   ) -> dict[str, tuple[float | None, str]]:
    """Write a prepared file again, with the times of its phonemes and without the clips that do not fit their text.

    Args:
        aligner: trained.
        source, output: prepared files.
        worst: smallest fit of a clip that stays; None: that of :func:`worst_fit`.

    Returns:
        By the name of each clip that is left out: its fit or None, and why, the worst first.

    Raises:
        ValueError: no clip fits.
    """
    data, audio, fields, left_out = SpeechDataset(source), [], [], {}
    made = dict(align_all(aligner, data, output.stem))
    if worst is None:
        worst = worst_fit([found.fit for found in made.values() if isinstance(found, Alignment)])
    for index, found in made.items():
        name = clip_name(data.fields, index)
        if isinstance(found, ValueError):
            left_out[name] = None, str(found)
        elif found.fit < worst:
            left_out[name] = found.fit, f"does not fit its text: {data.fields[index].get('text', '')}"
        else:
            audio.append(data.samples(index).numpy())
            fields.append({**data.fields[index], "phonemes": found.phonemes, "seconds_per_phoneme": found.seconds,
                           "fit": round(found.fit, 3)})
    if not fields:
        raise ValueError(f"no clip of {source} fits its text: {next(iter(left_out.values()))[1]}")
    write_prepared(output, audio, fields, data.sample_rate)
    return dict(sorted(left_out.items(), key=lambda item: item[1][0] or -np.inf))


def clip_name(fields: Sequence[dict], index: int) -> str:
    """What a clip is called in messages."""
    return fields[index].get("clip") or f"clip {index}"


def alignment_picture(data: SpeechDataset, path: Path, count: int = 4, seconds: float = 4.0) -> None:
    """Draw log-mels of the first clips of an aligned file with a line where each phoneme ends, as a PNG.

    Raises:
        ValueError: matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ValueError("drawing needs matplotlib: pip install 'photophone[train]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    from photophone.core.files import atomic_write
    from photophone.layers.mel import MelSpectrogram

    rows = min(count, len(data))
    mels = MelSpectrogram(data.sample_rate, 1024, data.sample_rate // 100, 64, padding="center", clip=1e-3)
    figure, axes = pyplot.subplots(rows, 1, figsize=(12, 2.2 * rows), squeeze=False, layout="constrained")
    for row, axis in enumerate(axes[:, 0]):
        picture = mels(data.clip(row)[None, :round(seconds * data.sample_rate)])[0]
        axis.imshow(picture, origin="lower", aspect="auto", extent=(0, picture.shape[1] / 100, 0, 64), cmap="magma")
        start = 0.0
        for symbol, length in zip(data.fields[row]["phonemes"], data.fields[row]["seconds_per_phoneme"]):
            end = start + length
            if end > seconds:
                break
            axis.axvline(end, color="white", linewidth=0.4)
            axis.text((start + end) / 2, 66, symbol, ha="center", fontsize=8)
            start = end
        axis.set(yticks=[], xlim=(0, min(seconds, picture.shape[1] / 100)))
    axes[-1, 0].set_xlabel("seconds")
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", dpi=110, bbox_inches="tight")
    pyplot.close(figure)
