"""Training of HiFT, CosyVoice's vocoder, by spectra alone, on speech whose pitch is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from photophone.codecs.hift.model import HiFT
from photophone.core.noise import GlobalNoise
from photophone.data.speech import SpeechDataset
from photophone.training.loop.task import Task
from photophone.training.losses.audio import SpectralLoss
from photophone.training.tasks.speech_units import FAINT, REFERENCE_HZ, pitch_at


class HiFTInTraining(nn.Module):
    """Mel frames to speech with the true pitch in the source, and the pitch that the vocoder itself would read."""

    def __init__(self, vocoder: HiFT) -> None:
        super().__init__()
        self.vocoder = vocoder
        nn.init.constant_(vocoder.pitch.classifier.bias, REFERENCE_HZ / 2)

    def forward(self, mel: Tensor, pitch: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (B, 1, F * hop) and pitch in Hz (B, F) of frames (B, num_mels, F) and their true pitch (B, F)."""
        vocoder, noise = self.vocoder, GlobalNoise(mel.device)
        grain = vocoder.source.draw(noise, *pitch.shape)
        source, _ = vocoder.source(pitch, grain, vocoder.source.begin(noise, len(pitch)))
        return vocoder.trunk(mel, source), vocoder.pitch(mel)


class VocoderTask(Task):
    """Reconstruction of crops of speech from their mel frames and pitch.

    Args:
        vocoder: what is trained.
        data: speech with pitch, at the vocoder's rate.
        validation: held-apart speech, or None.
        crop_frames: mel frames of a crop.
        pitch: weight of the error of the pitch, in parts of REFERENCE_HZ.
        magnitude: weight of the log magnitudes beside the log mels.

    Raises:
        ValueError: data at another rate, or without pitch.
    """

    def __init__(self, vocoder: HiFT, data: SpeechDataset, validation: SpeechDataset | None = None,
                 crop_frames: int = 24, pitch: float = 1.0, magnitude: float = 0.5) -> None:
        for part in filter(None, (data, validation)):
            if part.sample_rate != vocoder.sample_rate or any("pitch" not in fields for fields in part.fields):
                raise ValueError(f"the vocoder learns from speech with pitch at {vocoder.sample_rate} Hz, got "
                                 f"{part.sample_rate} Hz; prepare sentences (.csv) with --sample-rate "
                                 f"{vocoder.sample_rate}")
        self.model, self.data, self.validation = HiFTInTraining(vocoder), data, validation
        self.crop_frames, self.pitch, self.magnitude = crop_frames, pitch, magnitude
        self.spectral = SpectralLoss(vocoder.sample_rate)
        self.num_examples = len(data)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        return self.crops(self.data, indices, rng)

    def crops(self, data: SpeechDataset, rows: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        """``audio`` (B, 1, T) with faint noise, and ``pitch`` (B, F)."""
        hop = self.model.vocoder.hop_length
        audio, pitch = torch.zeros(len(rows), 1, self.crop_frames * hop), torch.zeros(len(rows), self.crop_frames)
        for row, index in enumerate(rows):
            clip = data.clip(int(index))
            first = int(rng.integers(max(len(clip) // hop - self.crop_frames, 0) + 1))
            part = clip[first * hop:(first + self.crop_frames) * hop]
            audio[row, 0, :len(part)] = part
            frames = len(part) // hop
            times = (first + torch.arange(frames, dtype=torch.float64) + 0.5) * hop / data.sample_rate
            pitch[row, :frames] = pitch_at(data.fields[index]["pitch"], times)
        level = FAINT * torch.from_numpy(rng.random((len(rows), 1, 1))).float()
        return {"audio": audio + level * torch.from_numpy(rng.standard_normal(audio.shape)).float(), "pitch": pitch}

    def loss(self, model: nn.Module, batch: dict[str, Any], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        audio, pitch = batch["audio"], batch["pitch"]
        made, heard = model(self.model.vocoder.mel(audio[:, 0]), pitch)
        terms = self.spectral.to(audio.device)(made, audio)
        error = (heard - pitch).abs().mean() / REFERENCE_HZ
        return terms["mel"] + self.magnitude * terms["magnitude"] + self.pitch * error, {**terms, "pitch": error}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Errors on the first held-apart clips, with the true pitch."""
        if self.validation is None:
            return {}
        batch = self.crops(self.validation, np.arange(min(32, len(self.validation))), np.random.default_rng(0))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            device = model.vocoder.device
            _, metrics = self.loss(model, {name: value.to(device) for name, value in batch.items()}, 0)
        return {f"validation_{name}": float(value) for name, value in metrics.items()}

    def export(self, model: nn.Module, folder: Path) -> None:
        model.vocoder.save_pretrained(folder)
