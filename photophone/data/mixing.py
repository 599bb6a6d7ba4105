"""Noisy speech made on the fly: pairs of noisy and clean from speech and noises, repeatable from one generator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from photophone.data.degrade import CODECS, band_limit, clip_peaks, codec_artefacts, level_curve
from photophone.data.rooms import random_room
from photophone.data.speech import SpeechDataset

FRAME_SECONDS = 0.02
ACTIVE_RANGE_DB = 35.0
"""Frames of speech count as active down to so much under the loudest."""
PEAK = 0.99


def power(audio: np.ndarray, sample_rate: int | None = None) -> float:
    """Mean square of audio (T,); with a ``sample_rate`` only of its active frames of 20 ms, those within
    ``ACTIVE_RANGE_DB`` of the loudest."""
    audio = np.asarray(audio, np.float64)
    if sample_rate is None:
        return float(np.mean(audio**2))
    size = max(1, round(FRAME_SECONDS * sample_rate))
    padded = np.pad(audio, (0, -len(audio) % size)).reshape(-1, size)
    valid = np.full(len(padded), size)
    valid[-1] -= -len(audio) % size
    energy = (padded**2).sum(axis=1)
    level = energy / valid
    active = level >= level.max() * 10 ** (-ACTIVE_RANGE_DB / 10)
    return float(energy[active].sum() / valid[active].sum())


def scale_to_snr(speech: np.ndarray, noise: np.ndarray, snr_db: float, sample_rate: int | None = None) -> np.ndarray:
    """``noise`` (T,) as loud as makes ``10 log10(power(speech) / power(noise))`` equal to ``snr_db``.

    Args:
        sample_rate: count active speech only, see :func:`power`; the noise counts as a whole. None counts all.

    Raises:
        ValueError: the speech is silent; a silent noise is given back as it is.
    """
    speech_power = power(speech, sample_rate)
    noise_power = power(noise)
    if not speech_power:
        raise ValueError("the speech is silent, a signal-to-noise ratio means nothing")
    if not noise_power:
        return noise
    return (noise * math.sqrt(speech_power / noise_power * 10 ** (-snr_db / 10))).astype(noise.dtype)


def convolve(audio: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Audio (T,) through an impulse response, cut to the same length."""
    size = 1 << (len(audio) + len(response) - 2).bit_length()
    made = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(response, size), size)
    return made[:len(audio)].astype(np.float32)


@dataclass
class MixingConfig:
    """How often what happens, and how much.

    Args:
        seconds: length of the mixtures.
        snr_db: range of the signal-to-noise ratio of active speech.
        noises: probabilities of no noise, of one, of two and so on.
        babble: probability that a noise is several other speakers.
        babble_speakers: range of how many.
        white: probability that a noise is stationary, of random colour.
        reverb: probability of a room; the clean speech keeps its first 50 ms.
        noise_reverb: probability that the noise is in a room, too.
        band_limit, clip, codec, level: probabilities of these on the noisy side. A limited band stays limited on the
            clean side, and changes of level stay.
        rms_db: range of the mixture's level in dB under full scale.
        rooms: impulse responses to draw from; they are made once.
    """

    seconds: float = 2.5
    snr_db: tuple[float, float] = (-5.0, 20.0)
    noises: tuple[float, ...] = (0.04, 0.71, 0.25)
    babble: float = 0.12
    babble_speakers: tuple[int, int] = (3, 7)
    white: float = 0.1
    reverb: float = 0.3
    noise_reverb: float = 0.3
    band_limit: float = 0.1
    clip: float = 0.04
    codec: float = 0.06
    level: float = 0.15
    rms_db: tuple[float, float] = (-38.0, -16.0)
    rooms: int = 200

    def __post_init__(self) -> None:
        self.snr_db = tuple(self.snr_db)
        self.noises = tuple(self.noises)
        self.rms_db = tuple(self.rms_db)
        if abs(sum(self.noises) - 1) > 1e-6:
            raise ValueError(f"the probabilities of numbers of noises must add up to 1, got {self.noises}")


class NoisyMixer:
    """Makes pairs of noisy and clean speech.

    Args:
        speech: prepared speech; the fields' ``speaker`` keeps a speaker out of his own babble.
        noise: prepared noises of the same rate.
        config: what happens.
        seed: of the rooms.
    """

    def __init__(self, speech: SpeechDataset, noise: SpeechDataset, config: MixingConfig | None = None,
                 seed: int = 0) -> None:
        if speech.sample_rate != noise.sample_rate:
            raise ValueError(f"speech at {speech.sample_rate} Hz, noise at {noise.sample_rate} Hz; prepare them at one "
                             "rate")
        self.speech = speech
        self.noise = noise
        self.config = config or MixingConfig()
        self.sample_rate = speech.sample_rate
        self.length = round(self.config.seconds * self.sample_rate)
        rng = np.random.default_rng([seed, 1])
        self.rooms = [random_room(rng, self.sample_rate) for _ in range(self.config.rooms)]
        self.speakers = np.array([fields.get("speaker", "") for fields in speech.fields])
        lengths = noise.lengths.numpy().astype(float)
        self.noise_share = np.sqrt(lengths) / np.sqrt(lengths).sum()  # long recordings hold more, short ones vary more

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Noisy and clean float (B, 1, T) for the speech clips ``indices``; all draws are from ``rng``."""
        pairs = [self.pair(int(index), rng) for index in indices]
        noisy = np.stack([noisy for noisy, _ in pairs])
        clean = np.stack([clean for _, clean in pairs])
        return torch.from_numpy(noisy)[:, None], torch.from_numpy(clean)[:, None]  # (B, T) -> (B, 1, T)

    def pair(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Noisy and clean float32 (T,) for one clip."""
        config = self.config
        speech = self.speech.crops(np.array([index]), self.length, rng)[0, 0].numpy()
        if not power(speech):
            speech = speech + 1e-4 * rng.standard_normal(len(speech)).astype(np.float32)
        clean = speech
        if rng.random() < config.reverb:
            response, early = self.rooms[rng.integers(len(self.rooms))]
            clean = convolve(speech, early)  # the target keeps the early echoes, which help to understand
            speech = convolve(speech, response)
        if rng.random() < config.level:
            curve = level_curve(self.length, self.sample_rate, 15.0, rng)
            speech = speech * curve
            clean = clean * curve
        noisy = speech
        count = int(rng.choice(len(config.noises), p=config.noises))
        if count:
            parts = [self.draw_noise(index, rng) * 10 ** (-rng.uniform(0, 8) / 20) for _ in range(count)]
            noisy = speech + scale_to_snr(speech, sum(parts), rng.uniform(*config.snr_db), self.sample_rate)
        noisy, clean = self.damage(noisy, clean, rng)
        gain = 10 ** (rng.uniform(*config.rms_db) / 20) / math.sqrt(max(power(noisy), 1e-12))
        gain = min(gain, PEAK / max(1e-9, float(np.abs(noisy).max()), float(np.abs(clean).max())))
        return (noisy * gain).astype(np.float32), (clean * gain).astype(np.float32)

    def draw_noise(self, speaking: int, rng: np.random.Generator) -> np.ndarray:
        """A noise float32 (T,) of power 1: recorded, babble without the speaker of clip ``speaking``, or coloured."""
        kind = rng.random()
        if kind < self.config.babble:
            noise = self.draw_babble(speaking, rng)
        elif kind < self.config.babble + self.config.white:
            noise = coloured_noise(self.length, rng.uniform(-1, 0.2), rng)
        else:
            choice = rng.choice(len(self.noise), p=self.noise_share)
            noise = self.looped(self.noise.clip(int(choice)).numpy(), rng)
        if rng.random() < self.config.noise_reverb:
            noise = convolve(noise, self.rooms[rng.integers(len(self.rooms))][0])
        return noise / math.sqrt(max(power(noise), 1e-12))

    def draw_babble(self, speaking: int, rng: np.random.Generator) -> np.ndarray:
        """Several others at once, float32 (T,)."""
        others = np.flatnonzero(self.speakers != self.speakers[speaking])
        others = others if len(others) else np.delete(np.arange(len(self.speech)), speaking)
        chosen = rng.choice(others, size=int(rng.integers(self.config.babble_speakers[0],
                                                          self.config.babble_speakers[1] + 1)))
        voices = self.speech.crops(chosen, self.length, rng)[:, 0].numpy()
        return sum(voice / math.sqrt(max(power(voice, self.sample_rate), 1e-12)) for voice in voices)

    def looped(self, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A random part of a noise, repeated where it is too short, float32 (T,)."""
        start = int(rng.integers(len(noise)))
        if len(noise) >= 2 * self.length:
            start = int(rng.integers(len(noise) - self.length + 1))
        return np.take(noise, np.arange(start, start + self.length), mode="wrap")

    def damage(self, noisy: np.ndarray, clean: np.ndarray,
               rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Band limits (on both), clipping and codecs (on the noisy side), each with its probability."""
        config = self.config
        rate = self.sample_rate
        if rng.random() < config.band_limit:
            low = rng.uniform(30, 300)
            high = rng.uniform(0.2, 0.48) * rate
            noisy = band_limit(noisy, rate, low, high)
            clean = band_limit(clean, rate, low, high)
        if rng.random() < config.clip:
            noisy = clip_peaks(noisy, 10 ** rng.uniform(-3.5, -1.5))
        if rng.random() < config.codec:
            peak = float(np.abs(noisy).max())
            scale = rng.uniform(0.3, 0.95) / peak if peak else 1.0
            noisy = codec_artefacts(noisy * scale, rate, CODECS[rng.integers(len(CODECS))]) / scale
        return noisy, clean


def coloured_noise(length: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise float32 (length,) whose amplitude goes with frequency to the power ``slope``: 0 white, -0.5 pink,
    -1 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency = np.maximum(np.arange(len(spectrum)), 1 + len(spectrum) // 200)  # level below half a per cent
    return np.fft.irfft(spectrum * (frequency / len(spectrum)) ** slope, length).astype(np.float32)
