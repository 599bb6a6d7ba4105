"""Training of the aligner on speech whose times are known, made to sound like other voices, rooms and microphones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.data.degrade import band_limit
from photophone.data.mixing import coloured_noise, convolve, scale_to_snr
from photophone.data.rooms import random_room
from photophone.data.speech import SpeechDataset
from photophone.text.phonemes import encode_phonemes
from photophone.training.alignment.model import PhonemeAligner
from photophone.training.alignment.paths import best_path, ctc_path
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.task import Task

OBJECTIVES = ("frames", "ctc")
"""What is learned: the phoneme of each frame, or only their order (CTC)."""
VALIDATED = 48
"""Clips."""
UNKNOWN = -100
"""The label of a frame behind the end of a clip."""


@dataclass
class Variation:
    """How often what happens to a training clip, and how much.

    Args:
        speed: lowest and highest factor; pitch and the colour of the voice go with it.
        recorded: share of clips with a recorded noise, where there are any; the others get a coloured one.
        snr_db: of the noise, lowest and highest; digital silence gets some too.
        reverb, band_limit: probabilities of a room, and of a smaller band.
        lead_seconds: silence that is added or cut at the start, at most.
    """

    speed: tuple[float, float] = (0.78, 1.3)
    recorded: float = 0.5
    snr_db: tuple[float, float] = (3.0, 45.0)
    reverb: float = 0.3
    band_limit: float = 0.3
    lead_seconds: float = 0.3


class AlignerTask(Task):
    """Speech with times to the phoneme of each frame.

    Args:
        model: of speech at the rate of the data.
        data: clips whose fields hold ``phonemes`` and ``seconds_per_phoneme``.
        validation: the same, held apart, or None.
        noise: recorded noises of the same rate, or None.
        objective: one of OBJECTIVES.
        variation: what is done to training clips.
        crop_seconds: of a training clip; CTC sees whole clips.

    Raises:
        ValueError: another rate, clips without times, or an unknown objective.
    """

    def __init__(self, model: PhonemeAligner, data: SpeechDataset, validation: SpeechDataset | None = None,
                 noise: SpeechDataset | None = None, objective: str = "frames", variation: Variation | None = None,
                 crop_seconds: float = 3.2) -> None:
        if objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
        self.model, self.data, self.validation, self.noise = model, data, validation, noise
        self.objective, self.variation = objective, variation or Variation()
        self.frame, self.rate = model.config.frame_length, model.config.sample_rate
        self.crop = round(crop_seconds / model.frame_seconds)
        for part in (data, validation, noise):
            if part is not None and part.sample_rate != self.rate:
                raise ValueError(f"the data is at {part.sample_rate} Hz, the aligner at {self.rate} Hz; prepare it "
                                 "again")
        for part in (data, validation):
            check_times(part)
        rng = np.random.default_rng(0)
        self.rooms = [random_room(rng, self.rate)[0] for _ in range(16)]
        self.num_examples = len(data)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        """``audio`` (B, T), ``labels`` Long (B, N) of each frame, ``ids`` Long (B, L) and their number ``counts``."""
        clips = [self.example(int(index), rng) for index in indices]
        frames = max(len(labels) for _, labels, _ in clips)
        audio = torch.zeros(len(clips), frames * self.frame)
        labels = torch.full((len(clips), frames), UNKNOWN)
        for row, (samples, own, _) in enumerate(clips):
            audio[row, :len(samples)], labels[row, :len(own)] = torch.from_numpy(samples), own
        ids = nn.utils.rnn.pad_sequence([ids for _, _, ids in clips], batch_first=True)
        return {"audio": audio, "labels": labels, "ids": ids, "counts": torch.tensor([len(ids) for *_, ids in clips])}

    def example(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, Tensor, Tensor]:
        """Samples of whole frames, the label of each frame Long (N,), and the ids Long (L,) of the whole clip."""
        fields, audio = self.data.fields[index], self.data.clip(index).numpy()
        ids = encode_phonemes(fields["phonemes"].strip("_"))
        speed = float(np.exp(rng.uniform(*np.log(self.variation.speed))))
        lead = round(rng.uniform(-1, 1) * self.variation.lead_seconds * self.rate)
        spare = max(0.0, fields["seconds_per_phoneme"][0] / speed - 2 * self.model.frame_seconds)
        lead = max(lead, -int(spare * self.rate))  # some of the first pause stays
        places = np.arange(0, len(audio) - 1, speed)
        spoken = np.interp(places, np.arange(len(audio)), audio).astype(np.float32)
        spoken = np.pad(spoken, (lead, 0)) if lead > 0 else spoken[-lead:]
        count = len(spoken) // self.frame
        labels = frame_labels(fields["seconds_per_phoneme"], ids, count, self.model.frame_seconds, speed,
                              lead / self.rate)
        spoken, first = self.vary(spoken[:count * self.frame], rng), 0
        if self.objective == "frames" and count > self.crop:
            first = int(rng.integers(count - self.crop + 1))
            count = self.crop
        return spoken[first * self.frame:(first + count) * self.frame], labels[first:first + count], ids

    def vary(self, speech: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The same words elsewhere: another room, microphone, noise and level."""
        settings = self.variation
        if rng.random() < settings.reverb:
            speech = convolve(speech, self.rooms[rng.integers(len(self.rooms))])
        if self.noise is not None and rng.random() < settings.recorded:
            noise = self.noise.clip(int(rng.integers(len(self.noise)))).numpy()
            start = int(rng.integers(len(noise)))
            noise = np.take(noise, np.arange(start, start + len(speech)), mode="wrap")
        else:
            noise = coloured_noise(len(speech), rng.uniform(-1, 0.2), rng)
        if noise.any() and speech.any():
            speech = speech + scale_to_snr(speech, noise, rng.uniform(*settings.snr_db), self.rate)
        if rng.random() < settings.band_limit:
            speech = band_limit(speech, self.rate, rng.uniform(30, 300), rng.uniform(0.2, 0.48) * self.rate)
        peak = float(np.abs(speech).max())
        return (speech * (rng.uniform(0.1, 0.9) / peak) if peak else speech).astype(np.float32)

    def loss(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        log_probs, labels = model(batch["audio"]), batch["labels"]
        if self.objective == "frames":
            known = labels != UNKNOWN
            right = (log_probs.argmax(dim=-1) == labels)[known].float().mean()
            return functional.nll_loss(log_probs[known], labels[known]), {"accuracy": right}
        lengths = (labels != UNKNOWN).sum(dim=1)
        return functional.ctc_loss(log_probs.transpose(0, 1), batch["ids"], lengths, batch["counts"],
                                   blank=log_probs.shape[-1] - 1, zero_infinity=True), {}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Errors of the boundaries of held-apart clips, in ms."""
        if self.validation is None:
            return {}
        path = best_path if self.objective == "frames" else ctc_path
        errors = []
        for index in range(min(VALIDATED, len(self.validation))):
            fields = self.validation.fields[index]
            ids = encode_phonemes(fields["phonemes"].strip("_"))
            counts, _ = path(model.listen(self.validation.clip(index)), ids)
            errors.append(boundary_errors(counts * model.frame_seconds, fields["seconds_per_phoneme"]))
        together = 1000 * torch.cat(errors)
        return {"validation_median_ms": float(together.median()), "validation_mean_ms": float(together.mean()),
                "validation_within_25_ms": float((together < 25.5).float().mean())}

    def export(self, model: nn.Module, folder: Path) -> None:
        model.save_pretrained(folder)


def check_times(data: SpeechDataset | None) -> None:
    """Refuse clips that do not say when their phonemes are said.

    Raises:
        ValueError: names the first.
    """
    for row, fields in enumerate(data.fields if data is not None else ()):
        if len(encode_phonemes(fields.get("phonemes", "").strip("_"))) != len(fields.get("seconds_per_phoneme", ())):
            raise ValueError(f"clip {row} ({fields.get('text', '')[:40]!r}) does not say the seconds of each of its "
                             "phonemes; speech of the teacher voice does, and that of align_speech.py")


def frame_labels(seconds: list[float], ids: Tensor, count: int, frame_seconds: float, speed: float = 1.0,
                 lead: float = 0.0) -> Tensor:
    """The phoneme in the middle of each frame, Long (count,).

    Args:
        seconds: of each phoneme.
        ids: Long (L,) of the phonemes.
        count: frames.
        frame_seconds: of a frame.
        speed: that the clip was made faster by, afterwards.
        lead: seconds that then were added before it, or cut if negative.
    """
    ends = np.cumsum(seconds) / speed + lead
    middles = (np.arange(count) + 0.5) * frame_seconds
    return ids[torch.from_numpy(np.searchsorted(ends, middles, side="right").clip(max=len(ids) - 1))]


def boundary_errors(seconds: Tensor, known: list[float]) -> Tensor:
    """Seconds between the ends of phonemes and where they should be, float64 (L - 1,); the end of the clip is none."""
    ends = torch.as_tensor(seconds).double().cumsum(0)
    return (ends - torch.tensor(known, dtype=torch.float64).cumsum(0)).abs()[:-1]


def aligner_task(config: TrainConfig) -> AlignerTask:
    """The task of ``train_aligner.py``.

    ``task`` holds ``more_data`` (further files with times), ``noise`` (a prepared file of recorded noises),
    ``variation`` (fields of :class:`Variation`), and further arguments of :class:`AlignerTask`.

    Raises:
        ValueError, TypeError: settings that are unknown or do not fit.
    """
    settings: dict[str, Any] = dict(config.task)
    data = SpeechDataset(config.data, *settings.pop("more_data", []))
    validation = SpeechDataset(config.validation) if config.validation else None
    noise, variation = settings.pop("noise", None), Variation(**settings.pop("variation", {}))
    if config.init_from:
        model = PhonemeAligner.from_pretrained(config.init_from, **config.model).train()
    else:
        model = PhonemeAligner(**{"sample_rate": data.sample_rate, **config.model})
    return AlignerTask(model, data, validation, SpeechDataset(noise) if noise else None, variation=variation,
                       **settings)
