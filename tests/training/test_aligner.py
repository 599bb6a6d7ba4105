"""The aligner: exact paths, the shipped weights against the teacher's times, training, the scripts."""

import itertools
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from speech import SENTENCES, write_speech

from photophone.data.speech import SpeechDataset, write_prepared
from photophone.text.phonemes import encode_phonemes
from photophone.training.alignment.clips import align_clip, align_prepared, text_phonemes, worst_fit
from photophone.training.alignment.measure import boundary_report
from photophone.training.alignment.model import PhonemeAligner
from photophone.training.alignment.paths import TooShort, best_path, ctc_path
from photophone.training.alignment.task import AlignerTask, boundary_errors, frame_labels
from photophone.training.voice.plan import ALIGNER

ROOT = Path(__file__).parents[2]
TINY = {"num_mels": 16, "width": 16, "depth": 2, "hidden": 16}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return write_speech(tmp_path_factory.mktemp("speech") / "voice.safetensors")


@pytest.fixture(scope="module")
def aligner():
    return PhonemeAligner.from_pretrained(ALIGNER)


def run(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")


def test_the_best_path_is_the_best_of_all_paths():
    log_probs = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    ids = torch.tensor([0, 3, 3, 1])
    counts, scores = best_path(log_probs, ids)
    every = [torch.tensor(c) for c in itertools.product(range(1, 8), repeat=4) if sum(c) == 7]

    def total(counts):
        return float(log_probs[torch.arange(7), ids.repeat_interleave(counts)].sum())

    assert total(counts) == pytest.approx(max(map(total, every)), abs=1e-6)
    assert float((scores * counts).sum()) == pytest.approx(total(counts), abs=1e-4)
    with pytest.raises(TooShort, match="3 frames of 25 ms hold no 4 phonemes"):
        best_path(log_probs[:3], ids)


def test_a_ctc_path_gives_blanks_to_both_sides():
    log_probs = torch.full((8, 4), -20.0)  # 0 blank blank 1 1 blank 2 blank, the last class is the blank
    for frame, label in enumerate([0, 3, 3, 1, 1, 3, 2, 3]):
        log_probs[frame, label] = 0.0
    assert ctc_path(log_probs, torch.tensor([0, 1, 2]))[0].tolist() == [2, 4, 2]


def test_labels_are_the_phonemes_in_the_middle_of_frames():
    ids = torch.tensor([0, 7, 0])
    assert frame_labels([0.05, 0.05, 0.05], ids, 6, 0.025).tolist() == [0, 0, 7, 7, 0, 0]
    assert frame_labels([0.05, 0.05, 0.05], ids, 3, 0.025, speed=2.0).tolist() == [0, 7, 0]
    assert frame_labels([0.05, 0.05, 0.05], ids, 7, 0.025, lead=0.025).tolist() == [0, 0, 0, 7, 7, 0, 0]
    errors = boundary_errors(torch.tensor([0.05, 0.1, 0.0]), [0.05, 0.05, 0.05])
    torch.testing.assert_close(errors, torch.tensor([0.0, 0.05], dtype=torch.float64))


def test_the_shipped_aligner_finds_the_times_of_the_teacher(aligner, prepared):
    """The bar is 25 ms; these sentences are too few to say more."""
    report = boundary_report(aligner, SpeechDataset(prepared))
    assert report["clips"] == len(SENTENCES)
    assert report["median_ms"] < 20 and report["sounds_median_ms"] < 20 and report["within_25_ms"] > 0.85
    assert sum(weight.numel() for weight in aligner.parameters()) * 2 < 2_000_000


def test_times_add_up_and_words_of_another_clip_do_not_fit(aligner, prepared, tmp_path):
    data = SpeechDataset(prepared)
    made = align_clip(aligner, data.clip(0), text_phonemes(SENTENCES[0][0]))
    assert len(made.seconds) == len(made.phonemes) == len(encode_phonemes(made.phonemes.strip("_")))
    assert sum(made.seconds) == pytest.approx(len(data.clip(0)) / data.sample_rate, abs=1e-3)
    fields = [{"text": SENTENCES[row][0], "clip": f"{row}.wav"} for row in range(len(data))]
    fields[1]["text"] = "Somebody said nothing like that to us."
    fields[2]["text"] = "что"
    audio = [data.samples(row).numpy() for row in range(len(data))]
    audio.append(np.zeros(400, np.int16))
    fields.append({"text": "This is said in no time at all.", "clip": "short.wav"})
    write_prepared(tmp_path / "own.safetensors", audio, fields, data.sample_rate)
    left_out = align_prepared(aligner, tmp_path / "own.safetensors", tmp_path / "aligned.safetensors")
    assert left_out.keys() == {"1.wav", "2.wav", "short.wav"}
    assert left_out["1.wav"][0] < -1.5 and "does not fit its text" in left_out["1.wav"][1]
    assert "cannot be read as English" in left_out["2.wav"][1] and "too short" in left_out["short.wav"][1]
    kept = SpeechDataset(tmp_path / "aligned.safetensors")
    assert len(kept) == len(SENTENCES) - 2 and all(one["fit"] > -1 for one in kept.fields)
    assert torch.equal(kept.samples(0), data.samples(0))


def test_a_reader_is_measured_by_herself():
    assert worst_fit([-0.2, -0.3, -5.0]) == -1.2  # clear speech: nothing is left out for being a bit worse
    assert worst_fit([-1.4, -1.3, -9.0]) == pytest.approx(-2.2)
    assert worst_fit([-4.0, -3.0]) == worst_fit([]) == -2.5  # none of them fits


@pytest.mark.parametrize("objective", ["frames", "ctc"])
def test_training_lowers_the_loss(prepared, objective):
    torch.manual_seed(0)
    data = SpeechDataset(prepared)
    task = AlignerTask(PhonemeAligner(**TINY), data, data, objective=objective, crop_seconds=1.0)
    optimizer, losses = torch.optim.Adam(task.model.parameters(), 1e-2), []
    for step in range(12):
        batch = task.batch(np.arange(4), np.random.default_rng(0))
        loss, _ = task.loss(task.model, batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert task.validate(task.model.eval())["validation_median_ms"] >= 0


def test_what_a_batch_holds(prepared):
    task = AlignerTask(PhonemeAligner(**TINY), SpeechDataset(prepared), noise=SpeechDataset(prepared))
    batch = task.batch(np.arange(3), np.random.default_rng(1))
    again = task.batch(np.arange(3), np.random.default_rng(1))
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert batch["audio"].shape[1] == 400 * batch["labels"].shape[1] and batch["audio"].isfinite().all()
    assert task.model(batch["audio"]).shape[:2] == batch["labels"].shape
    with pytest.raises(ValueError, match="objective must be one of frames, ctc, got 'both'"):
        AlignerTask(task.model, task.data, objective="both")


def test_scripts_align_check_and_draw(prepared, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="needs photophone[train]")
    run(monkeypatch, "align_speech.py", prepared, "-o", tmp_path / "a.safetensors", "--picture", tmp_path / "a.png")
    assert f"{len(SENTENCES)} clips with the times" in capsys.readouterr().out
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG") and (tmp_path / "a.left_out.tsv").exists()
    run(monkeypatch, "align_speech.py", tmp_path / "a.safetensors", "--check", "--limit", 2)
    assert json.loads(capsys.readouterr().out)["clips"] == 2
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "align_speech.py", prepared)
    assert stop.value.code == 2 and "give either --output or --check" in capsys.readouterr().err
    for fields in (data := SpeechDataset(prepared)).fields:
        fields.pop("seconds_per_phoneme")
    write_prepared(tmp_path / "b.safetensors", [data.samples(0).numpy()], data.fields[:1], 16_000)
    with pytest.raises(SystemExit):
        run(monkeypatch, "align_speech.py", tmp_path / "b.safetensors", "--check")
    assert "does not say the seconds" in capsys.readouterr().err
