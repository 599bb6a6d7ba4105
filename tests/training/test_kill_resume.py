"""Real trainings: the loss falls, and a run that was killed continues bit for bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from tiny import SMALL_GENERATOR, SMALL_TOKENIZER, write_prepared

from photophone import FlowARGenerator, Latent1DTokenizer
from photophone.data.images import ImageDataset
from photophone.text.captions import train_caption_tokenizer
from photophone.training.loop.checkpoint import state_checksum
from photophone.training.loop.command import train_command
from photophone.training.loop.config import MAY_CHANGE, TrainConfig
from photophone.training.loop.trainer import Trainer
from photophone.training.tasks.image_conditions import Captions
from photophone.training.tasks.image_generator import ImageGeneratorTask
from photophone.training.tasks.image_tokenizer import ImageTokenizerTask

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_image_tokenizer.py"
STEPS, EVERY = 120, 10
PATIENCE = 600  # seconds, for machines that are busy
NEVER = {"preview_every": 0, "validate_every": 0}


def weights(folder, step):
    path = folder / "checkpoints" / f"step-{step:08d}"
    return {name: (path / name).read_bytes() for name in ("model.safetensors", "ema.safetensors")}


def metrics(folder):
    """Logged lines, without the speed, which is never the same twice."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "examples_per_second"} for line in lines]


@pytest.fixture
def start():
    """``start(config, output)`` runs the script in a process of its own, which does not outlive the test."""
    processes = []

    def call(config, output, *more):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[1])}
        command = [sys.executable, SCRIPT, "--config", config, "--output", output, *more]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                          text=True))
        return processes[-1]

    yield call
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_for(path, process, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"no {path} after {seconds} s"
        time.sleep(0.005)


def test_a_killed_training_of_a_tokenizer_continues_bit_for_bit(tmp_path, start):
    data = write_prepared(tmp_path / "icons.safetensors")
    settings = {"data": str(data), "validation": str(data), "model": SMALL_TOKENIZER, "steps": STEPS, "batch_size": 16,
                "warmup_steps": 10, "learning_rate": 3e-3, "log_every": 10, "checkpoint_every": EVERY,
                "validate_every": 60, "preview_every": 120}
    config, whole, killed = tmp_path / "config.yaml", tmp_path / "whole", tmp_path / "killed"
    config.write_text(yaml.safe_dump(settings))
    first, second = start(config, whole), start(config, killed)
    wait_for(killed / "checkpoints" / f"step-{2 * EVERY:08d}" / "state.json", second)
    second.send_signal(signal.SIGKILL)
    assert second.wait() == -signal.SIGKILL
    left = sorted((killed / "checkpoints").glob("step-*"))
    assert 2 * EVERY <= int(left[-1].name[5:]) < STEPS
    resumed = start(config, killed, "--resume")
    for process in (first, resumed):
        output = process.communicate(timeout=PATIENCE)[0]
        assert process.returncode == 0, output
        assert f"{STEPS} of {STEPS} steps done" in output
    assert (weights(whole, STEPS) == weights(killed, STEPS)) is True  # no diff of a megabyte in the report
    assert metrics(whole) == metrics(killed)
    exports = [(folder / "export" / "diffusion_pytorch_model.safetensors").read_bytes() for folder in (whole, killed)]
    assert exports[0] == exports[1]
    losses = [line["loss"] for line in metrics(whole) if "loss" in line]
    assert len(losses) == STEPS // 10 and losses[-1] < 0.25 * losses[0]
    check_exported_tokenizer(whole, data)


def check_exported_tokenizer(folder, data):
    """The exported weights reconstruct the icons as the log says, far better than their mean colour."""
    model, images = Latent1DTokenizer.from_pretrained(folder / "export"), ImageDataset(data).batch(range(64))
    error = (model.decode(model.encode(images)) - images).square().mean(dim=(1, 2, 3))
    logged = [line["validation_psnr"] for line in metrics(folder) if "validation_psnr" in line]
    assert float((-10 * (error / 4).log10()).mean()) == pytest.approx(logged[-1], abs=0.01)
    assert float(error.mean()) < 0.5 * float(images.var(dim=(0, 2, 3)).mean())
    assert (folder / "loss.png").exists() and (folder / "pictures" / f"step-{STEPS:08d}.png").exists()


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Captions, their vocabulary, an image tokenizer and the tokens of 64 icons."""
    data = ImageDataset(write_prepared(tmp_path_factory.mktemp("data") / "icons.safetensors"))
    torch.manual_seed(0)
    tokenizer = Latent1DTokenizer(**SMALL_TOKENIZER).eval()
    vocabulary = train_caption_tokenizer([fields["caption"] for fields in data.fields], SMALL_GENERATOR["vocab_size"],
                                         SMALL_GENERATOR["max_text_length"])
    return data, vocabulary, tokenizer, tokenizer.encode(data.batch(range(64)))


def generator_trainer(parts, folder, resume=False, weights_seed=0, allow_changes=False, **changes):
    data, vocabulary, tokenizer, tokens = parts
    torch.manual_seed(weights_seed)
    model = FlowARGenerator(**SMALL_GENERATOR)
    model.fit_statistics(tokens)
    task = ImageGeneratorTask(model, Captions(vocabulary), data, tokens, image_tokenizer=tokenizer, validation=data,
                              preview_options={"num_inference_steps": 2})
    settings = {"steps": 60, "batch_size": 16, "optimizer": "muon", "learning_rate": 3e-3, "warmup_steps": 5,
                "log_every": 5, "validate_every": 30, "preview_every": 30, "checkpoint_every": 25}
    return Trainer(task, TrainConfig("icons", **{**settings, **changes}), folder, resume, allow_changes)


def test_a_stopped_training_of_a_generator_continues_bit_for_bit(parts, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert generator_trainer(parts, whole).run() == 60
    assert generator_trainer(parts, stopped).run(max_seconds=0) == 1
    trainer = generator_trainer(parts, stopped, resume=True, weights_seed=99)  # other initial weights must not matter
    assert trainer.step == 1
    torch.manual_seed(1234)  # nor what was drawn before
    assert trainer.run() == 60
    assert (weights(whole, 60) == weights(stopped, 60)) is True
    losses = [line["loss"] for line in metrics(whole) if "loss" in line]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    validation = [line["validation_loss"] for line in metrics(whole) if "validation_loss" in line]
    assert len(validation) == 2 and validation[1] < validation[0]
    exported = FlowARGenerator.from_pretrained(whole / "export" / "token_generator")
    assert float(exported.token_std.std()) > 0  # the statistics travel with the weights
    assert (whole / "export" / "text_tokenizer" / "tokenizer.json").exists()


@pytest.mark.parametrize("changes", [{"accumulation": 4}, {"precision": "bf16"}], ids=str)
def test_accumulation_and_precision_train(parts, tmp_path, changes):
    AcceleratorState._reset_state(reset_partial_state=True)  # accelerate holds one precision a process
    trainer = generator_trainer(parts, tmp_path, steps=3, log_every=1, **NEVER, **changes)
    assert trainer.run() == 3
    assert all(0 < line["loss"] < 10 for line in metrics(tmp_path))
    AcceleratorState._reset_state(reset_partial_state=True)


def test_used_folders_and_other_settings_are_refused(parts, tmp_path):
    generator_trainer(parts, tmp_path, steps=2, checkpoint_every=1, **NEVER).run()
    with pytest.raises(ValueError, match="already holds checkpoints; use --resume"):
        generator_trainer(parts, tmp_path)
    with pytest.raises(ValueError, match="made with other settings: batch_size 16, now 8; optimizer 'muon', now 'ada"):
        generator_trainer(parts, tmp_path, resume=True, batch_size=8, optimizer="adamw")
    task = ImageTokenizerTask(Latent1DTokenizer(**SMALL_TOKENIZER), parts[0])
    with pytest.raises(ValueError, match="of 'FlowARGenerator', not of 'Latent1DTokenizer'"):
        Trainer(task, TrainConfig("icons"), tmp_path, resume=True)
    with pytest.raises(ValueError, match="steps is 1, but .*step-00000002 has done 2; raise steps"):
        generator_trainer(parts, tmp_path, resume=True, steps=1)


@pytest.fixture(scope="module")
def checkpoint_of_a_run(parts, tmp_path_factory):
    """The folder of a run of two steps with settings of a task, which no test changes."""
    folder = tmp_path_factory.mktemp("run")
    generator_trainer(parts, folder, steps=2, checkpoint_every=1, task={"l1": 0.5, "networks": {"depth": 2}},
                      **NEVER).run()
    return folder


@pytest.mark.parametrize(("changes", "words"), [
    ({"learning_rate": 1e-4}, "learning_rate 0.003, now 0.0001"),
    ({"final_learning_rate": 1e-4}, "final_learning_rate 1e-05, now 0.0001"),
    ({"warmup_steps": 7}, "warmup_steps 5, now 7"),
    ({"task": {"l1": 0.25, "networks": {"depth": 2}}}, "task.l1 0.5, now 0.25"),
    ({"task": {"l1": 0.5, "networks": {"depth": 3}}}, "task.networks.depth 2, now 3"),
    ({"task": {"networks": {"depth": 2}}}, "task.l1 0.5, now not set"),
    ({"task": {"l1": 0.5, "l2": 1.0, "networks": {"depth": 2}}}, "task.l2 not set, now 1.0"),
    ({"model": {"width": 8}}, "model.width not set, now 8"),
    ({"precision": "bf16"}, "precision 'no', now 'bf16'"),
    ({"ema_decay": 0.9}, "ema_decay 0.999, now 0.9"),
    ({"gradient_clip": 0.5}, "gradient_clip 1.0, now 0.5"),
    ({"weight_decay": 0.1}, "weight_decay 0.01, now 0.1"),
    ({"betas": (0.8, 0.9)}, r"betas \[0.9, 0.95\], now \[0.8, 0.9\]"),
    ({"rates": {"token_head": 0.5}}, "rates.token_head not set, now 0.5"),
    ({"seed": 1}, "seed 0, now 1"),
    ({"init_from": "elsewhere"}, "init_from None, now 'elsewhere'"),
], ids=lambda value: next(iter(value)) if isinstance(value, dict) else "")
def test_a_changed_setting_is_refused_by_name(parts, checkpoint_of_a_run, changes, words):
    AcceleratorState._reset_state(reset_partial_state=True)  # accelerate holds one precision a process
    settings = {"steps": 2, "task": {"l1": 0.5, "networks": {"depth": 2}}, **changes}
    with pytest.raises(ValueError, match=f"was made with other settings: {words}; undo that"):
        generator_trainer(parts, checkpoint_of_a_run, resume=True, **settings)
    AcceleratorState._reset_state(reset_partial_state=True)


def test_what_only_watches_the_run_may_change(parts, checkpoint_of_a_run):
    watching = {"steps": 90, "log_every": 3, "preview_every": 4, "validate_every": 5, "checkpoint_every": 6}
    assert set(watching) | {"validation", "compile"} == set(MAY_CHANGE)
    trainer = generator_trainer(parts, checkpoint_of_a_run, resume=True, validation="elsewhere",
                                task={"l1": 0.5, "networks": {"depth": 2}}, **watching)
    assert trainer.step == 2


def test_a_checkpoint_from_before_a_setting_existed_has_its_default(parts, checkpoint_of_a_run, tmp_path):
    folder = tmp_path / "older"
    shutil.copytree(checkpoint_of_a_run, folder)
    for path in folder.glob("checkpoints/*/state.json"):
        state = json.loads(path.read_text())
        del state["config"]["rates"], state["config"]["weight_decay"]
        path.write_text(json.dumps({**state, "checksum": state_checksum(state)}))
    task = {"l1": 0.5, "networks": {"depth": 2}}
    assert generator_trainer(parts, folder, resume=True, task=task).step == 2
    with pytest.raises(ValueError, match="settings: weight_decay 0.01, now 0.2; undo"):
        generator_trainer(parts, folder, resume=True, task=task, weight_decay=0.2)


def exported(folder):
    files = sorted(path for path in (folder / "export").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_of_damaged_checkpoints_the_one_before_is_used_and_said(parts, tmp_path):
    run = {"steps": 3, "checkpoint_every": 1, **NEVER}
    generator_trainer(parts, tmp_path, **run).run()
    whole, export = weights(tmp_path, 3), exported(tmp_path)
    damage(tmp_path / "checkpoints" / "step-00000003" / "ema.safetensors")
    trainer = generator_trainer(parts, tmp_path, resume=True, **run)
    assert trainer.step == 2
    assert len(trainer.notes) == 1
    assert "ema.safetensors is missing or damaged" in trainer.notes[0]
    assert "resuming from step-00000002 before it" in trainer.notes[0]
    trainer.run()
    assert (weights(tmp_path, 3) == whole) is True and (exported(tmp_path) == export) is True
    for path in tmp_path.glob("checkpoints/*/state.json"):
        damage(path)
    with pytest.raises(ValueError, match="no checkpoint in .* is whole: .*step-00000003.*step-00000002"):
        generator_trainer(parts, tmp_path, resume=True, **run)


def damage(path):
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("state", ["missing", "stale", "half"])
def test_a_finished_run_without_its_right_export_makes_it(parts, tmp_path, state):
    """As a kill between the last checkpoint and the export leaves it."""
    run = {"steps": 2, "checkpoint_every": 1, **NEVER}
    generator_trainer(parts, tmp_path, **run).run()
    export, file = exported(tmp_path), next((tmp_path / "export").rglob("*.safetensors"))
    if state == "missing":
        shutil.rmtree(tmp_path / "export")
    elif state == "half":
        file.unlink()
    else:
        damage(file)
    assert generator_trainer(parts, tmp_path, resume=True, **run).run() == 2
    assert (exported(tmp_path) == export) is True


def test_what_an_export_no_longer_holds_goes_with_the_old_one(parts, tmp_path):
    run = {"steps": 2, "checkpoint_every": 1, **NEVER}
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "stale.safetensors").write_bytes(b"of another run")
    generator_trainer(parts, tmp_path, **run).run()
    assert not (tmp_path / "export" / "stale.safetensors").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".export")]


def test_two_trainings_of_one_folder_are_refused(parts, tmp_path):
    first, second = (generator_trainer(parts, tmp_path, steps=2, **NEVER) for _ in range(2))
    with first._holding_folder(), pytest.raises(ValueError, match="another training is using"):
        second.run()
    assert not (tmp_path / "export").exists()
    assert first.run() == 2


def test_the_same_data_elsewhere_is_the_same_and_other_data_in_its_place_is_not(parts, tmp_path):
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "data.safetensors").write_bytes(b"the same data")
        (tmp_path / folder / "data.jsonl").write_text("the same captions")
        (tmp_path / folder / "more.safetensors").write_bytes(b"more data")

    def config(folder):
        task = {"tokens": str(tmp_path / folder), "more_data": [str(tmp_path / folder / "more.safetensors")]}
        return TrainConfig(str(tmp_path / folder / "data.safetensors"), task=task, steps=2, checkpoint_every=1, **NEVER)

    task = generator_trainer(parts, tmp_path / "run").task
    Trainer(task, config("first"), tmp_path / "run").run()
    shutil.rmtree(tmp_path / "first")
    assert Trainer(task, config("second"), tmp_path / "run", resume=True).step == 2
    (tmp_path / "second" / "data.jsonl").write_text("other captions")
    with pytest.raises(ValueError, match="settings: data has other contents than what the run was made with; task.tok"):
        Trainer(task, config("second"), tmp_path / "run", resume=True)
    (tmp_path / "second" / "data.jsonl").write_text("the same captions")
    (tmp_path / "second" / "more.safetensors").write_bytes(b"other data")
    with pytest.raises(ValueError, match="task.more_data.0 has other contents .*task.tokens has other contents"):
        Trainer(task, config("second"), tmp_path / "run", resume=True)


def test_allowed_changes_are_said_kept_and_used(parts, tmp_path):
    run = {"steps": 2, "checkpoint_every": 1, **NEVER}
    generator_trainer(parts, tmp_path, **run).run()
    changes = {**run, "steps": 4, "weight_decay": 0.2, "betas": (0.8, 0.9), "learning_rate": 1e-3}
    trainer = generator_trainer(parts, tmp_path, resume=True, allow_changes=True, **changes)
    assert trainer.notes == ["from step 2 on: learning_rate 0.003, now 0.001",
                             "from step 2 on: weight_decay 0.01, now 0.2",
                             "from step 2 on: betas [0.9, 0.95], now [0.8, 0.9]"]
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    assert all(group["weight_decay"] in (0.2, 0.0) for group in groups)
    assert [group["betas"] for group in groups if "betas" in group] == [(0.8, 0.9)] * 2
    trainer.run()
    state = json.loads((tmp_path / "checkpoints" / "step-00000004" / "state.json").read_text())
    assert [change["step"] for change in state["changes"]] == [2] and len(state["changes"][0]["settings"]) == 3


@pytest.mark.parametrize(("arguments", "words"), [
    (["--config", "nowhere.yaml", "--output", "out"], "nowhere.yaml"),
    (["--config", "config.yaml", "--output", "out", "stps=3"], "unknown settings"),
    (["--config", "config.yaml", "--output", "out"], "not a prepared image file"), (["--output", "out"], "--config"),
])
def test_wrong_arguments_are_usage_errors(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("data: nowhere.safetensors\n")
    monkeypatch.setattr(sys, "argv", ["train", *arguments])

    def build_task(config):
        return ImageTokenizerTask(Latent1DTokenizer(**SMALL_TOKENIZER), ImageDataset(config.data))

    with pytest.raises(SystemExit) as error:
        train_command("Train.", build_task)
    output = capsys.readouterr().err
    assert error.value.code == 2 and words in output and "Traceback" not in output
