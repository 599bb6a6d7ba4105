"""Training of CosyVoice 2's speech tokenizer on aligned speech: its units must tell the phonemes and the melody.

The authors train the encoder, with the quantizer in its middle, inside a speech recogniser. Here the phonemes and the
times that the teacher voice knows take the recogniser's place, frame by frame: that is enough for one voice, and cheap.
"""

from __future__ import annotations

import copy
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
EDGE = 0.1
"""Seconds of the pause before and behind a clip that are kept."""
MELODY = 4
"""Further numbers that a unit tells: time since the sound began and until it ends, pitch, level."""
REFERENCE_HZ = 200.0
ALWAYS_LOW = 10.0
"""So far below 0 a digit is 0 whatever the speech."""
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


def spoken_units(fields: dict, count: int, seconds: float) -> slice:
    """The units of an aligned clip of ``count`` units between its first and last sounds, and EDGE around them."""
    names, ends = sounds_of(fields)
    begins, sounding = functional.pad(ends, (1, 0))[:-1], names != SYMBOLS.index(PAUSE)
    if not sounding.any():
        return slice(0, count)
    first, last = float(begins[sounding][0]) - EDGE, float(ends[sounding][-1]) + EDGE
    return slice(max(int(first / seconds), 0), min(int(last / seconds) + 1, count))


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

    Each digit is normalised over the batch before it is rounded, else most of them soon have one value for all speech;
    :meth:`folded` puts that into the layer in front, so the tokenizer of an export has nothing that the authors' lacks.

    Args:
        tokenizer: of version 2 or 3, with digits.
        digits: that tell something; the others are always 0, so the units lie below ``3**digits``.
        width: of the reader.
    """

    def __init__(self, tokenizer: S3Tokenizer, digits: int = FSQ_DIGITS, width: int = 256) -> None:
        super().__init__()
        self.tokenizer, self.digits = tokenizer, digits
        self.norm = nn.BatchNorm1d(digits, affine=False, momentum=0.05)
        self.reader = nn.Sequential(nn.Linear(digits, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
                                    nn.Linear(width, HALVES * len(SYMBOLS) + MELODY))
        for block in tokenizer.blocks:  # the authors' keys have no bias, so none may be learned
            bias = block.to_qkv.bias
            keys = torch.ones(3, 1).index_fill(0, torch.tensor([1]), 0)
            bias.data.copy_((bias.data.view(3, -1) * keys).flatten())
            bias.register_hook(lambda gradient, keys=keys: (gradient.view(3, -1) * keys.to(gradient)).flatten())

    def forward(self, mel: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (M, HALVES, S) and melody (M, MELODY) of all units of mel frames (B, bands, F), and bool (B, N) that
        tells where they are."""
        states, counts = self.tokenizer.hidden(mel, frames)
        mask = length_mask(counts, states.shape[1])
        digits = self.norm(self.tokenizer.to_digits(states[mask])[:, :self.digits].float()).tanh() * FSQ_SHRINK
        digits = digits + (digits.round() - digits).detach()  # the gradient passes the rounding
        told = self.reader(digits).float()
        return told[:, MELODY:].unflatten(-1, (HALVES, len(SYMBOLS))), told[:, :MELODY], mask

    @torch.no_grad()
    def folded(self) -> S3Tokenizer:
        """A copy of the tokenizer whose digits come normalised."""
        tokenizer = copy.deepcopy(self.tokenizer)
        scale = (self.norm.running_var + self.norm.eps).rsqrt()
        layer, used = tokenizer.to_digits, slice(0, self.digits)
        layer.weight[used] *= scale[:, None]
        layer.bias[used] = (layer.bias[used] - self.norm.running_mean) * scale
        layer.weight[self.digits:], layer.bias[self.digits:] = 0, -ALWAYS_LOW
        return tokenizer


class SpeechUnitsTask(Task):
    """Aligned speech to units that tell its sounds and melody.

    Args:
        tokenizer: what is trained.
        data: clips at 16 kHz with phonemes, seconds_per_phoneme and pitch.
        validation: held-apart clips, or None.
        melody: weight of the melody beside the sounds.
        digits: of a unit that tell something; see :class:`UnitsInTraining`.
        seconds: of a batch, padding included; see :class:`photophone.training.tasks.speech_lm.SpeechLMTask`.

    Raises:
        ValueError: data at another rate, or that is not aligned.
    """

    def __init__(self, tokenizer: S3Tokenizer, data: SpeechDataset, validation: SpeechDataset | None = None,
                 melody: float = 0.5, seconds: float = 60.0, digits: int = FSQ_DIGITS) -> None:
        for part in filter(None, (data, validation)):
            if part.sample_rate != SAMPLE_RATE or any("pitch" not in fields for fields in part.fields):
                raise ValueError(f"the tokenizer learns from aligned speech with pitch at {SAMPLE_RATE} Hz, got "
                                 f"{part.sample_rate} Hz; prepare sentences (.csv) with --sample-rate {SAMPLE_RATE}")
        self.model, self.data = UnitsInTraining(tokenizer, digits), data
        self.validation, self.melody = validation, melody
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
        logits, melody, mask = model(batch["mel"], batch["frames"])
        sounds = batch["sounds"][mask]
        error = functional.cross_entropy(logits.flatten(0, 1), sounds.flatten())
        distance = (melody - batch["melody"][mask]).square().mean()
        right = (logits.argmax(dim=-1) == sounds).float().mean()
        return error + self.melody * distance, {"sounds": error, "melody": distance, "accuracy": right}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Losses on held-apart clips."""
        if self.validation is None:
            return {}
        totals: dict[str, list[float]] = {}
        for rows in groups_of_like_length(self.validation.lengths, self.positions):
            batch = self.clips(self.validation, rows, np.random.default_rng(0))
            _, metrics = self.loss(model, {name: value.to(model.tokenizer.device) for name, value in batch.items()}, 0)
            for name, value in metrics.items():
                totals.setdefault(f"validation_{name}", []).append(float(value))
        return {name: float(np.mean(values)) for name, values in totals.items()}

    def export(self, model: nn.Module, folder: Path) -> None:
        model.folded().save_pretrained(folder)
