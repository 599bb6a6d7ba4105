"""Training of CosyVoice 2's speech tokenizer on aligned speech: its units must tell the phonemes and the melody.

The authors train the encoder, with the quantizer in its middle, inside a speech recogniser. Here the phonemes and the
times that the teacher voice knows take the recogniser's place, frame by frame: that is enough for one voice, and cheap.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from photophone.codecs.speech_units.blocks import SAMPLE_RATE
from photophone.codecs.speech_units.s3 import FSQ_DIGITS, FSQ_SHRINK, S3Tokenizer
from photophone.data.speech import SpeechDataset
from photophone.data.speech_examples import groups_of_like_length
from photophone.data.speech_sources import TeacherVoice
from photophone.layers.lengths import length_mask
from photophone.text.phonemes import PAUSE, SYMBOLS
from photophone.training.loop.task import Task

HALVES = 2
"""Phonemes that a unit tells: those in the middle of its halves, because many last less than a unit."""
MARKS = "ˈˌːʰʲ"
"""They belong to the sound behind them."""
SHORT_PAUSE = 0.06
"""Seconds below which the gap between two words is no pause but part of the next sound."""
MELODY = 4
"""Further numbers that a unit tells: time since the sound began and until it ends, pitch, level."""
REFERENCE_HZ = 200.0
FAINT = 3e-4
"""Largest deviation of the noise that is added, because the teacher pauses in digital silence."""


def sounds_of(fields: dict) -> tuple[Tensor, Tensor]:
    """Ids of :data:`SYMBOLS` Long (S,) of the sounds of an aligned clip, and the seconds (S,) at which each ends."""
    names, ends, now = [], [], 0.0
    waiting = False
    for symbol, seconds in zip(fields["phonemes"], fields["seconds_per_phoneme"], strict=True):
        now += seconds
        sounding = symbol.isalpha() and symbol not in MARKS
        waiting = symbol in MARKS or (not sounding and seconds < SHORT_PAUSE)
        if not waiting:
            names.append(SYMBOLS.index(symbol) if sounding else SYMBOLS.index(PAUSE))
            ends.append(now)
    if waiting and ends:
        ends[-1] = now
    return torch.tensor(names), torch.tensor(ends, dtype=torch.float64)


def pitch_at(pitch: list[int], times: Tensor) -> Tensor:
    """Pitch in Hz (N,) at seconds (N,): 0 where there is no voice."""
    values = torch.tensor(pitch, dtype=torch.float32)
    return values[(times * TeacherVoice.PITCH_RATE).long().clamp(max=len(values) - 1)]


def melody_at(pitch: list[int], times: Tensor) -> Tensor:
    """Octaves (N,) above REFERENCE_HZ at seconds (N,), on straight lines where there is no voice."""
    values = np.asarray(pitch, dtype=np.float64)
    voiced = np.flatnonzero(values)
    if not len(voiced):
        return torch.zeros(len(times))
    octaves = np.interp(times.numpy() * TeacherVoice.PITCH_RATE - 0.5, voiced, np.log2(values[voiced] / REFERENCE_HZ))
    return torch.from_numpy(octaves).float()


def unit_targets(fields: dict, count: int, seconds: float) -> tuple[Tensor, Tensor]:
    """What ``count`` units of ``seconds`` each should tell of a clip.

    Returns:
        Long (count, HALVES), sounds; float (count, MELODY - 1), all of the melody but the level.
    """
    names, ends = sounds_of(fields)

    def place(times: Tensor) -> Tensor:
        return torch.searchsorted(ends, times, right=True).clamp(max=len(ends) - 1)

    halves = (torch.arange(HALVES * count, dtype=torch.float64) + 0.5) * seconds / HALVES
    times = (torch.arange(count, dtype=torch.float64) + 0.5) * seconds
    begins = functional.pad(ends, (1, 0))[:-1]
    since, until = times - begins[place(times)], (ends[place(times)] - times).clamp(min=0)
    spans = torch.stack([since, until], dim=1).div(seconds).log1p().float()
    melody = 4 * melody_at(fields["pitch"], times)
    return names[place(halves)].view(count, HALVES), torch.cat([spans, melody[:, None]], dim=1)


class UnitsInTraining(nn.Module):
    """The tokenizer, and what reads its units in training.

    Args:
        tokenizer: of version 2 or 3, with digits.
        width: of the reader.
    """

    def __init__(self, tokenizer: S3Tokenizer, width: int = 256) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.reader = nn.Sequential(nn.Linear(FSQ_DIGITS, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
                                    nn.Linear(width, HALVES * len(SYMBOLS) + MELODY))
        for block in tokenizer.blocks:  # the authors' keys have no bias, so none may be learned
            bias = block.to_qkv.bias
            keys = torch.ones(3, 1).index_fill(0, torch.tensor([1]), 0)
            bias.data.copy_((bias.data.view(3, -1) * keys).flatten())
            bias.register_hook(lambda gradient, keys=keys: (gradient.view(3, -1) * keys.to(gradient)).flatten())

    def forward(self, mel: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, N, HALVES, S) and melody (B, N, MELODY) of mel frames (B, bands, F), and units of each row."""
        states, counts = self.tokenizer.hidden(mel, frames)
        digits = self.tokenizer.to_digits(states).float().tanh() * FSQ_SHRINK
        digits = digits + (digits.round() - digits).detach()  # the gradient passes the rounding
        told = self.reader(digits).float()
        logits = told[..., MELODY:].unflatten(-1, (HALVES, len(SYMBOLS)))
        return logits, told[..., :MELODY], counts


class SpeechUnitsTask(Task):
    """Aligned speech to units that tell its sounds and melody.

    Args:
        tokenizer: what is trained.
        data: clips at 16 kHz with phonemes, seconds_per_phoneme and pitch.
        validation: held-apart clips, or None.
        melody: weight of the melody beside the sounds.
        seconds: of a batch, padding included; see :class:`photophone.training.tasks.speech_lm.SpeechLMTask`.

    Raises:
        ValueError: data at another rate, or that is not aligned.
    """

    def __init__(self, tokenizer: S3Tokenizer, data: SpeechDataset, validation: SpeechDataset | None = None,
                 melody: float = 0.5, seconds: float = 60.0) -> None:
        for part in filter(None, (data, validation)):
            if part.sample_rate != SAMPLE_RATE or any("pitch" not in fields for fields in part.fields):
                raise ValueError(f"the tokenizer learns from aligned speech with pitch at {SAMPLE_RATE} Hz, got "
                                 f"{part.sample_rate} Hz; prepare sentences (.csv) with --sample-rate {SAMPLE_RATE}")
        self.model, self.data, self.validation, self.melody = UnitsInTraining(tokenizer), data, validation, melody
        self.positions = int(seconds * SAMPLE_RATE)
        self.groups = groups_of_like_length(data.lengths, self.positions)
        self.num_examples = len(self.groups)
        self.unit_seconds = tokenizer.hop_length / SAMPLE_RATE

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
        return self.clips(self.data, np.concatenate([self.groups[index] for index in indices]), rng)

    def clips(self, data: SpeechDataset, rows: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        """``mel`` frames and what the units of some clips should tell."""
        tokenizer = self.model.tokenizer
        mels, sounds, melodies = [], [], []
        for row in rows:
            audio = data.clip(int(row))
            noise = rng.uniform(0, FAINT) * torch.from_numpy(rng.standard_normal(len(audio))).float()
            mel = tokenizer.mel.cpu()((audio + noise)[None])[0]
            count = int(tokenizer.token_lengths(torch.tensor([len(audio)])))
            sound, melody = unit_targets(data.fields[row], count, self.unit_seconds)
            level = functional.interpolate(mel.mean(dim=0)[None, None], count)[0, 0]
            mels.append(mel.T)
            sounds.append(sound)
            melodies.append(torch.cat([melody, 3 * level[:, None]], dim=1))
        return {"mel": pad_sequence(mels, batch_first=True).transpose(1, 2),
                "frames": torch.tensor([len(mel) for mel in mels]),
                "sounds": pad_sequence(sounds, batch_first=True), "melody": pad_sequence(melodies, batch_first=True)}

    def loss(self, model: nn.Module, batch: dict[str, Any], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        logits, melody, counts = model(batch["mel"], batch["frames"])
        mask = length_mask(counts, batch["sounds"].shape[1])
        logits, sounds = logits[mask], batch["sounds"][mask]
        error = functional.cross_entropy(logits.flatten(0, 1), sounds.flatten())
        distance = (melody - batch["melody"])[mask].square().mean()
        right = (logits.argmax(dim=-1) == sounds).float().mean()
        return error + self.melody * distance, {"sounds": error, "melody": distance, "accuracy": right}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Losses on held-apart clips, and how many different units they have."""
        if self.validation is None:
            return {}
        totals: dict[str, list[float]] = {}
        units = set()
        for rows in groups_of_like_length(self.validation.lengths, self.positions):
            batch = self.clips(self.validation, rows, np.random.default_rng(0))
            _, metrics = self.loss(model, {name: value.to(model.tokenizer.device) for name, value in batch.items()}, 0)
            for name, value in metrics.items():
                totals.setdefault(f"validation_{name}", []).append(float(value))
            units.update(model.tokenizer.encode(self.validation.clip(int(rows[0]))[None, None]).values[0].tolist())
        return {name: float(np.mean(values)) for name, values in totals.items()} | {"different_units": len(units)}

    def export(self, model: nn.Module, folder: Path) -> None:
        model.tokenizer.save_pretrained(folder)
