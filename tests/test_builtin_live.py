"""The live enhancer that ships in the package: what it does to speech, to noise, at any level, and in chunks."""

import time

import numpy as np
import pytest
import torch
from speech import write_speech

from photophone import SpeechEnhancementPipeline
from photophone.data.mixing import coloured_noise, power, scale_to_snr
from photophone.data.speech import SpeechDataset
from photophone.evaluation.metrics.audio import si_sdr
from photophone.generators.enhancer.live import LiveEnhancer
from photophone.loading.registry import PRETRAINED, find

NAME, RATE = "photophone/tiny-enhance-live", 16000


@pytest.fixture(scope="module")
def pipeline():
    return SpeechEnhancementPipeline.from_pretrained(NAME)


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory):
    """Clips float32 (T,) of a voice that no mixture of the training holds, and the same in noise at 5 dB."""
    data = SpeechDataset(write_speech(tmp_path_factory.mktemp("speech") / "voice.safetensors"))
    pairs = []
    for index in range(4):
        clean = data.clip(index).numpy()
        noise = coloured_noise(len(clean), -0.5, np.random.default_rng(index))
        pairs.append((clean, clean + scale_to_snr(clean, noise, 5.0, RATE)))
    return pairs


def test_the_weights_fit_the_wheel_and_are_16_bit(pipeline):
    files = list((PRETRAINED / "tiny-enhance-live").rglob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) <= 6_000_000
    half = SpeechEnhancementPipeline.from_pretrained(NAME, dtype=torch.float16).enhancer.state_dict()
    for key, weight in pipeline.enhancer.state_dict().items():
        assert torch.equal(weight, half[key].float()), f"{key} is not stored in 16 bits"
    assert isinstance(pipeline.enhancer, LiveEnhancer) and pipeline.enhancer.delay == 512
    assert pipeline.weights_licence.startswith("Apache-2.0") and pipeline.source["revision"] == "1.1"
    assert sum(weight.numel() for weight in pipeline.enhancer.parameters()) == find("live-enhancer").parameters


def test_noise_goes_and_speech_stays_at_any_level(pipeline, mixtures):
    """Said three times, of which the last is measured: a quiet recording is found out in its first seconds."""
    for level in (0.03, 0.3, 3.0):
        gains, kept = [], []
        for clean, noisy in mixtures:
            (made,) = pipeline(level * np.tile(noisy, 3), RATE).audio
            last = made[-len(noisy):]
            gains.append(si_sdr(clean, last) - si_sdr(clean, noisy))
            kept.append(10 * np.log10(power(last) / power(level * clean)))
        assert np.mean(gains) > 3 and min(gains) > 0, level
        assert max(map(abs, kept)) < 3, level


def test_clean_speech_loses_little_and_noise_alone_is_lowered(pipeline, mixtures):
    for clean, _ in mixtures:
        assert si_sdr(clean, pipeline(clean, RATE).audio[0]) > 9
    noise = 0.05 * coloured_noise(4 * RATE, -0.5, np.random.default_rng(0))
    (made,) = pipeline(noise, RATE).audio
    assert 10 * np.log10(power(made) / power(noise)) < -10


def test_random_chunks_give_the_whole(pipeline, mixtures):
    noisy, rng, place, parts = mixtures[0][1], np.random.default_rng(0), 0, []
    while place < len(noisy):
        size = int(rng.choice([0, 1, 160, 256, rng.integers(4000)]))
        parts.append(noisy[place:place + size])
        place += size
    made = np.concatenate(list(pipeline.stream(parts, RATE)))
    assert np.abs(made - pipeline(noisy, RATE).audio[0]).max() <= 1e-5


def test_it_keeps_up_with_a_microphone(pipeline, mixtures):
    noisy = np.concatenate([noisy for _, noisy in mixtures])
    live, began = pipeline.live(RATE), time.process_time()
    for place in range(0, len(noisy), 320):  # chunks of 20 ms
        live.push(noisy[None, place:place + 320])
    assert time.process_time() - began < len(noisy) / RATE
