"""The HiFT vocoder: pieces equal the whole at a constant cost, and its source is what its formula says."""

import math

import pytest
import torch
from tiny import shake
from torch.utils.flop_counter import FlopCounterMode

from photophone import SeededNoise, Tokens, create_model
from photophone.codecs.hift.harmonic_source import HarmonicSource
from photophone.codecs.hift.model import HiFTStream
from photophone.loading.registry import find

NAMES = ["cosyvoice-300m-hift", "cosyvoice2-0.5b-hift", "cosyvoice3-0.5b-hift"]
CLOSE = {"rtol": 1e-4, "atol": 2e-6}


def build(name):
    torch.manual_seed(0)
    model = shake(create_model(name, **find(name).tiny), scale=0.1)
    with torch.no_grad():  # some frames are voiced, some are not
        factor = 12 / model.pitch(torch.randn(1, 8, 200, generator=torch.Generator().manual_seed(5))).median()
        model.pitch.classifier.weight.mul_(factor)
        model.pitch.classifier.bias.mul_(factor)
    return model


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sizes", [[1] * 60, [7, 1, 30, 2, 20], [60]])
def test_pieces_equal_the_whole(name, sizes):
    model = build(name)
    frames = torch.randn(2, 60, 8, generator=torch.Generator().manual_seed(1))
    voiced = (model.pitch(frames.transpose(1, 2)) > 10).float().mean()
    assert 0.1 < voiced < 0.9
    whole = model.decode(Tokens(frames), noise=SeededNoise.from_seeds([3, 4]))
    pieces = list(model.stream(map(Tokens, frames.split(sizes, dim=1)), noise=SeededNoise.from_seeds([3, 4])))
    torch.testing.assert_close(torch.cat(pieces, dim=2), whole, **CLOSE)
    ends = torch.tensor(sizes).cumsum(0)
    assert len(pieces) == int((ends > model.delay).sum()) + 1  # all behind the delay bring samples, and the end
    assert float(whole.abs().max()) > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_depends_on_the_frames_within_reach_alone(name):
    model = build(name)
    frames = torch.randn(1, 60, 8, generator=torch.Generator().manual_seed(1))
    source = torch.randn(1, 1, 60 * model.hop_length, generator=torch.Generator().manual_seed(2))
    changed, at = frames.clone(), 30
    changed[:, at] += 3
    with torch.no_grad():
        one, two = (model.trunk(mel.transpose(1, 2), source) for mel in (frames, changed))
    touched = (one - two)[0, 0].abs().view(60, -1).amax(1) > 0
    first, last = touched.nonzero()[[0, -1], 0].tolist()
    assert at - model.reach[1] <= first <= at <= last <= at + model.reach[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_minute_costs_the_same_at_its_end(name):
    model, costs = build(name), []
    stream = HiFTStream(model, SeededNoise.from_seeds([0]), 1)
    for piece in torch.randn(1, 3000, 8).split(50, dim=1):  # 60 s of 50 frames a second
        with FlopCounterMode(display=False) as counter:
            stream.push(piece)
        costs.append(counter.get_total_flops())
    assert len(set(costs[3:])) == 1 and costs[3] > 0


def test_the_sines_have_the_pitch():
    for phase in ("sample", "linear"):
        source = HarmonicSource(16000, 64, 2, phase=phase, noise_std=0.0)
        with torch.no_grad():
            source.linear.weight.copy_(torch.tensor([[1.0, 0, 0]]))
            source.linear.bias.zero_()
            state = source.begin(SeededNoise.from_seeds([0]), 1)
            wave, _ = source(torch.full((1, 100), 200.0), torch.zeros(1, 6400, 3), state)
        spectrum = torch.fft.rfft(torch.atanh(wave[0, 0, 320:6320]).double()).abs()  # 6000 samples: 75 periods
        assert int(spectrum.argmax()) == 75 and spectrum[75] / 3000 == pytest.approx(0.1, rel=1e-3)


def test_there_is_noise_where_there_is_no_voice():
    source = HarmonicSource(16000, 64, 0, phase="sample")
    noise = SeededNoise.from_seeds([0])
    with torch.no_grad():
        source.linear.weight.fill_(1.0)
        source.linear.bias.zero_()
        state, grain = source.begin(noise, 1), source.draw(noise, 1, 200)
        wave, _ = source(torch.zeros(1, 200), grain, state)
    assert float(wave.std()) == pytest.approx(0.1 / 3, rel=0.05)
    assert math.isclose(float(wave.mean()), 0, abs_tol=1e-3)


def test_wrong_pieces_and_phases_are_refused():
    model = build(NAMES[0])
    with pytest.raises(ValueError, match="expected frames"):
        HiFTStream(model, SeededNoise.from_seeds([0]), 1).push(torch.zeros(1, 4, 9))
    with pytest.raises(ValueError, match="phase must be one of"):
        HarmonicSource(16000, 64, phase="square")
    with pytest.raises(ValueError, match="at least one frame"):
        model.encode(torch.zeros(1, 1, 5))
