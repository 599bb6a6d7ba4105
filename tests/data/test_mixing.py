"""Mixtures and rooms against closed forms: levels, echoes, bands; a seed repeats all of it."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from photophone.data.degrade import (
    CODECS,
    band_limit,
    clip_peaks,
    codec_artefacts,
    level_curve,
    mu_law,
    telephone,
)
from photophone.data.mixing import MixingConfig, NoisyMixer, coloured_noise, convolve, power, scale_to_snr
from photophone.data.rooms import SPEED_OF_SOUND, decaying_noise, image_response, image_sources, random_room
from photophone.data.speech import SpeechDataset

RATE = 16000


def tone(frequency=500.0, seconds=1.0, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def write_clips(path, clips, fields):
    offsets = np.cumsum([0, *map(len, clips)])
    audio = (np.concatenate(clips).clip(-1, 1) * 32767).round().astype(np.int16)
    save_file({"audio": torch.from_numpy(audio), "offsets": torch.tensor(offsets), "sample_rate": torch.tensor(RATE)},
              path)
    path.with_suffix(".jsonl").write_text("".join(json.dumps(f) + "\n" for f in fields))
    return SpeechDataset(path)


@pytest.fixture(scope="module")
def mixer(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("mixing"), np.random.default_rng(0)
    speech = write_clips(folder / "speech.safetensors", [tone(150 * (i + 1)) * rng.uniform(0.5, 1) for i in range(6)],
                         [{"speaker": f"s{i // 2}"} for i in range(6)])
    noise = write_clips(folder / "noise.safetensors",
                        [0.1 * rng.standard_normal(n).astype(np.float32) for n in (3000, 20000, 70000)], [{}] * 3)
    return NoisyMixer(speech, noise, MixingConfig(seconds=0.8, rooms=8))


@pytest.mark.parametrize("snr", [-5.0, 0.0, 7.3, 20.0])
def test_the_ratio_of_powers_is_exact(snr):
    speech, noise = tone(), np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    scaled = scale_to_snr(speech, noise, snr).astype(np.float64)
    measured = 10 * math.log10(np.mean(speech.astype(np.float64) ** 2) / np.mean(scaled**2))
    assert measured == pytest.approx(snr, abs=0.01)


def test_a_telephone_keeps_its_band_and_codes_it():
    """A tone inside the band keeps its level and place within the error of G.711, others are gone."""
    inside = tone(1000.0)
    for coded, error_db in ((False, -50), (True, -30)):
        made = telephone(inside, RATE, coded)
        rest = (made - inside)[RATE // 4:-RATE // 4]
        assert 10 * math.log10(power(rest) / power(inside)) < error_db
    for hertz in (100.0, 200.0, 4500.0, 7000.0):
        assert power(telephone(tone(hertz), RATE, coded=False)[RATE // 4:-RATE // 4]) < 1e-5 * power(tone(hertz))


def test_pauses_do_not_count_as_speech():
    speech = np.concatenate([np.zeros(RATE, np.float32), tone(), np.zeros(RATE * 2, np.float32)])
    assert power(speech, RATE) == pytest.approx(0.125, rel=1e-4)  # of a sine of amplitude 0.5
    assert power(speech) == pytest.approx(0.125 / 4, rel=1e-4)
    noise = np.random.default_rng(1).standard_normal(len(speech))
    ratio = np.mean(scale_to_snr(speech, noise, 3.0, RATE) ** 2) / np.mean(scale_to_snr(speech, noise, 3.0) ** 2)
    assert 10 * math.log10(ratio) == pytest.approx(10 * math.log10(4), abs=0.01)
    with pytest.raises(ValueError, match="the speech is silent"):
        scale_to_snr(np.zeros(100), np.ones(100), 0.0)


def test_image_sources_of_a_box_stand_where_mirrors_put_them():
    room, source, microphone = np.array([5.0, 4.0, 3.0]), np.array([1.0, 2.0, 1.5]), np.array([4.0, 2.0, 1.5])
    distances, pressures = image_sources(room, source, microphone, 0.8, 1)
    # direct: 3 m; walls x=0: |-1 - 4|, x=5: |9 - 4|; y=0: hypot(3, 4), y=4: the same; floor and ceiling: hypot(3, 3)
    expected = sorted([3.0, 5.0, 5.0, 5.0, 5.0, math.hypot(3, 3), math.hypot(3, 3)])
    np.testing.assert_allclose(distances, expected, rtol=1e-12)
    np.testing.assert_allclose(pressures * 4 * np.pi * distances, [1.0] + [0.8] * 6, rtol=1e-12)
    assert len(image_sources(room, source, microphone, 0.8, 2)[0]) == 1 + 6 + 18
    response = image_response(room, source, microphone, 0.0, 3, RATE)
    place = 3.0 / SPEED_OF_SOUND * RATE
    assert np.flatnonzero(response).tolist() == [int(place), int(place) + 1]
    assert float(response.sum()) == pytest.approx(1 / (12 * math.pi), rel=1e-5)


def test_noise_decays_by_sixty_decibels():
    response = decaying_noise(0.5, RATE, np.random.default_rng(0)).astype(np.float64)
    early, late = (np.mean(part**2) for part in (response[:1600], response[6400:8000]))
    assert 10 * math.log10(early / late) == pytest.approx(60 * 0.4 / 0.5, abs=1.0)  # centres lie 0.4 s apart


def test_rooms_begin_with_the_direct_sound():
    for seed in range(5):
        response, early = random_room(np.random.default_rng(seed), RATE)
        assert float(response[:2].sum()) == pytest.approx(1, abs=1e-3) and np.isfinite(response).all()
        assert len(early) <= 800 < len(response)
        np.testing.assert_array_equal(early[:100], response[:100])
        again = random_room(np.random.default_rng(seed), RATE)[0]
        np.testing.assert_array_equal(again, response)


def test_convolution_with_a_late_impulse_is_a_delay():
    response = np.zeros(50, np.float32)
    response[[0, 49]] = 1.0, 0.5
    audio, made = tone(), convolve(tone(), response)
    expected = audio.copy()
    expected[49:] += 0.5 * audio[:-49]
    np.testing.assert_allclose(made, expected, atol=1e-6)


def test_a_limited_band_keeps_what_is_inside():
    low, middle, high = tone(100), tone(1000), tone(6000)
    made = band_limit(low + middle + high, RATE, 300, 3400)
    inner = slice(2000, -2000)
    np.testing.assert_allclose(made[inner], middle[inner], atol=2e-3)


def test_clipping_and_codecs():
    audio = tone()
    cut = clip_peaks(audio, 0.5)
    assert float(np.abs(cut).max()) == pytest.approx(0.5 * math.sin(math.pi / 4), rel=1e-2)  # half of a sine's time
    assert (np.abs(mu_law(audio) - audio) <= 0.025 * np.abs(audio) + 2e-4).all()
    for name in CODECS:
        made = codec_artefacts(audio, RATE, name)
        assert made.shape == audio.shape and made.dtype == np.float32
        error = made[2000:-2000] - audio[2000:-2000]
        assert 0 < np.mean(error**2) < 0.05 * np.mean(audio**2), name
    with pytest.raises(ValueError, match="got 'mp9'"):
        codec_artefacts(audio, RATE, "mp9")
    curve = level_curve(RATE, RATE, 12.0, np.random.default_rng(0))
    assert curve.min() >= 10 ** (-12 / 20) - 1e-6 and curve.max() <= 1 and curve.std() > 0


@pytest.mark.parametrize(("slope", "expected"), [(0.0, 0.0), (-0.5, -3.01), (-1.0, -6.02)])
def test_coloured_noise_falls_by_its_slope(slope, expected):
    spectrum = np.abs(np.fft.rfft(coloured_noise(1 << 17, slope, np.random.default_rng(0)).astype(np.float64))) ** 2
    octaves = [spectrum[start:2 * start].mean() for start in (8000, 16000)]
    assert 10 * math.log10(octaves[1] / octaves[0]) == pytest.approx(expected, abs=0.15)


def test_a_seed_repeats_the_mixture_and_another_does_not(mixer):
    indices = np.arange(6)
    (noisy, clean), again = (mixer.batch(indices, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(noisy, again[0]) and torch.equal(clean, again[1])
    assert noisy.shape == clean.shape == (6, 1, 12800) and noisy.dtype == torch.float32
    assert bool(noisy.isfinite().all()) and float(noisy.abs().max()) <= 1 and float(clean.abs().max()) <= 1
    other = mixer.batch(indices, np.random.default_rng(6))[0]
    assert not any(torch.equal(a, b) for a, b in zip(noisy, other))


def test_a_mixture_has_its_ratio(mixer):
    plain = {"reverb": 0.0, "noise_reverb": 0.0, "band_limit": 0.0, "clip": 0.0, "codec": 0.0, "level": 0.0,
             "noises": (0.0, 0.5, 0.5), "seconds": 0.8, "rooms": 1, "snr_db": (4.0, 4.0)}
    mixer = NoisyMixer(mixer.speech, mixer.noise, MixingConfig(**plain))
    for seed in range(4):
        noisy, clean = mixer.pair(seed, np.random.default_rng(seed))
        noise = noisy.astype(np.float64) - clean
        assert 10 * math.log10(power(clean, RATE) / power(noise)) == pytest.approx(4, abs=0.01)


def test_babble_leaves_out_the_speaker(mixer):
    rng = np.random.default_rng(0)
    for _ in range(5):
        babble = mixer.draw_babble(0, rng)  # clips 0 and 1, tones of 150 and 300 Hz, are of one speaker
        spectrum = np.abs(np.fft.rfft(babble * np.hanning(len(babble))))
        bins = np.fft.rfftfreq(len(babble), 1 / RATE)
        levels = [spectrum[np.abs(bins - 150 * (i + 1)).argmin()] for i in range(6)]
        assert max(levels[:2]) < 0.02 * max(levels[2:])


def test_wrong_settings_are_refused(mixer, tmp_path):
    with pytest.raises(ValueError, match="add up to 1"):
        MixingConfig(noises=(0.5, 0.2))
    noise = write_clips(tmp_path / "n.safetensors", [tone()], [{}])
    noise.sample_rate = 8000
    with pytest.raises(ValueError, match="noise at 8000 Hz"):
        NoisyMixer(mixer.speech, noise)
