"""Live enhancement with a small real model: chunks and the whole, delay, rates, what is refused."""

import numpy as np
import pytest
import torch
from tiny import shake

from photophone import SpeechEnhancementPipeline, SpeechEnhancer
from photophone.data.quick_resampling import QuickResampler
from photophone.data.resampling import resample_audio
from photophone.generators.enhancement import LEVEL
from photophone.generators.enhancer.live import LevelFollower, LiveEnhancer

SMALL = {"channels": [8, 12, 16], "squeeze": 4, "width": 32, "hidden": 48, "depth": 2, "waist": 4, "waist_depth": 1,
         "dilations": [1, 2]}
RATE = 16000


@pytest.fixture(scope="module")
def enhancer():
    torch.manual_seed(0)
    return shake(LiveEnhancer(**SMALL), scale=0.03)


@pytest.fixture(scope="module")
def pipeline(enhancer):
    return SpeechEnhancementPipeline(enhancer)


def sound(count, channels=None, seed=0):
    """Noise whose level wanders over 60 dB."""
    rng = np.random.default_rng(seed)
    shape = (count,) if channels is None else (channels, count)
    levels = 10 ** np.interp(np.arange(count), np.linspace(0, count, 9), rng.uniform(-3.5, -0.5, 9))
    return (levels * rng.standard_normal(shape)).astype(np.float32)


def cut(audio, seed, most=3000):
    """Chunks of random sizes along the last axis, among them empty ones and single samples."""
    rng, place = np.random.default_rng(seed), 0
    while place < audio.shape[-1]:
        size = int(rng.choice([0, 1, 2, 255, 256, 257, rng.integers(most)]))
        yield audio[..., place:place + size]
        place += size


def streamed(pipeline, audio, rate, seed=0, **options):
    return np.concatenate(list(pipeline.stream(cut(audio, seed), rate, **options)), axis=-1)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 512, 16001, 40000])
def test_any_chunks_give_the_whole(enhancer, pipeline, count):
    audio = sound(count)
    whole = enhancer.enhance(torch.from_numpy(audio)[None, None])[0, 0].numpy()
    (called,) = pipeline(audio, RATE).audio
    for seed in range(3):
        made = streamed(pipeline, audio, RATE, seed)
        assert made.shape == audio.shape and made.dtype == np.float32
        assert np.abs(made - called).max() <= 1e-5
        assert np.abs(made - whole.clip(-1, 1)).max() <= 1e-5


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 48_000, 44_099])
@pytest.mark.parametrize("channels", [None, 2])
def test_any_chunks_give_the_whole_at_other_rates(pipeline, rate, channels):
    audio = sound(rate + 77, channels)
    (called,) = pipeline(audio, rate).audio
    made = streamed(pipeline, audio, rate, mix=0.9)
    (mixed,) = pipeline(audio, rate, mix=0.9).audio
    assert made.shape == called.shape == audio.shape
    assert np.abs(made - mixed).max() <= 1e-5
    assert np.abs(mixed - (0.9 * called + 0.1 * audio)).max() < 2e-5 or np.abs(audio).max() > 1


def test_single_samples_give_the_whole(pipeline):
    audio = sound(1100)
    made = list(pipeline.stream(np.split(audio, len(audio)), RATE))
    assert len(made) == len(audio) + 1  # an answer to each chunk, and the rest
    assert np.abs(np.concatenate(made) - pipeline(audio, RATE).audio[0]).max() <= 1e-5


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_the_delay_is_at_most_40_ms(pipeline, rate):
    """Every sample is there when so much more has come in; and nothing later changes it."""
    live = pipeline.live(rate)
    assert live.delay_seconds <= 0.04 + 1e-12
    audio, given = sound(rate // 2), 0
    for place in range(rate // 10):
        given += live.push(audio[None, place:place + 1]).shape[1]
        assert place + 1 - given <= live.delay_seconds * rate + 1e-6
    other = audio.copy()
    other[rate // 4:] = sound(rate // 4, seed=5)
    early = round(rate // 4 - live.delay_seconds * rate)
    first, second = (pipeline(clip, rate).audio[0] for clip in (audio, other))
    np.testing.assert_allclose(first[:early], second[:early], atol=1e-6)
    assert np.abs(first[early:] - second[early:]).max() > 1e-3


def test_a_chunk_costs_and_holds_no_more_later(pipeline):
    live = pipeline.live(48_000, 2)

    def held():
        parts = [live.noisy, live.narrow, live.down.held, live.up.held, live.upper.pending, live.upper.curve,
                 live.upper.up.held, live.stream.held]
        return sum(part.numel() for part in parts)

    sizes = []
    for seed in range(12):
        live.push(sound(4800, 2, seed=seed))
        sizes.append(held())
    assert max(sizes[2:]) <= 1.3 * max(sizes[:2])


def test_several_streams_do_not_disturb_each_other(pipeline):
    clips = [sound(5000, seed=seed) for seed in range(2)]
    lives = [pipeline.live(RATE) for _ in clips]
    made = [[], []]
    for start in range(0, 5000, 500):
        for clip, live, parts in zip(clips, lives, made):
            parts.append(live.push(clip[None, start:start + 500]))
    for clip, live, parts in zip(clips, lives, made):
        parts.append(live.finish())
        np.testing.assert_allclose(np.concatenate(parts, axis=1)[0], pipeline(clip, RATE).audio[0], atol=1e-5)


def test_silence_stays_silence_and_peaks_stay_within(pipeline):
    assert not np.concatenate(list(pipeline.stream([np.zeros(4000, np.float32)], RATE))).any()
    loud = 4 * sound(8000)
    (made,) = pipeline(loud, RATE).audio
    assert np.abs(made).max() <= np.abs(loud).max()


def test_the_upper_band_is_weakened_as_the_part_below(pipeline):
    """Above the model's band only what the band's upper part loses is lost; the model here halves all."""
    time = np.arange(48_000) / 48_000
    upper = (0.1 * np.sin(2 * np.pi * 12_000 * time)).astype(np.float32)
    noise = resample_audio(torch.from_numpy(sound(16_000)), 16_000, 48_000).numpy()[:48_000]
    (made,) = pipeline(noise + upper, 48_000).audio
    (narrow,) = pipeline(resample_audio(torch.from_numpy(noise), 48_000, RATE).numpy(), RATE).audio
    share = np.abs(np.fft.rfft(made[9600:38_400]))[7200] / np.abs(np.fft.rfft(upper[9600:38_400]))[7200]
    lost = np.std(narrow[3200:12_800]) / np.std(noise[9600:38_400])
    assert 0.2 < share < 1 and abs(share - lost) < 0.35


@pytest.mark.parametrize(("source", "target"), [(48_000, 16_000), (16_000, 48_000), (44_100, 16_000), (16_000, 44_100),
                                                (8000, 16_000), (16_000, 16_000)])
def test_the_quick_filter_keeps_speech_and_its_place(source, target):
    time = np.arange(source) / source
    tones = sum(np.sin(2 * np.pi * hertz * time + hertz) for hertz in (100, 1000, 3000)).astype(np.float32)
    quick = QuickResampler(source, target)
    parts = [quick.push(torch.from_numpy(part)[None]) for part in cut(tones, 3)]
    made = torch.cat([*parts, quick.finish()], dim=1)[0].double()
    assert len(made) == target
    expected = resample_audio(torch.from_numpy(tones), source, target).double()
    middle = slice(target // 10, -target // 10)
    assert (made - expected)[middle].abs().max() < 2e-3
    assert quick.delay_seconds <= 0.0041


def test_what_would_be_folded_back_is_gone():
    time = np.arange(48_000) / 48_000
    for hertz in (8100, 10_000, 15_000):
        tone = torch.from_numpy(np.sin(2 * np.pi * hertz * time).astype(np.float32))[None]
        quick = QuickResampler(48_000, 16_000)
        made = torch.cat([quick.push(tone), quick.finish()], dim=1)[0, 1000:-1000]
        assert 20 * np.log10(float(made.abs().max())) < -60, hertz


def test_the_level_follows_the_loud_parts():
    follower = LevelFollower(0.016)
    for level in (0.005, 0.05, 0.5):
        powers = torch.full((1, 3000), (level / 0.7) ** 2)
        gains = follower(powers)
        assert float(gains[0, -1]) == pytest.approx(LEVEL / level, rel=0.05)
    quiet = follower(torch.zeros(1, 3000))
    assert float(quiet.max()) <= 30 and bool((quiet.diff() >= 0).all())


def test_an_offline_enhancer_becomes_a_live_one():
    """It is the same network where nothing changes over time: what it weighs later frames with goes to the present."""
    torch.manual_seed(1)
    sizes = {key: value for key, value in SMALL.items() if not key.startswith("waist")}
    offline = shake(SpeechEnhancer(**sizes, token_depth=1, token_dim=4), scale=0.03)
    live = LiveEnhancer.from_offline(offline).eval()
    assert live.config.waist == 4 and sum(p.numel() for p in live.parameters()) == sum(
        p.numel() for p in offline.parameters())
    kernel, old = live.blocks[0].dwconv.weight, offline.blocks[0].dwconv.weight
    torch.testing.assert_close(kernel.sum(-1), old.sum(-1))
    assert not kernel[..., :3].any() and torch.equal(kernel[..., 3:6], old[..., :3])
    with pytest.raises(ValueError, match="backbone that sees both sides"):
        LiveEnhancer.from_offline(SpeechEnhancer(**sizes, token_depth=1, causal=True))


def test_what_cannot_be_streamed_is_refused(pipeline):
    whole = SpeechEnhancementPipeline(SpeechEnhancer(channels=[4, 4], width=8, hidden=8, depth=2, token_depth=1))
    with pytest.raises(ValueError, match="needs the whole recording.*tiny-enhance-live"):
        whole.stream([], RATE)
    for chunks, words in [([np.zeros(5, np.int16)], "must be float"), ([np.zeros((3, 5), np.float32)], "3 channels"),
                          ([np.full(5, np.nan, np.float32)], "NaN"), ([np.full(5, 1e6, np.float32)], "full scale"),
                          ([np.zeros(5, np.float32), np.zeros((1, 5), np.float32)], "2 axes"),
                          ([np.zeros((1, 5), np.float32), np.zeros((2, 5), np.float32)], "shape")]:
        with pytest.raises(ValueError, match=words):
            list(pipeline.stream(chunks, RATE))
    for options, words in [({"sampling_rate": 0}, "Hz"), ({"sampling_rate": 16e3}, "whole number"),
                           ({"sampling_rate": RATE, "mix": 1.5}, "mix")]:
        with pytest.raises(ValueError, match=words):
            pipeline.stream([], **options)
    with pytest.raises(ValueError, match="channels must be"):
        pipeline.live(RATE, 3)
    assert list(pipeline.stream([], RATE)) == []
    stream = pipeline.enhancer.stream()
    for chunk in (torch.zeros(2, 5), torch.zeros(5), torch.zeros(1, 5).int(), torch.full((1, 5), torch.inf)):
        with pytest.raises(ValueError, match="a chunk"):
            stream.push(chunk)
