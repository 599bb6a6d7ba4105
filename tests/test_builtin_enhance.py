"""The enhancer that ships in the package: what it does to speech, to noise, to silence, and to an hour."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from speech import write_speech

from photophone import SpeechEnhancementPipeline
from photophone.data.mixing import coloured_noise, power, scale_to_snr
from photophone.data.speech import SpeechDataset
from photophone.evaluation.metrics.audio import si_sdr
from photophone.loading.registry import PRETRAINED

NAME, RATE = "photophone/tiny-enhance", 16000
HOUR = """
import sys
import numpy as np
from photophone import SpeechEnhancementPipeline
from photophone.data.audio_stream import AudioReader
from photophone.data.audio_write import write_pieces

def peak():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

def seconds(count):
    for seed in range(count):
        yield 0.1 * np.random.default_rng(seed % 7).standard_normal((1, 16000)).astype(np.float32)

folder = sys.argv[1]
pipeline = SpeechEnhancementPipeline.from_pretrained("photophone/tiny-enhance")
peaks = []
for count in (60, 3600):
    write_pieces(f"{folder}/{count}.flac", seconds(count), 16000, 1)
    pipeline.enhance_file(f"{folder}/{count}.flac", f"{folder}/clean-{count}.flac")
    assert AudioReader(f"{folder}/clean-{count}.flac").told_frames == count * 16000
    peaks.append(peak())
print(peaks[1] - peaks[0])
"""


@pytest.fixture(scope="module")
def pipeline():
    return SpeechEnhancementPipeline.from_pretrained(NAME)


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    """Clips float32 (T,) of a voice that no mixture of the training holds."""
    data = SpeechDataset(write_speech(tmp_path_factory.mktemp("speech") / "voice.safetensors"))
    return [data.clip(index).numpy() for index in range(len(data))]


def test_the_weights_fit_the_wheel_and_are_16_bit(pipeline):
    files = list((PRETRAINED / "tiny-enhance").rglob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) <= 12_000_000
    half = SpeechEnhancementPipeline.from_pretrained(NAME, dtype=torch.float16).enhancer.state_dict()
    for key, weight in pipeline.enhancer.state_dict().items():
        assert torch.equal(weight, half[key].float()), f"{key} is not stored in 16 bits"
    assert pipeline.weights_licence.startswith("Apache-2.0") and pipeline.source["revision"] == "3.0"


@pytest.mark.parametrize("snr", [0.0, 5.0])
def test_noise_goes_and_speech_stays(pipeline, voice, snr):
    gains, levels = [], []
    for seed, clean in enumerate(voice):
        noise = coloured_noise(len(clean), -0.5, np.random.default_rng(seed))
        noisy = clean + scale_to_snr(clean, noise, snr, RATE)
        (made,) = pipeline(noisy, sampling_rate=RATE).audio
        gains.append(si_sdr(clean, made) - si_sdr(clean, noisy))
        levels.append(10 * np.log10(power(made) / power(clean)))
    assert np.mean(gains) > 4 and min(gains) > 0
    assert max(map(abs, levels)) < 3


def test_clean_speech_loses_little(pipeline, voice):
    for clean in voice:
        (made,) = pipeline(clean, sampling_rate=RATE).audio
        assert si_sdr(clean, made) > 10


def test_noise_alone_is_lowered(pipeline):
    noise = 0.05 * coloured_noise(4 * RATE, -0.5, np.random.default_rng(0))
    (made,) = pipeline(noise, sampling_rate=RATE).audio
    assert 10 * np.log10(power(made) / power(noise)) < -10


def test_the_samples_hold_before_after_and_a_picture(tmp_path):
    runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "make_samples.py"))["make_clean"](tmp_path)
    (before, rate), (after, other) = (soundfile.read(tmp_path / f"{name}.wav") for name in ("before", "after"))
    assert rate == other == RATE and len(before) == len(after)
    quietest = [np.sort((wave[:len(wave) // 800 * 800].reshape(-1, 800) ** 2).mean(1))[:5].mean()
                for wave in (before, after)]
    assert 10 * np.log10(quietest[0] / max(quietest[1], 1e-12)) > 10  # in pauses
    assert Image.open(tmp_path / "before-after.png").size[1] > 2 * 240


@pytest.mark.slow
def test_an_hour_takes_no_more_memory_than_a_minute(tmp_path):
    done = subprocess.run([sys.executable, "-c", HOUR, str(tmp_path)], capture_output=True, text=True, check=True)
    assert float(done.stdout.split()[-1]) < 200, done.stdout
