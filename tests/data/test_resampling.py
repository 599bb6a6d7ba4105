"""The one resampler: what is folded back, what is lost, parts and the whole, gradients, odd rates."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from photophone.data.resampling import HALF_WIDTH, ResamplingStream, filter_bank, reach_seconds, resample_audio

ROOT = Path(__file__).parents[2]
DOWN = [(48_000, 16_000), (44_100, 16_000), (24_000, 16_000), (22_050, 8000), (192_000, 16_000), (48_000, 44_100)]
UP = [(16_000, 48_000), (16_000, 24_000), (22_050, 24_000), (8000, 44_100), (44_100, 48_000)]


def tone(frequency, rate, seconds=0.5):
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return (2 * np.pi * frequency * time).sin().float()


def middle(audio):
    return audio[len(audio) // 4:3 * len(audio) // 4].double()


def decibels(magnitude):
    return 20 * np.log10(max(float(magnitude), 1e-12))


def apart(made, frequency, rate):
    """Magnitudes of a tone and of all else."""
    time = torch.arange(len(made), dtype=torch.float64)[len(made) // 4:3 * len(made) // 4] / rate
    waves = torch.stack([(2 * np.pi * frequency * time).sin(), (2 * np.pi * frequency * time).cos()], 1)
    share = torch.linalg.lstsq(waves, middle(made)[:, None]).solution
    return share.norm(), (middle(made) - (waves @ share)[:, 0]).square().mean().mul(2).sqrt()


@pytest.mark.parametrize(("source", "target"), DOWN)
def test_what_lies_above_is_not_folded_back(source, target):
    for frequency in np.linspace(target / 2 * 1.005, source / 2 * 0.995, 12):
        made = middle(resample_audio(tone(frequency, source), source, target))
        assert decibels(made.square().mean().mul(2).sqrt()) < -90, frequency


@pytest.mark.parametrize(("source", "target"), DOWN + UP)
def test_what_lies_below_stays_and_nothing_appears(source, target):
    for share in (0.003, 0.1, 0.3, 0.5, 0.7, 0.85, 0.9, 0.95):
        frequency = share * min(source, target) / 2
        own, rest = apart(resample_audio(tone(frequency, source), source, target), frequency, target)
        assert abs(decibels(own)) < 0.01 and decibels(rest) < -90, share


@pytest.mark.parametrize(("source", "target"), [*DOWN, *UP, (4001, 192_000), (191_999, 16_000)])
def test_length_place_and_silence(source, target):
    for count in (1, 2, 3, 100, 4001):
        audio = torch.zeros(2, 3, count)
        assert resample_audio(audio, source, target).shape == (2, 3, -(-count * target // source)) or source in (
            4001, 191_999)
        assert not resample_audio(audio, source, target).any()
    click = torch.zeros(source // 5)
    click[source // 10] = 1
    made = resample_audio(click, source, target)
    assert abs(int(made.argmax()) / target - 0.1) < 1 / min(source, target)
    reach = reach_seconds(source, target) * target + 1
    assert not made[:int(0.1 * target - reach)].any() and not made[int(0.1 * target + reach):].any()


@pytest.mark.parametrize(("source", "target"), [(48_000, 16_000), (16_000, 48_000), (44_100, 16_000)])
def test_parts_equal_the_whole(source, target):
    audio = torch.randn(2, 2 * source, generator=torch.Generator().manual_seed(0))
    whole = resample_audio(audio, source, target)
    reach = round(0.1 * source)  # a whole number of periods of both rates
    assert reach > reach_seconds(source, target) * source
    part = resample_audio(audio[:, source - reach:source + source // 2 + reach], source, target)
    skip = round(0.1 * target)
    torch.testing.assert_close(part[:, skip:skip + target // 2], whole[:, target:target + target // 2], rtol=0,
                               atol=1e-5)


def test_types_gradients_and_rows():
    audio = torch.randn(3, 1, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = resample_audio(audio, 48_000, 16_000)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(resample_audio(audio.float(), 48_000, 16_000), exact.float(), rtol=0, atol=2e-6)
    assert resample_audio(audio.bfloat16(), 48_000, 16_000).dtype == torch.bfloat16
    torch.testing.assert_close(resample_audio(audio[1], 48_000, 16_000), exact[1])
    assert torch.autograd.gradcheck(lambda x: resample_audio(x, 16_000, 24_000), audio[0, :, :40].requires_grad_())
    assert resample_audio(audio, 16_000, 16_000) is audio
    with pytest.raises(TypeError, match="divide 16-bit"):
        resample_audio(torch.zeros(10, dtype=torch.int16), 48_000, 16_000)
    with pytest.raises(ValueError, match="1 Hz"):
        resample_audio(torch.zeros(10), 1, 16_000)


def test_a_constant_and_its_filters_add_up_to_one():
    for source, target in ((3, 1), (441, 160), (1, 3)):
        sums = filter_bank(source, target).sum((0, 1))
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-4)
    assert reach_seconds(48_000, 16_000) == (HALF_WIDTH + 1) / 16_000 < 0.01


@pytest.mark.parametrize(("source", "target"), [(16_000, 24_000), (44_100, 24_000), (48_000, 24_000), (8_000, 24_000),
                                                (11_025, 24_000), (24_000, 24_000), (47_999, 24_000)])
@pytest.mark.parametrize("sizes", [(1000,), (1, 7, 5000, 3), (40_000,)])
def test_chunks_of_any_size_resample_to_the_whole(source, target, sizes):
    audio = torch.randn(30_011, generator=torch.Generator().manual_seed(0))
    stream, parts, start, held = ResamplingStream(source, target), [], 0, 0
    while start < len(audio):
        size = sizes[len(parts) % len(sizes)]
        parts.append(stream.push(audio[start:start + size]))
        start += size
        held = max(held, len(stream.held) - size)
    made = torch.cat([*parts, stream.finish()])
    torch.testing.assert_close(made, resample_audio(audio, source, target), rtol=1e-4, atol=1e-5)
    assert held <= 3 * stream.margin + 2 * stream.source  # whatever came before
    assert not len(ResamplingStream(source, target).finish())


def test_nothing_resamples_by_itself():
    """All code of the package uses the one function; libraries have others."""
    for file in [*ROOT.glob("photophone/**/*.py"), *ROOT.glob("scripts/*.py")]:
        text = file.read_text(encoding="utf-8")
        assert "functional.resample" not in text and "import resample\n" not in text, file
        assert "transforms.Resample" not in text and "resample_poly" not in text and "soxr" not in (
            text if file.name != "resampling.py" else ""), file


def test_the_benchmark_runs(tmp_path):
    done = subprocess.run([sys.executable, str(ROOT / "benchmarks/resample.py"), "--seconds", "1", "--json",
                           str(tmp_path / "a.json")], capture_output=True, text=True, check=True,
                          env={"PYTHONPATH": str(ROOT), "PATH": ""})
    assert "| 48000 to 16000 Hz | photophone |" in done.stdout and (tmp_path / "a.json").exists()
