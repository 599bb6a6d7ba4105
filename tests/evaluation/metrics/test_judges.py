"""Judges of clips that are short, silent, quiet or long: one rule for all, and no score where none is defined."""

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from photophone.data.audio import read_audio
from photophone.evaluation.metrics import judges
from photophone.evaluation.metrics.audio import pesq_wb, stoi

CLIPS = Path(__file__).parents[2] / "goldens" / "data" / "speech"
RATE = 16000


@pytest.fixture(scope="module")
def clips():
    """Three clips of real speech, 3 to 5 s."""
    names = [json.loads(line)["file"] for line in (CLIPS / "clips.jsonl").read_text().splitlines()]
    return [read_audio(CLIPS / name, RATE)[0] for name in names]


@pytest.fixture(scope="module")
def mos():
    pytest.importorskip("speechmos.dnsmos")
    return judges.DNSMOS()


def test_pesq_of_a_silent_or_short_side_is_not_defined(clips):
    pytest.importorskip("pesq")
    speech = clips[0]
    silence = np.zeros_like(speech)
    for pair in ((speech, silence), (silence, speech), (silence, silence), (speech[:3999], speech[:3999])):
        assert math.isnan(pesq_wb(*pair))
    assert pesq_wb(speech, 1e-9 * speech) == pytest.approx(pesq_wb(speech, speech), abs=1e-4)


def test_stoi_of_too_few_active_frames_is_not_defined(clips):
    pytest.importorskip("pystoi")
    speech = clips[0]
    padded = np.concatenate([np.zeros(RATE, np.float32), speech[8000:13000], np.zeros(RATE, np.float32)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for reference in (speech[:100], speech[8000:14000], padded, np.zeros_like(speech)):
            assert math.isnan(stoi(reference, reference, RATE)) and math.isnan(stoi(reference, reference, RATE, True))
    assert stoi(speech[8000:18000], speech[8000:18000], RATE) == pytest.approx(1)
    assert stoi(speech, np.zeros_like(speech), RATE) == pytest.approx(0, abs=1e-6)  # nothing can be understood


def test_windows_hear_every_sample_at_any_length():
    size, hop = 144_160, RATE
    for seconds in (0.3, 4.5, 9.0, 9.01, 9.02, 10.0, 10.01, 17.0, 25.5, 34.0, 61.7):
        clip = np.arange(round(seconds * RATE), dtype=np.float64)
        windows = judges.windows_of(clip, size, hop)
        assert all(len(window) == size for window in windows)
        assert len(windows) == 1 + max(0, math.ceil((len(clip) - size) / hop))
        assert len(np.unique(np.concatenate(windows))) == len(clip)
        starts = [int(window[0]) for window in windows]
        assert all(0 < after - before <= hop for before, after in zip(starts, starts[1:]))


def test_quality_judges_hear_the_middle_and_the_end_of_long_clips(clips, mos):
    speech = np.tile(np.concatenate(clips), 3)[:20 * RATE]
    noise = 0.2 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    clean = mos(speech, RATE)
    for second in (7, 17.9):
        start = round(second * RATE)
        spoilt = speech.copy()
        spoilt[start:start + 2 * RATE] += noise
        assert mos(spoilt, RATE)["bak"] < clean["bak"] - 0.05


def test_distill_mos_hears_noise_as_the_package_does(clips):
    package = pytest.importorskip("distillmos")
    judge, speech = judges.DistillMOS(), np.tile(clips[0], 4)
    clean = judge(speech, RATE)
    noisy = judge(speech + np.random.default_rng(0).normal(0, 0.05, len(speech)), RATE)
    assert 1 < noisy < clean - 0.3 and clean < 5
    with torch.no_grad():
        expected = package.ConvTransformerSQAModel().eval()(torch.from_numpy(judges.prepare(speech, RATE))[None])
    assert clean == pytest.approx(float(expected), abs=1e-4)
    assert math.isnan(judge(np.zeros(RATE), RATE))


def test_quality_changes_little_where_a_clip_passes_a_windows_length(clips, mos):
    speech = np.tile(clips[0], 3)
    scores = [mos(speech[:round(seconds * RATE)], RATE)["ovrl"] for seconds in (8.95, 9.0, 9.01, 9.05)]
    assert max(scores) - min(scores) < 0.05


def test_no_judge_depends_on_the_level(clips, mos):
    speech = clips[0]
    encoder = judges.SpeakerEncoder()
    expected, continuity = mos(speech, RATE), judges.PLCMOS()(speech, RATE)
    for gain in (0.001, 0.1, 3.0):
        quiet = gain * speech
        assert encoder.similarity(speech, quiet, RATE) == pytest.approx(1, abs=1e-4)
        assert mos(quiet, RATE) == pytest.approx(expected, abs=1e-3)
        assert judges.PLCMOS()(quiet, RATE) == pytest.approx(continuity, abs=1e-3)


def test_silent_and_very_short_clips_have_no_score(clips, mos):
    pytest.importorskip("faster_whisper")
    encoder, gaps, ear = judges.SpeakerEncoder(), judges.PLCMOS(), judges.Transcriber()
    for clip in (np.zeros(RATE), np.full(2 * RATE, 1e-6), clips[0][8000:11000]):
        assert all(math.isnan(score) for score in mos(clip, RATE).values())
        assert math.isnan(gaps(clip, RATE)) and math.isnan(encoder.similarity(clips[0], clip, RATE))
        assert ear(clip, RATE) == ""


def test_a_panel_that_hears_no_words_rates_all_the_same(clips, mos):
    panel = judges.Panel(words=False)
    assert panel.present and not panel.hears and panel.hear(clips[0]) == ""
    assert panel.rate(clips[0]) == mos(clips[0], RATE) and math.isnan(panel.word_errors(["light"], [""]))
