"""Training of speech enhancers on mixtures that are made on the fly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from photophone.codecs.stream_codec.model import StreamCodec
from photophone.core.pictures import grid, spectrogram
from photophone.core.tokens import Tokens
from photophone.data.mixing import MixingConfig, NoisyMixer
from photophone.data.speech import SpeechDataset
from photophone.evaluation.metrics.audio import si_sdr
from photophone.generators.enhancement import LEVEL
from photophone.generators.enhancer.band_filter import BandFilter
from photophone.training.loop.task import Task
from photophone.training.losses.audio import stft
from photophone.training.losses.speech_features import WhisperFeatures, feature_distance

SMALLEST = 1e-4
"""Magnitudes under it count as silence, where the noisy recording is at LEVEL."""
VALIDATION_MIXES = 24


@dataclass
class EnhancerWeights:
    """Weights of the loss terms.

    Args:
        magnitude: error of the compressed magnitudes.
        complex: error of the compressed complex spectra.
        missing: further weight on magnitudes that are too small, since lost speech is worse than kept noise.
        tokens: error of the normalised clean tokens.
        words: distance of a speech recogniser's hidden states, where the task has one.
        compression: power of the magnitudes.
        polish_db: the clean recordings' own hiss is lowered by up to this in the targets; 0 keeps it.
    """

    magnitude: float = 7.0
    complex: float = 3.0
    missing: float = 2.0
    tokens: float = 0.03
    words: float = 0.03
    compression: float = 0.3
    polish_db: float = 12.0


class CompressedLoss(nn.Module):
    """Distances of waveforms (B, 1, T) by compressed spectra at several resolutions (arXiv 2003.00594's loss).

    Args:
        compression: power of the magnitudes.
        windows: window lengths in samples; hops are half of them.
    """

    def __init__(self, compression: float = 0.3, windows: tuple[int, ...] = (256, 512, 1024)) -> None:
        super().__init__()
        self.compression, self.windows = compression, windows
        for length in windows:
            self.register_buffer(f"window_{length}", torch.hann_window(length), persistent=False)

    def forward(self, made: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Means over resolutions of squared differences: ``magnitude``, ``complex`` (of the spectra with compressed
        magnitude and their own phase), ``missing`` (of magnitudes, where ``made`` is the smaller)."""
        totals: dict[str, Tensor] = {}
        for length in self.windows:
            window = getattr(self, f"window_{length}")
            (x, a), (y, b) = (self._compressed(stft(audio, window, length // 2) / length**0.5)
                              for audio in (made, real))
            terms = {"magnitude": (a - b).square().mean(), "missing": (b - a).relu().square().mean(),
                     "complex": (x - y).abs().square().mean()}
            for name, value in terms.items():
                totals[name] = totals.get(name, 0) + value / len(self.windows)
        return totals

    def _compressed(self, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        magnitude = (spectrum.real.square() + spectrum.imag.square() + SMALLEST**2).sqrt()
        power = magnitude ** self.compression
        return spectrum * (power / magnitude), power


def polish(audio: Tensor, amount_db: float, n_fft: int = 512) -> Tensor:
    """Lower the steady hiss of recordings (B, 1, T) by up to ``amount_db``: Wiener gains over the level that each
    frequency stays under for a tenth of the time, smoothed over neighbours."""
    if amount_db <= 0:
        return audio
    window = torch.hann_window(n_fft, device=audio.device)
    spectrum = torch.stft(audio[:, 0], n_fft, n_fft // 4, window=window, pad_mode="constant", return_complex=True)
    power = spectrum.abs().square()  # (B, bins, F)
    floor = 12 * power.quantile(0.1, dim=-1, keepdim=True)  # of noise, 1.3 times the mean
    gain = (1 - floor / power.clamp(min=1e-12)).clamp(min=10 ** (-amount_db / 20))
    smooth = functional.avg_pool2d(gain[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    gain = torch.maximum(gain, smooth)  # smoothing alone weakens the edges of tones
    return torch.istft(spectrum * gain, n_fft, n_fft // 4, window=window, length=audio.shape[-1])[:, None]


def crops_of(lengths: Tensor, crop: int) -> np.ndarray:
    """Clip numbers, each as often as its length holds crops, and at least once."""
    counts = np.maximum(1, np.round(lengths.numpy() / crop)).astype(int)
    return np.repeat(np.arange(len(lengths)), counts)


class EnhancerTask(Task):
    """Clean speech and its tokens from mixtures.

    Args:
        model: the enhancer.
        codec: makes the clean tokens, with fixed weights; None for a model that has none.
        speech, noise: training material at the model's rate.
        validation: held-apart (speech, noise), or None.
        mixing: what happens to the mixtures.
        weights: of the loss terms.
        more_from: clips of ``speech`` from this number on are a further voice, of which there is much; they make up
            ``more_share`` of an epoch.
        more_share: 0 to below 1.
        features: frozen network of the loss term ``words``, or None.
    """

    def __init__(self, model: BandFilter, codec: StreamCodec | None, speech: SpeechDataset, noise: SpeechDataset,
                 validation: tuple[SpeechDataset, SpeechDataset] | None = None, mixing: MixingConfig | None = None,
                 weights: EnhancerWeights | None = None, more_from: int | None = None,
                 more_share: float = 0.25, features: WhisperFeatures | None = None) -> None:
        config = model.config
        if {codec.sample_rate if codec else config.sample_rate, speech.sample_rate} != {config.sample_rate}:
            raise ValueError(f"codec at {codec.sample_rate if codec else None} Hz, speech at {speech.sample_rate} Hz, "
                             f"model at {config.sample_rate} Hz; they must be the same")
        if codec and (codec.token_dim, codec.hop_length) != (config.token_dim, config.token_hop):
            raise ValueError(f"the codec makes tokens of {codec.token_dim} channels and {codec.hop_length} samples, "
                             f"the model predicts {config.token_dim} and {config.token_hop}")
        if not 0 <= more_share < 1:
            raise ValueError(f"more_share must lie in [0, 1), got {more_share}")
        self.model, self.codec = model, codec.eval().requires_grad_(False) if codec else None
        self.weights = weights or EnhancerWeights()
        self.features = features.eval().requires_grad_(False) if features else None
        self.mixer = NoisyMixer(speech, noise, mixing)
        self.validation = NoisyMixer(*validation, mixing) if validation else None
        self.measure = CompressedLoss(self.weights.compression)
        more_from = len(speech) if more_from is None else more_from
        own = crops_of(speech.lengths[:more_from], self.mixer.length)
        more = np.arange(more_from, len(speech))
        wanted = min(len(more), round(len(own) * more_share / (1 - more_share)))
        self.examples = np.concatenate([own, more[np.linspace(0, len(more) - 1, wanted).astype(int)]])
        self.num_examples = len(self.examples)

    def fit_statistics(self, count: int = 64) -> None:
        """Normalise tokens, where there are any, by those of ``count`` crops of clean speech."""
        if self.codec is None:
            return
        rng = np.random.default_rng(0)
        clips = self.examples[np.linspace(0, len(self.examples) - 1, count).astype(int)]
        crops = self.mixer.speech.crops(clips, self.mixer.length, rng)
        tokens = torch.cat([self.codec.encode(part).values for part in crops.split(8)])
        self.model.fit_statistics(Tokens(tokens))

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        noisy, clean = self.mixer.batch(self.examples[indices], rng)
        return {"noisy": noisy, "clean": clean}

    def loss(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        noisy, target = batch["noisy"], polish(batch["clean"], self.weights.polish_db)
        tokens = self.codec.to(noisy.device).encode(target) if self.codec else None
        output = model(noisy, target, tokens, criterion=self.criterion(noisy), weights=asdict(self.weights))
        return output.loss, output.metrics

    def criterion(self, noisy: Tensor) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
        """Errors of enhanced speech, at the level that brings each noisy recording (B, 1, T) to LEVEL."""
        scale = LEVEL / noisy.square().mean(dim=-1, keepdim=True).sqrt().clamp(min=1e-5)

        def errors(made: Tensor, clean: Tensor) -> dict[str, Tensor]:
            terms = self.measure.to(made.device)(made * scale, clean * scale)
            if self.features is not None:
                network = self.features.to(made.device)
                with torch.no_grad():
                    wanted = network(clean)
                terms["words"] = feature_distance(network(made), wanted)
            return terms

        return errors

    def pairs(self, count: int) -> list[tuple[Tensor, Tensor]]:
        """The first held-apart mixtures, always the same, each noisy and clean (1, 1, T)."""
        clips = np.linspace(0, len(self.validation.speech) - 1, count).astype(int)
        return [self.validation.batch(clips[i:i + 1], np.random.default_rng([7, i])) for i in range(count)]

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Means of the loss, of its terms and of the gain of SI-SDR in dB on held-apart mixtures."""
        if self.validation is None:
            return {}
        totals: dict[str, list[float]] = {}
        for noisy, clean in self.pairs(VALIDATION_MIXES):
            batch = {"noisy": noisy.to(model.device), "clean": clean.to(model.device)}
            loss, terms = self.loss(model, batch, step=0)  # no term changes with the step
            made = model.enhance(noisy).cpu()
            gain = (si_sdr(clean[0, 0].numpy(), made[0, 0].numpy()) - si_sdr(clean[0, 0].numpy(), noisy[0, 0].numpy()))
            for name, value in {"loss": loss, **terms, "si_sdr_gain": gain}.items():
                if math.isfinite(value):  # a mixture without noise has no gain
                    totals.setdefault(f"validation_{name}", []).append(float(value))
        return {name: float(np.mean(values)) for name, values in totals.items()}

    def preview(self, model: nn.Module) -> Image.Image | None:
        """Spectrograms of held-apart mixtures: noisy, enhanced, clean."""
        if self.validation is None:
            return None
        rate, pictures = model.sample_rate, []
        for noisy, clean in self.pairs(4):
            made = model.enhance(noisy).cpu()
            pictures += [spectrogram(wave[0, 0], rate, size=(320, 160)) for wave in (noisy, made, clean)]
        return grid(pictures, columns=3)

    def export(self, model: nn.Module, folder: Path) -> None:
        model.save_pretrained(folder)
