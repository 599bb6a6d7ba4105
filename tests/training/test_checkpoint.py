"""Checkpoints: whole, checked, of this model."""

import hashlib
import json
import pickle
import shutil

import pytest
import torch
from tiny import Hostile

from photophone.training.loop.checkpoint import (
    DamagedCheckpoint,
    list_checkpoints,
    load_checkpoint,
    remove_halves,
    save_checkpoint,
    state_checksum,
)
from photophone.training.loop.report import Reporter

MODEL = {"weight": torch.randn(3, 4).t(), "count": torch.tensor(5)}


def save(folder, step, **options):
    return save_checkpoint(folder, step, model=MODEL, ema={name: tensor + 1 for name, tensor in MODEL.items()},
                           optimizers=[{"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}],
                           info={"model_class": "Small", "config": {"seed": 1}}, **options)


def change_state(path, **changes):
    """Write other values into state.json, with the checksum that belongs to them."""
    state = {**json.loads((path / "state.json").read_text()), **changes}
    (path / "state.json").write_text(json.dumps({**state, "checksum": state_checksum(state)}))


def test_what_was_saved_comes_back(tmp_path):
    loaded = load_checkpoint(save(tmp_path, 7), "Small")
    assert loaded["state"]["step"] == 7 and loaded["state"]["config"] == {"seed": 1}
    for name, tensor in MODEL.items():
        assert torch.equal(loaded["model"][name], tensor) and torch.equal(loaded["ema"][name], tensor + 1)
    assert loaded["optimizers"][0]["param_groups"] == [{"lr": 0.1}]
    assert float(loaded["optimizers"][0]["state"][0]["step"]) == 3


def test_the_newest_are_kept(tmp_path):
    for step in (1, 2, 10, 9):
        save(tmp_path, step, keep=3)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000002", "step-00000009", "step-00000010"]
    save(tmp_path, 10, keep=3)  # the same step again replaces it
    assert len(list(tmp_path.iterdir())) == 3


def test_a_checkpoint_that_was_cut_short_is_never_listed_and_goes_with_the_next(tmp_path):
    whole = save(tmp_path, 1)
    part = tmp_path / ".step-00000002.77-0.part"  # as a killed process leaves it
    part.mkdir()
    (part / "model.safetensors").write_bytes(b"half")
    half = tmp_path / "step-00000003"
    half.mkdir()
    (half / "ema.safetensors").write_bytes(b"half removed")
    assert list_checkpoints(tmp_path) == [whole]
    assert list_checkpoints(tmp_path / "nowhere") == []
    remove_halves(tmp_path)
    assert load_checkpoint(save(tmp_path, 2), "Small")["state"]["step"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]


def test_a_failed_write_leaves_the_checkpoints_as_they_were(tmp_path, monkeypatch):
    whole = save(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr("photophone.core.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
        with pytest.raises(OSError, match="no space"):
            save(tmp_path, 2)
    assert list(tmp_path.iterdir()) == [whole]


def test_copies_of_a_user_are_neither_read_nor_removed(tmp_path):
    save(tmp_path, 21)
    for name in ("step-00000021-best", "step-backup", "step-21", "best"):
        shutil.copytree(tmp_path / "step-00000021", tmp_path / name)
    for step in (22, 23, 24):
        save(tmp_path, step)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000023", "step-00000024"]
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000021-best", "step-backup", "step-21", "best",
                                                          "step-00000023", "step-00000024"}


def test_steps_of_nine_digits_come_last(tmp_path):
    for step in (99_999_999, 100_000_000):
        save(tmp_path, step)
    assert list_checkpoints(tmp_path)[-1].name == "step-100000000"


def test_any_flipped_bit_of_the_state_is_noticed(tmp_path):
    path = save(tmp_path, 24)
    data = (path / "state.json").read_bytes()
    written = load_checkpoint(path, "Small")["state"]
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 7
        (path / "state.json").write_bytes(changed)
        try:
            assert load_checkpoint(path, "Small")["state"] == written  # white space alone
        except DamagedCheckpoint:
            continue


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "optimizer.pt"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_damaged_files_are_refused(tmp_path, name, damage):
    file = save(tmp_path, 1) / name
    data = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(data[:-3])
    else:
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} is missing or damaged"):
        load_checkpoint(file.parent, "Small")


@pytest.mark.parametrize(("change", "words"), [
    ({"model_class": "Other"}, "a checkpoint of 'Other', not of 'Small'"), ({"format": "other.1"}, "'other.1'"),
    ({"files": {}}, "does not list"), ({"files": {"model.safetensors": "0"}}, "does not list"),
])
def test_foreign_checkpoints_are_refused(tmp_path, change, words):
    path = save(tmp_path, 1)
    change_state(path, **change)
    with pytest.raises(ValueError, match=words):
        load_checkpoint(path, "Small")


@pytest.mark.parametrize("text", [None, "", "[1]", "null", "{", "{}"])
def test_other_folders_are_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "state.json").write_text(text)
    with pytest.raises(ValueError, match="is not a training checkpoint"):
        load_checkpoint(tmp_path, "Small")


def test_hostile_optimizer_states_do_not_run(tmp_path):
    path, marker = save(tmp_path, 1), tmp_path / "code-ran"
    (path / "optimizer.pt").write_bytes(pickle.dumps(Hostile(marker), protocol=2))
    state = json.loads((path / "state.json").read_text())
    digest = hashlib.sha256((path / "optimizer.pt").read_bytes()).hexdigest()
    change_state(path, files={**state["files"], "optimizer.pt": digest})
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(path, "Small")
    assert not marker.exists()


def test_reports_drop_what_came_after_the_checkpoint(tmp_path):
    report = Reporter(tmp_path)
    for step in (10, 20, 30):
        report.metrics(step, {"loss": 1 / step, "l2_loss": 2 / step})
    with report.path.open("a") as file:
        file.write('{"step": 40, "lo')  # the run was killed here
    resumed = Reporter(tmp_path, resume_step=20)
    resumed.metrics(30, {"loss": 0.5})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30] and lines[-1] == {"step": 30, "loss": 0.5}
    assert lines == resumed.history
    resumed.curve()
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.rglob("*.part"))
    assert Reporter(tmp_path, resume_step=0).history == []


@pytest.mark.parametrize("torn", [b'{"step": 40, "lo', b'{"step": 40}garbage}', b"{}", b'{"step": "4"}', b"\xff}",
                                  b"7"])
def test_a_torn_line_of_the_metrics_is_dropped_by_name(tmp_path, torn):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 10, "loss": 1.0}\n' + torn)
    report = Reporter(tmp_path, resume_step=50)
    assert report.history == [{"step": 10, "loss": 1.0}]
    assert len(report.notes) == 1 and "metrics.jsonl: line 2 cannot be read and is dropped" in report.notes[0]
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 10, "loss": 1.0}\n'
