"""Microphones of the demo: what visitors hear is what the pipeline makes, and what is wrong is told in a sentence."""

import base64

import numpy as np
import pytest
import torch
from tiny import shake

from photophone import SpeechEnhancementPipeline
from photophone.core.limits import DEMO_CLIP_SECONDS, DEMO_MICROPHONES
from photophone.data.audio_write import pcm16
from photophone.demo import microphone_tab
from photophone.demo.microphone_tab import Microphones
from photophone.generators.enhancer.live import LiveEnhancer


@pytest.fixture(scope="module")
def pipeline():
    torch.manual_seed(0)
    return SpeechEnhancementPipeline(shake(LiveEnhancer(channels=[4, 4], squeeze=2, width=8, hidden=8, depth=2, waist=2,
                                                        waist_depth=1), scale=0.03))


def text(samples):
    return base64.b64encode(pcm16(samples).tobytes()).decode()


def sound(answer):
    return np.frombuffer(base64.b64decode(answer), "<i2") / 32768


def test_two_visitors_hear_what_the_pipeline_makes(pipeline):
    rate, microphones = 48_000, Microphones(pipeline)
    clips = [(0.1 * np.random.default_rng(seed).standard_normal(30_000)).astype(np.float32) for seed in range(2)]
    names = [microphones.begin(rate if index else float(rate))[0] for index in range(2)]
    made = [[], []]
    for start in range(0, 30_000, 10_000):
        for clip, name, parts in zip(clips, names, made):
            answer, words = microphones.hear(name, text(clip[start:start + 10_000]), start == 20_000)
            assert words == ""
            parts.append(sound(answer))
    for clip, parts in zip(clips, made):
        whole = pipeline(pcm16(clip).astype(np.float32) / 32768, rate).audio[0]
        assert np.abs(np.concatenate(parts) - whole).max() <= 1 / 32768
    assert not microphones.open
    assert microphones.hear(names[0], text(clips[0]), False) == ("", "this recording has ended")


def test_what_is_wrong_is_told_and_ends_the_recording(pipeline):
    microphones = Microphones(pipeline)
    for rate in (0, 10**9, "16000", None, True, 16_000.5, [16_000]):
        name, words = microphones.begin(rate)
        assert name == "" and words
    odd = base64.b64encode(b"abc").decode()  # one and a half samples
    for wrong, words in [("no base64!", "damaged"), (odd, "damaged"), (7, "damaged"), (None, "damaged"),
                         (text(np.zeros(60_000, np.float32)), "too much")]:
        name, _ = microphones.begin(16_000)
        answer, told = microphones.hear(name, wrong, False)
        assert answer == "" and words in told and name not in microphones.open
    for name in (None, 5, "other", ["x"]):
        assert microphones.hear(name, "", False)[1] == "this recording has ended"


def test_microphones_are_few_and_end(pipeline, monkeypatch):
    microphones = Microphones(pipeline)
    names = [microphones.begin(8000)[0] for _ in range(DEMO_MICROPHONES)]
    assert all(names) and "in use" in microphones.begin(8000)[1]
    monkeypatch.setattr(microphone_tab, "IDLE_SECONDS", 0.0)  # they have left
    assert microphones.begin(8000)[0] and len(microphones.open) == 1
    monkeypatch.undo()
    (name,) = microphones.open
    silence, seconds, words = text(np.zeros(16_000, np.float32)), 0, ""
    while not words:
        answer, words = microphones.hear(name, silence, False)
        seconds += 2
    assert seconds == DEMO_CLIP_SECONDS and "ended after 60 s" in words and name not in microphones.open
