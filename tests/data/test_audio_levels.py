"""How loud a recording is: clicks and bangs do not matter, nor blocks, nor pauses; speakers are followed."""

import numpy as np
import pytest

from photophone.data.audio_levels import AROUND_SECONDS, measure_levels
from photophone.data.audio_stream import ArrayReader

RATE = 16_000


def speech(seconds, level=0.05, seed=0):
    """Noise in syllables and words, at that root mean square where it sounds."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    shape = np.clip(np.sin(2 * np.pi * 3.3 * time), 0.05, 1) * (np.sin(2 * np.pi * 0.21 * time + 1) > -0.7)
    audio = rng.standard_normal(len(time)) * shape
    return (level * audio / np.sqrt(np.mean(audio ** 2))).astype(np.float32)


def levels(audio):
    return ArrayReader(np.atleast_2d(audio), RATE).levels()


def decibels(one, other):
    return 20 * np.log10(one / other)


@pytest.mark.parametrize("seconds", [0.3, 1, 2.5, 5, 9, 30])
@pytest.mark.parametrize("level", [0.3, 0.05, 0.001])
def test_the_level_is_that_of_what_sounds(seconds, level):
    assert abs(decibels(levels(speech(seconds, level)).rms, level)) < 2.5


@pytest.mark.parametrize("quiet", [0.05, 0.005, 0.001])
@pytest.mark.parametrize(("kind", "first", "count"), [("one sample", 9000, 1), ("10 ms", 9000, 160),
                                                      ("60 ms", 9000, 960), ("in the first second", 3, 100),
                                                      ("at the end", 95_000, 200)])
def test_a_click_of_full_scale_does_not_count(quiet, kind, first, count):
    audio = speech(6, quiet)
    plain = levels(audio).rms
    for sign in (1, np.where(np.arange(count) % 7 < 3, 1, -1)):
        audio[first:first + count] = sign
        assert abs(decibels(levels(audio).rms, plain)) < 1, kind
    audio[::9700] = 1  # several clicks
    assert abs(decibels(levels(audio).rms, plain)) < 1.5


@pytest.mark.parametrize("seconds", [5, 20, 40])
def test_a_bang_of_a_second_counts_little(seconds):
    audio = speech(seconds, 0.005)
    plain = levels(audio).rms
    audio[16_000:32_000] = np.random.default_rng(0).uniform(-1, 1, RATE)
    assert 0 <= decibels(levels(audio).rms, plain) < 3.5


def test_pauses_of_any_length_and_digital_silence_do_not_count():
    talk = speech(10, 0.05)
    for pause in (np.zeros(60 * RATE), np.random.default_rng(1).standard_normal(60 * RATE) * 1e-4):
        audio = np.concatenate([pause, talk, pause]).astype(np.float32)
        assert abs(decibels(levels(audio).rms, levels(talk).rms)) < 1.5
    word = np.zeros(RATE, np.float32)
    word[5000:6000] = 0.1
    word[6000:7000] = -0.1
    assert 0.02 < levels(word).rms < 0.1
    click = np.zeros(RATE, np.float32)
    click[77] = 1
    assert levels(click).rms > 0
    assert levels(np.zeros(100, np.float32)).rms == levels(np.full(40_000, 0.5, np.float32)).rms == 0


def test_speakers_are_followed_and_short_recordings_have_one_level():
    loud, soft = speech(60, 0.1), speech(60, 0.01, seed=1)
    found = levels(np.concatenate([loud, soft, loud])).rms_at(0.1)
    assert len(found) == 180
    assert np.abs(decibels(found[10:45], 0.1)).max() < 3 and np.abs(decibels(found[75:105], 0.01)).max() < 3
    short = levels(speech(AROUND_SECONDS + 1))
    assert (short.rms_at(0.1) == short.rms).all()
    quiet = levels(np.concatenate([loud, loud * 1e-4, loud])).rms_at(0.1)
    assert quiet.min() == pytest.approx(0.1 * levels(np.concatenate([loud, loud * 1e-4, loud])).rms)


def test_blocks_do_not_matter():
    audio = np.stack([speech(7.3), speech(7.3, 0.2, seed=2) + 0.25])
    whole = levels(audio)
    for size in (13, 999, 16_000, 50_001):
        blocks = (audio[:, start:start + size] for start in range(0, audio.shape[1], size))
        part = measure_levels(blocks, RATE, "x")
        np.testing.assert_array_equal(part.powers, whole.powers)
        np.testing.assert_allclose(part.offset, whole.offset, atol=1e-6)
        assert (part.frames, part.peak, part.rms) == (whole.frames, whole.peak, whole.rms)
    np.testing.assert_allclose(whole.offset[:, 0], [0, 0.25], atol=0.01)
