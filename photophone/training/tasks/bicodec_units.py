"""Training of the codes of BiCodec, its first stage here: frames alone, no waveforms.

The authors take their features from a published wav2vec2 and train the codec on thousands of hours, all parts at once
(arXiv 2503.01710). A small chain has neither, so its wav2vec2 learns phonemes and mel frames of aligned speech, and
encoder, codebook and the nets behind it learn to keep them. The second stage is
:class:`photophone.training.tasks.codec.CodecTask` with ``freeze_encoder``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.codecs.bicodec.model import BiCodec
from photophone.data.speech import SpeechDataset
from photophone.text.phonemes import PAUSE, SYMBOLS
from photophone.training.loop.task import Task

LEADING, SILENT = "ˈˌ ", ",.;:!?—…\"()“”"
"""Symbols whose time belongs to the sound behind them, and those that are pauses."""
FLOOR = 1e-3
"""Of mel frames before their logarithm."""
USUAL = -5.0
"""Of those logarithms, about their mean."""


@dataclass
class UnitWeights:
    """Weights of the loss terms, and what is trained when.

    Args:
        phonemes, mel: cross-entropy of phonemes, and mean absolute error of log-mel frames, both of features and of
            what is made of the codes.
        features: mean squared error of the features that are made of the codes, in units of their variance.
        quantizer: the bottleneck's own loss.
        feature_steps: wav2vec2 learns for so many steps.
        quantize_from: steps before the codebook takes part; it is filled with latents then.
        revive_every: steps after which codes without use are filled again.
        crop_seconds: length of the training crops.
        noise: deviation of the faint noise that is added.
    """

    phonemes: float = 1.0
    mel: float = 1.0
    features: float = 1.0
    quantizer: float = 1.0
    feature_steps: int = 1000
    quantize_from: int = 200
    revive_every: int = 50
    crop_seconds: float = 2.0
    noise: float = 3e-4


def sound_of(phonemes: str) -> str:
    """Which sound each symbol of a phoneme string belongs to: one character for each."""
    sounds, following = [], PAUSE
    for symbol in reversed(phonemes):
        if symbol not in LEADING:
            following = PAUSE if symbol in SILENT else symbol
        sounds.append(following)
    return "".join(reversed(sounds))


class UnitsInTraining(nn.Module):
    """BiCodec, and the linear heads that its features and codes are judged by."""

    def __init__(self, codec: BiCodec) -> None:
        super().__init__()
        self.codec = codec
        config = codec.config
        read, made, bands = config.semantic["in_channels"], config.prenet_config["out_channels"], config.mel["num_mels"]
        self.phonemes_read, self.mel_read = nn.Linear(read, len(SYMBOLS)), nn.Linear(read, bands)
        self.phonemes_made, self.mel_made = (nn.Linear(config.semantic["out_channels"], len(SYMBOLS)),
                                             nn.Linear(made, bands))
        for head in (self.mel_read, self.mel_made):
            nn.init.constant_(head.bias, USUAL)

    def forward(self, audio: Tensor, learn_features: bool) -> dict[str, Tensor]:
        """Features, what is made of their codes, and the judgements of both.

        Args:
            audio: (B, T) at the model's volume.
            learn_features: give wav2vec2 gradients.
        """
        codec = self.codec
        with torch.set_grad_enabled(learn_features and torch.is_grad_enabled()):
            features = codec.semantic_features(audio)
        rows, fixed = features.transpose(1, 2), features.detach()
        output = codec.bottleneck(codec.latents(fixed))
        mels = codec.mel_spectrogram(codec.reference(audio)).to(codec.dtype)
        voice = codec.speaker_encoder
        vector = voice.voice(voice.quantizer(voice.latents(mels)).values)
        frames = codec.prenet(output.values.transpose(1, 2), vector) + vector[:, :, None]
        if self.training and output.indices is not None:
            codec.update_usage(output.indices)
        return {"features": fixed, "phonemes_read": self.phonemes_read(rows), "mel_read": self.mel_read(rows),
                "phonemes_made": self.phonemes_made(output.values), "mel_made": self.mel_made(frames.transpose(1, 2)),
                "features_made": codec.postnet(frames), "quantizer": output.loss, **output.metrics}


class BiCodecUnitsTask(Task):
    """Features of aligned speech that say its phonemes, and codes that keep them.

    Args:
        codec: with a wav2vec2.
        data: training speech with ``phonemes`` and ``seconds_per_phoneme``.
        validation: held-apart speech, or None.
        weights: fields of :class:`UnitWeights`.

    Raises:
        TypeError: an unknown field.
        ValueError: a codec that reads no features, or data at another rate or that is not aligned.
    """

    def __init__(self, codec: BiCodec, data: SpeechDataset, validation: SpeechDataset | None = None,
                 **weights: float) -> None:
        if codec.wav2vec2 is None:
            raise ValueError("codes are learned from features; give model.features, the config of a wav2vec2")
        for part in filter(None, (data, validation)):
            if part.sample_rate != codec.sample_rate:
                raise ValueError(f"the data is at {part.sample_rate} Hz, the codec at {codec.sample_rate} Hz")
            if any("seconds_per_phoneme" not in fields for fields in part.fields):
                raise ValueError("all clips need phonemes and seconds_per_phoneme; see scripts/prepare_speech.py")
        self.codec, self.data, self.validation, self.weights = codec, data, validation, UnitWeights(**weights)
        codec.wav2vec2.requires_grad_(True)
        codec.decoder.requires_grad_(False)
        self.model = UnitsInTraining(codec)
        self.num_examples = len(data)
        self.crop = round(self.weights.crop_seconds * codec.sample_rate)

    def labels(self, data: SpeechDataset, index: int, start: int, count: int) -> Tensor:
        """Phonemes Long (count,) at the middles of the feature frames of a part of a clip; pauses around it."""
        fields, rate, field = data.fields[index], self.codec.sample_rate, self.codec.frame_samples
        ends = np.cumsum(fields["seconds_per_phoneme"])
        middles = (start + field / 2 + self.codec.hop_length * np.arange(count)) / rate
        places = np.searchsorted(ends, middles, side="right")
        sounds = sound_of(fields["phonemes"]) + PAUSE
        ids = [SYMBOLS.index(sounds[min(place, len(sounds) - 1)] if middle >= 0 else PAUSE)
               for place, middle in zip(places, middles)]
        return torch.tensor(ids)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        return self.crops(self.data, indices, rng)

    def crops(self, data: SpeechDataset, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        """Parts of clips at the codec's volume, with their phonemes; shorter clips get silence around them."""
        frames = int(self.codec.token_lengths(torch.tensor([self.crop]))[0]) - self.codec.num_voice_tokens
        audio = self.weights.noise * torch.from_numpy(rng.standard_normal((len(indices), self.crop))).float()
        labels = torch.zeros(len(indices), frames, dtype=torch.long)
        for row, index in enumerate(indices):
            clip = data.clip(index)
            start = int(rng.integers(min(0, len(clip) - self.crop), max(0, len(clip) - self.crop) + 1))
            part = clip[max(start, 0):start + self.crop]
            audio[row, max(-start, 0):max(-start, 0) + len(part)] += part
            labels[row] = self.labels(data, int(index), start, frames)
        return {"audio": self.codec.level(audio), "phonemes": labels}

    def loss(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        weights, codec, labels = self.weights, self.codec, batch["phonemes"]
        codec.bottleneck.bypassed = step < weights.quantize_from
        since = step - weights.quantize_from
        if since >= 0 and since % weights.revive_every == 0:
            self.revive(batch["audio"], since == 0)
        made = model(batch["audio"], step < weights.feature_steps)
        mels = self.mels_at_frames(batch["audio"], labels.shape[1])
        terms = {}
        for name in ("read", "made"):
            logits = made[f"phonemes_{name}"].float()
            terms[f"phonemes_{name}"] = functional.cross_entropy(logits.transpose(1, 2), labels)
            terms[f"mel_{name}"] = (made[f"mel_{name}"].float() - mels).abs().mean()
            terms[f"right_{name}"] = (logits.argmax(-1) == labels).float().mean()
        features = made["features"].float()
        error = functional.mse_loss(made["features_made"].float(), features) / features.var()
        loss = weights.features * error + weights.quantizer * made["quantizer"] + sum(
            weights.phonemes * terms[f"phonemes_{name}"] + weights.mel * terms[f"mel_{name}"]
            for name in ("read", "made"))
        more = {name: made[name] for name in ("quantizer", "perplexity", "used_share") if name in made}
        return loss, {**terms, "features": error, **more}

    def mels_at_frames(self, audio: Tensor, count: int) -> Tensor:
        """Log-mel frames (B, count, num_mels) nearest to the middles of the feature frames."""
        codec = self.codec
        mels = codec.mel_spectrogram(audio).clamp(min=FLOOR).log().transpose(1, 2)
        middles = codec.frame_samples / 2 + codec.hop_length * torch.arange(count, device=audio.device)
        places = (middles / codec.config.mel["hop_length"]).round().long()
        return mels[:, places.clamp(max=mels.shape[1] - 1)]

    @torch.no_grad()
    def revive(self, audio: Tensor, all_codes: bool) -> None:
        """Put codes that are used less than the codec's ``dead_below``, or all, where latents of a batch are."""
        codec = self.codec
        (stage,), (project,) = codec.bottleneck.stages, codec.bottleneck.project_in
        with torch.autocast(audio.device.type, enabled=False):
            latents = project(codec.latents(codec.semantic_features(audio)).float()).flatten(0, 1)
        dead = codec.cluster_size < codec.config.dead_below
        dead |= all_codes
        places = torch.randperm(len(latents), device=latents.device)[:int(dead.sum())]
        dead[dead.nonzero()[len(places):]] = False
        stage.codebook[dead] = latents[places]
        codec.cluster_size[dead] = 1.0

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Losses on fixed crops of held-apart clips."""
        if self.validation is None:
            return {}
        batch = self.crops(self.validation, np.arange(min(32, len(self.validation))), np.random.default_rng(0))
        _, metrics = self.loss(model, batch, max(self.weights.quantize_from + 1, self.weights.feature_steps))
        return {f"validation_{name}": float(value) for name, value in metrics.items()}

    def export(self, model: nn.Module, folder: Path) -> None:
        model.codec.save_pretrained(folder)
