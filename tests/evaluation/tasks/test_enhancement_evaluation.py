"""Evaluation of enhancers: mixtures with the ratio they name, and systems whose measures are known beforehand."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from speech import write_speech
from typer.testing import CliRunner

from photophone import SpeechEnhancementPipeline, SpeechEnhancer
from photophone.cli.common import app
from photophone.data.mixing import power
from photophone.data.speech import SpeechDataset
from photophone.evaluation.report import format_report
from photophone.evaluation.tasks.enhancement import evaluate_enhancers, mixed_pairs

RATE = 16000
SMALL = {"channels": [8, 12, 16], "squeeze": 4, "width": 32, "hidden": 48, "depth": 2, "token_depth": 1, "token_dim": 4}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Speech of two sentences a clip, so that clips are long enough, and noises."""
    folder = tmp_path_factory.mktemp("evaluation")
    voice = SpeechDataset(write_speech(folder / "voice.safetensors"))
    clips = [torch.cat([voice.clip(i), voice.clip((i + 1) % len(voice)), voice.clip((i + 2) % len(voice))])
             for i in range(len(voice))]
    noises = [0.1 * torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (20000, 90000)]
    for name, parts in {"speech": clips, "noise": noises}.items():
        offsets = torch.tensor(np.cumsum([0, *map(len, parts)]))
        save_file({"audio": (torch.cat(parts).clamp(-1, 1) * 32767).short(), "offsets": offsets,
                   "sample_rate": torch.tensor(RATE)}, folder / f"{name}.safetensors")
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": "light"}) + "\n" for _ in parts))
    return folder


@pytest.fixture(scope="module")
def data(files):
    return SpeechDataset(files / "speech.safetensors"), SpeechDataset(files / "noise.safetensors")


@pytest.mark.parametrize("snr", [-5.0, 10.0])
def test_mixtures_have_their_ratio_and_a_seed_repeats_them(data, snr):
    pairs, again, other = (mixed_pairs(*data, snr, 3, seed) for seed in (1, 1, 2))
    for pair, same in zip(pairs, again):
        noise = pair.noisy.astype(np.float64) - pair.clean
        assert 10 * math.log10(power(pair.clean, RATE) / power(noise)) == pytest.approx(snr, abs=0.01)
        assert np.array_equal(pair.noisy, same.noisy) and pair.text == "light"
    assert not any(np.array_equal(a.noisy, b.noisy) for a, b in zip(pairs, other))
    for pair in mixed_pairs(*data, math.inf, 3):
        np.testing.assert_array_equal(pair.noisy, pair.clean)


def test_rooms_and_telephones_have_the_same_clips_and_their_own_sound(data):
    plain, room, phone = (mixed_pairs(*data, 10.0, 3, 1, condition) for condition in (None, "room", "telephone"))
    for one, heard, called, again in zip(plain, room, phone, mixed_pairs(*data, 10.0, 3, 1, "room")):
        assert one.name == heard.name == called.name and np.array_equal(heard.noisy, again.noisy)
        share = heard.clean / np.where(one.clean, one.clean, 1)  # but for the level, the clean speech is the dry one
        assert np.ptp(share[np.abs(one.clean) > 1e-3]) < 1e-4
        noise = heard.noisy - heard.clean
        assert 10 * math.log10(power(heard.clean) / power(noise)) < 10  # noise, and the echoes
        assert called.noisy.shape == called.clean.shape == one.clean.shape
        for sound in (called.noisy, called.clean):
            bins = np.abs(np.fft.rfft(sound)) ** 2
            hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
            assert bins[hertz > 4000].sum() < 1e-6 * bins.sum()
        low = np.abs(np.fft.rfft(called.clean))[np.fft.rfftfreq(len(called.clean), 1 / RATE) < 250]
        assert (low ** 2).sum() < 1e-4 * (np.abs(np.fft.rfft(one.clean)) ** 2).sum()
    with pytest.raises(ValueError, match="must be one of room, telephone"):
        mixed_pairs(*data, 10.0, 3, 1, "cave")


def test_known_systems_get_the_measures_they_must(data):
    pairs = mixed_pairs(*data, 5.0, 2)
    known = {id(pair.noisy): pair.clean for pair in pairs}
    systems = {"nothing": lambda x: x, "oracle": lambda x: known[id(x)],
               "destroyer": lambda x: np.random.default_rng(0).standard_normal(len(x)).astype(np.float32)}
    made = evaluate_enhancers(systems, {"mixed": pairs}, judges=False)["mixed"]
    for key in ("pesq", "stoi", "si_sdr", "destroyed"):
        assert made["nothing"][key] == made["noisy"][key] and made["oracle"][key] == made["clean"][key]
    assert made["oracle"]["stoi"] == pytest.approx(1, abs=1e-6) and made["oracle"]["destroyed"] == 0
    assert made["destroyer"]["destroyed"] == 2 and made["destroyer"]["si_sdr"] < -20
    assert math.isnan(made["noisy"]["rtf"]) and made["nothing"]["clips"] == 2
    table = format_report("enhance", {"mixed": made})
    assert "mixed (2 clips)" in table and "destroyer" in table


def test_what_a_system_fails_on_is_named_and_in_no_mean(data):
    pairs = mixed_pairs(*data, 5.0, 3)
    calls = []

    def fragile(audio):
        calls.append(len(audio))
        if len(calls) == 1:
            return np.full_like(audio, np.nan)
        if len(calls) == 2:
            raise RuntimeError("no memory\nmore")
        return audio

    made = evaluate_enhancers({"fragile": fragile, "mute": np.zeros_like}, {"mixed": pairs}, judges=False)["mixed"]
    own, last = made["fragile"], evaluate_enhancers({}, {"mixed": pairs[2:]}, judges=False)["mixed"]["noisy"]
    assert own["failed"] == {pairs[0].name: "it made NaN or infinite samples", pairs[1].name: "no memory"}
    assert own["pesq"] == last["pesq"] and own["stoi"] == last["stoi"] and own["clips"] == 3
    mute = made["mute"]
    assert math.isnan(mute["pesq"]) and mute["stoi"] == pytest.approx(0, abs=1e-6) and mute["destroyed"] == 3
    table = format_report("enhance", {"mixed": made})
    assert "fragile: failed on 2 of 3 clips" in table and "(it made NaN or infinite samples; no memory)" in table


def test_the_command_measures_a_saved_model(files, tmp_path):
    torch.manual_seed(0)
    SpeechEnhancementPipeline(SpeechEnhancer(**SMALL)).save_pretrained(tmp_path / "model")
    result = CliRunner().invoke(app, ["evaluate", "enhance", "--speech", str(files / "speech.safetensors"), "--noise",
                                      str(files / "noise.safetensors"), "--snr", "0", "--snr", "inf", "--limit", "1",
                                      "--peer", "none", "--no-judges", "-m", str(tmp_path / "model"), "--json"])
    facts = json.loads(result.stdout)
    assert result.exit_code == 0 and list(facts) == ["mixed at 0 dB", "clean speech"]
    assert set(facts["mixed at 0 dB"]) == {"noisy", "clean", "photophone"}
    assert facts["clean speech"]["noisy"]["stoi"] == pytest.approx(1, abs=1e-6)
    result = CliRunner().invoke(app, ["evaluate", "enhance", "--speech", str(files / "speech.safetensors"), "--noise",
                                      str(files / "noise.safetensors"), "--condition", "telephone", "--limit", "1",
                                      "--peer", "none", "--no-judges", "-m", str(tmp_path / "model"), "--json"])
    assert list(json.loads(result.stdout)) == ["telephone at 10 dB"]
    with pytest.raises(ValueError, match="clips of 3 to 10 s for 99"):
        mixed_pairs(SpeechDataset(files / "speech.safetensors"), SpeechDataset(files / "noise.safetensors"), 0, 99)
