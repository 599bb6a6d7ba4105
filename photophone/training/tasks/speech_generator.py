"""Training of speech generators on precomputed codec tokens and aligned phonemes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from photophone.codecs.base import AudioCodec
from photophone.core.noise import SeededNoise
from photophone.core.pictures import grid, spectrogram
from photophone.core.tokens import Tokens
from photophone.data.speech import SpeechDataset
from photophone.generators.speech_ar.model import Phonemes, SpeechFlowAR
from photophone.layers.lengths import length_mask
from photophone.text.phonemes import encode_phonemes
from photophone.training.loop.task import Task


def token_durations(seconds: list[float], frame_rate: float) -> Tensor:
    """Seconds of each phoneme as Long (L,) tokens; errors of rounding do not add up."""
    ends = (torch.tensor(seconds, dtype=torch.float64).cumsum(0) * frame_rate).round().long()
    return ends.diff(prepend=torch.zeros(1, dtype=torch.long))


MOST_REPEATS = 8
"""Of a clip in an epoch, where its voice has few."""


class AlignedSpeech:
    """Clips as phonemes, durations and codec tokens.

    Args:
        data: clips whose fields hold ``phonemes`` and ``seconds_per_phoneme``.
        tokens: of the same clips, float (M, N, D) with lengths.
        frame_rate: tokens a second.
        patch_size: the last token and the last duration are lengthened to a multiple of it.
        voices: float (V,) for each speaker of the clips, 1 at the number of the voice; None where the generator has one
            voice without a name.

    Raises:
        ValueError: clips that are not aligned, tokens that are not of these clips, or a speaker without a voice.
    """

    def __init__(self, data: SpeechDataset, tokens: Tokens, frame_rate: float, patch_size: int,
                 voices: Mapping[str, Tensor] | None = None) -> None:
        if len(tokens) != len(data) or tokens.lengths is None:
            raise ValueError(f"{len(tokens)} token rows for {len(data)} clips; tokenize the same file again")
        self.ids, self.durations, self.values = [], [], []
        self.voices = None if voices is None else voices_of(data.fields, voices)
        for row, fields in enumerate(data.fields):
            if "seconds_per_phoneme" not in fields:
                raise ValueError(f"clip {row} ({fields.get('text', '')[:40]!r}) has no seconds_per_phoneme; "
                                 "the generator learns from aligned speech")
            ids = encode_phonemes(fields["phonemes"].strip("_"))
            durations = token_durations(fields["seconds_per_phoneme"], frame_rate)
            values = tokens.values[row, :int(tokens.lengths[row])]
            if len(ids) != len(durations) or abs(int(durations.sum()) - len(values)) > 2:
                raise ValueError(f"clip {row}: {len(ids)} phonemes, {len(durations)} durations that sum to "
                                 f"{int(durations.sum())} tokens, but {len(values)} tokens")
            total = -(-int(durations.sum()) // patch_size) * patch_size
            durations[-1] += total - int(durations.sum())
            values = torch.cat([values[:total], values[-1:].expand(max(0, total - len(values)), -1)])
            self.ids.append(ids)
            self.durations.append(durations)
            self.values.append(values)

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Phonemes ``ids``, ``mask`` and ``durations``, and codec ``tokens``; see :func:`speech_of`."""
        def pad(parts: list[Tensor]) -> Tensor:
            return nn.utils.rnn.pad_sequence([parts[i] for i in indices], batch_first=True)

        durations = pad(self.durations)
        mask = length_mask(torch.tensor([len(self.ids[i]) for i in indices]), durations.shape[1])
        made = {"ids": pad(self.ids), "mask": mask, "durations": durations, "tokens": pad(self.values)}
        return made if self.voices is None else {**made, "voices": self.voices[torch.from_numpy(indices)]}


def voices_of(fields: Sequence[Mapping[str, Any]], voices: Mapping[str, Tensor]) -> Tensor:
    """The voice of each clip, float (clips, V).

    Args:
        fields: of the clips, with ``speaker``.
        voices: float (V,) of each speaker; several speakers may be one voice.

    Raises:
        ValueError: a speaker who has none.
    """
    unknown = sorted({str(one.get("speaker")) for one in fields} - set(voices))
    if unknown:
        raise ValueError(f"the speakers {', '.join(unknown)} have no voice; there are {', '.join(voices)}: name them "
                         "in task.speakers, or leave their clips out")
    return torch.stack([voices[one["speaker"]] for one in fields])


def balanced_rows(voices: Tensor) -> np.ndarray:
    """Numbers of clips (M,) in which all voices are about as frequent: clips of rarer voices come several times.

    Args:
        voices: float (clips, V), of :func:`voices_of`.
    """
    own = voices.argmax(dim=1)
    counts = torch.bincount(own, minlength=voices.shape[1])
    repeats = (counts.max() / counts.clamp(min=1)).round().clamp(max=MOST_REPEATS).long()
    return torch.arange(len(own)).repeat_interleave(repeats[own]).numpy()


def speech_of(batch: dict[str, Tensor]) -> tuple[Tokens, Phonemes]:
    """Tokens and condition of a batch of :meth:`AlignedSpeech.batch`."""
    tokens = Tokens(batch["tokens"], batch["durations"].sum(dim=1))
    return tokens, Phonemes(batch["ids"], batch["mask"], batch["durations"], voices=batch.get("voices"))


class SpeechGeneratorTask(Task):
    """Phonemes to codec tokens. Of named voices each is heard as often as the others.

    Args:
        model: of phonemes.
        data: training speech.
        validation: held-apart speech, or None.
        codec: for previews, or None.
    """

    def __init__(self, model: SpeechFlowAR, data: AlignedSpeech, validation: AlignedSpeech | None = None,
                 codec: AudioCodec | None = None) -> None:
        self.model, self.data, self.validation, self.codec = model, data, validation, codec
        self.rows = np.arange(len(data)) if data.voices is None else balanced_rows(data.voices)
        self.num_examples = len(self.rows)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        return self.data.batch(self.rows[indices])

    def loss(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        output = model(*speech_of(batch))
        return output.loss, output.metrics

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Losses on held-apart clips with the same draws each time."""
        if self.validation is None:
            return {}
        totals: dict[str, list[float]] = {}
        for start in range(0, len(self.validation), 16):
            batch = self.validation.batch(np.arange(start, min(start + 16, len(self.validation))))
            with torch.random.fork_rng():
                torch.manual_seed(start)
                output = model(*speech_of({name: tensor.to(model.device) for name, tensor in batch.items()}))
            for name, value in output.metrics.items():
                totals.setdefault(f"validation_{name}", []).append(float(value))
        return {name: float(np.mean(values)) for name, values in totals.items()}

    def preview(self, model: nn.Module) -> Image.Image | None:
        """Spectrograms of held-apart sentences: the codec's reconstruction above what the generator says."""
        if self.validation is None or self.codec is None:
            return None
        rows = min(4, len(self.validation))
        batch = self.validation.batch(np.arange(rows))
        noise = SeededNoise.from_seeds(range(rows), model.device)
        real, phonemes = speech_of(batch)
        made = model.generate(replace(phonemes, durations=None), noise=noise)
        pictures = []
        for row in range(rows):
            for tokens in (real, made):
                audio = self.codec.decode(tokens[row].to(self.codec.device)).cpu()[0, 0]
                pictures.append(spectrogram(audio, self.codec.sample_rate, size=(640, 160), seconds=4))
        return grid(pictures, columns=1)

    def export(self, model: nn.Module, folder: Path) -> None:
        model.save_pretrained(folder)
