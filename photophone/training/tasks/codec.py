"""Training of audio codecs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from photophone.codecs.base import AudioCodec
from photophone.core.pictures import grid, spectrogram
from photophone.core.token_model import Reconstruction
from photophone.data.speech import SpeechDataset
from photophone.training.loop.task import Task
from photophone.training.losses.adversary import Adversary, SpectralDiscriminator
from photophone.training.losses.audio import SpectralLoss


@dataclass
class CodecWeights:
    """Weights of the loss terms, and the crops.

    Args:
        mel, magnitude: see :class:`photophone.training.losses.audio.SpectralLoss`.
        quantizer: the bottleneck's own loss.
        adversarial, features: of the discriminators; both 0 trains without them.
        crop_seconds: length of the training crops.
        noise: deviation of the faint noise that is added, because synthetic voices pause in digital silence.
        gain_db: crops are made louder or softer by up to this.
    """

    mel: float = 1.0
    magnitude: float = 0.5
    quantizer: float = 1.0
    adversarial: float = 0.0
    features: float = 0.0
    crop_seconds: float = 0.8
    noise: float = 3e-4
    gain_db: float = 6.0


class CodecInTraining(nn.Module):
    """The codec and its discriminators: what the loop optimises, saves and averages."""

    def __init__(self, codec: AudioCodec, adversary: Adversary | None) -> None:
        super().__init__()
        self.codec, self.adversary = codec, adversary

    def forward(self, audio: Tensor) -> Reconstruction:
        """See the codec's own forward."""
        return self.codec(audio)


class CodecTask(Task):
    """Reconstruction of crops of audio through their tokens.

    Args:
        codec: one that ``trains`` and makes audio at the rate that it reads.
        data: training speech.
        validation: held-apart speech, or None.
        weights: of the loss terms.
        freeze_encoder: train the decoder alone, for tokens that a generator already depends on.

    Raises:
        ValueError: a codec that cannot be trained here, or data at another rate.
    """

    def __init__(self, codec: AudioCodec, data: SpeechDataset, validation: SpeechDataset | None = None,
                 weights: CodecWeights | None = None, freeze_encoder: bool = False) -> None:
        if not codec.trains or codec.output_sample_rate != codec.sample_rate:
            raise ValueError(f"{type(codec).__name__} cannot be trained here: it must have a training pass and make "
                             f"audio at the {codec.sample_rate} Hz that it reads")
        for part in filter(None, (data, validation)):
            if part.sample_rate != codec.sample_rate:
                raise ValueError(f"the data is at {part.sample_rate} Hz, the codec at {codec.sample_rate} Hz; prepare "
                                 f"the data with --sample-rate {codec.sample_rate}")
        self.weights = weights or CodecWeights()
        adversary = None
        if self.weights.adversarial or self.weights.features:
            adversary = Adversary([SpectralDiscriminator(window) for window in (256, 512, 1024)])
        self.model = CodecInTraining(codec, adversary)
        self.data, self.validation = data, validation
        self.num_examples = len(data)
        self.spectral = SpectralLoss(codec.sample_rate)
        hop = codec.hop_length
        self.crop = max(1, round(self.weights.crop_seconds * codec.sample_rate / hop)) * hop
        self.codec, self.adversary = codec, adversary
        if freeze_encoder:
            codec.freeze_encoder()

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        audio = self.data.crops(indices, self.crop, rng)
        gain = 10 ** (torch.from_numpy(rng.uniform(-1, 1, (len(audio), 1, 1))).float() * self.weights.gain_db / 20)
        peak = audio.abs().amax(dim=-1, keepdim=True).clamp(min=1e-3)
        audio = audio * torch.minimum(gain, 0.99 / peak)
        level = self.weights.noise * torch.from_numpy(rng.random((len(audio), 1, 1))).float()
        return {"audio": audio + level * torch.from_numpy(rng.standard_normal(audio.shape)).float()}

    def loss(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        audio, weights = batch["audio"], self.weights
        output = model(audio)
        made, metrics = output.media, output.metrics
        audio = self.codec.as_read(audio)
        compared = slice(self.codec.fade_in, made.shape[-1])  # codecs may lose the end of a clip
        made, audio = made[..., compared], audio[..., compared]
        terms = self.spectral.to(audio.device)(made, audio)
        loss = weights.mel * terms["mel"] + weights.magnitude * terms["magnitude"] + weights.quantizer * output.loss
        metrics = {**metrics, **terms}
        if self.adversary is not None:
            game = self.adversary(made, audio)
            loss = loss + (game["discriminator"] + weights.adversarial * game["adversarial"]
                           + weights.features * game["features"])
            metrics |= game
        return loss, metrics

    def clips(self, count: int) -> list[Tensor]:
        """The first held-apart clips, at most 4 seconds each, (1, 1, T)."""
        limit = 4 * self.data.sample_rate
        return [self.validation.clip(i)[None, None, :limit] for i in range(min(count, len(self.validation)))]

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Spectral distances of the whole path, encode and decode, on held-apart clips."""
        if self.validation is None:
            return {}
        totals: dict[str, list[float]] = {}
        for audio in self.clips(32):
            made = model.codec.decode(model.codec.encode(audio)).cpu()[..., :audio.shape[-1]]
            heard = model.codec.as_read(audio)[..., :made.shape[-1]]  # codecs may lose the end of a clip
            for name, value in self.spectral.cpu()(made, heard).items():
                totals.setdefault(f"validation_{name}", []).append(float(value))
        return {name: float(np.mean(values)) for name, values in totals.items()}

    def preview(self, model: nn.Module) -> Image.Image | None:
        """Spectrograms of held-apart clips, each above its reconstruction."""
        if self.validation is None:
            return None
        rate = model.codec.sample_rate
        pictures = []
        for audio in self.clips(4):
            made = model.codec.decode(model.codec.encode(audio)).cpu()
            pictures += [spectrogram(wave[0, 0], rate, size=(640, 160)) for wave in (audio, made)]
        return grid(pictures, columns=1)

    def export(self, model: nn.Module, folder: Path) -> None:
        model.codec.save_pretrained(folder)
