"""Recording a head while it generates, and short trainings on what was recorded."""

import json
import math
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from speech import small_codec, small_speech
from tiny import small_pipeline

from photophone import FlowARGenerator, SpeechFlowAR, TextToImagePipeline, TextToSpeechPipeline
from photophone.core.noise import SeededNoise
from photophone.generators.few_steps import with_flow_map, without_flow_map
from photophone.heads import CategoricalHead, DiffusionHead, FlowHead, build_head
from photophone.heads.base import ConditionedNetwork
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.trainer import Trainer
from photophone.training.record import RecordingHead, load_recording, record, save_part
from photophone.training.tasks.few_steps import FewStepsTask, few_steps_task

SCRIPTS = Path(__file__).parents[2] / "scripts"
HEAD = {"width": 32, "depth": 1, "num_heads": 2}
IMAGES = {"num_tokens": 8, "token_dim": 4, "vocab_size": 64, "max_text_length": 8, "width": 32, "depth": 1,
          "num_heads": 2}
SPEECH = {"token_dim": 4, "text_width": 32, "text_depth": 1, "aligned_depth": 1, "width": 32, "depth": 1,
          "num_heads": 2, "window": 4, "cond_width": 16, "head_config": HEAD}


def shaken(model):
    torch.manual_seed(0)
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    return model.eval()


def images(head="local_dit", **config):
    if head == "local_dit":
        config = {**HEAD, "cell_size": 4, **config}
    return shaken(FlowARGenerator(**IMAGES, cell_size=4, head=head, head_config=config))


def make(generator, head, rows=6, seed=0):
    noise = SeededNoise.from_seeds(range(seed, seed + rows))
    sampler = generator.Sampler(guidance_scale=2.0)
    return record(generator, head, generator.example_condition(rows, seed), sampler, noise)


@pytest.mark.parametrize("generator", [images(), shaken(SpeechFlowAR(**SPEECH))], ids=["images", "speech"])
def test_a_recording_holds_the_teachers_own_steps(generator):
    own = generator.token_head
    head = RecordingHead(own, 5, (1.0, 3.0))
    path = make(generator, head)
    assert generator.token_head is own and not head.calls
    times, states, scales = path["times"], path["states"].float(), path["guidance"]
    assert (times[:, 0] == 1).all() and (times[:, -1] == 0).all() and (times.diff() < 0).all()
    assert len(times.unique(dim=0)) > 1  # each call has its own
    assert scales.min() >= 1 and scales.max() <= 3 and (scales == 2).sum() > 1 and len(scales.unique()) > 3
    # with no guidance the conditional rows alone tell the steps
    head = RecordingHead(own, 5, (1.0, 1.0))
    path = make(generator, head)
    rows = (path["guidance"] == 1).nonzero()[:, 0]
    assert len(rows) > 1
    states, times = path["states"].float(), path["times"]
    projected = own.project(path["hidden"][rows].float())
    for step in range(5):
        now = states[rows, step]
        slope = own.mean_velocity(projected, now, times[rows, step], times[rows, step])
        span = (times[rows, step + 1] - times[rows, step]).reshape(-1, 1, 1)
        torch.testing.assert_close(now + span * slope, states[rows, step + 1], atol=5e-3, rtol=5e-3)


def test_rows_that_have_ended_are_left_out():
    generator = shaken(SpeechFlowAR(**SPEECH))
    condition = generator.example_condition(6)
    path = make(generator, RecordingHead(generator.token_head, 3, (1.0, 3.0)))
    assert len(path["times"]) == int(condition.durations.sum()) // generator.config.patch_size


class ExactNoise(ConditionedNetwork):
    """The noise that is expected in x of data N(condition, 0.25), beside a variance of no interest."""

    def __init__(self, head):
        super().__init__()
        self.tables = head.tables()
        self.input_proj = torch.nn.Linear(1, 1)

    def project(self, condition):
        return condition

    def denoise(self, x, t, projected, ends=None):
        kept = self.tables.alphas_cumprod.float()[t.long()].reshape(-1, 1, 1)
        noise = (1 - kept).sqrt() * (x - kept.sqrt() * projected) / (0.25 * kept + 1 - kept)
        return torch.cat([noise, torch.zeros_like(noise)], dim=-1)


def test_paths_of_a_diffusion_head_end_in_its_distribution():
    head = DiffusionHead(3, 3, 16, 1)
    head.net = ExactNoise(head)
    head.net.cond_embed = torch.nn.Linear(1, 1)
    recorder, mean = RecordingHead(head, 40, (2.0, 2.0), temperatures=(1.0, 1.0)), torch.tensor([0.5, -1.0, 0.2])
    hidden = torch.cat([mean.expand(4000, 1, -1), torch.zeros(4000, 1, 3)])
    made = recorder.sample(hidden, guidance=2.0, noise=SeededNoise.from_seeds(range(4000)))[:, 0]
    torch.testing.assert_close(made.mean(0), 2 * mean, atol=0.06, rtol=0)
    torch.testing.assert_close(made.std(0), torch.full((3,), 0.5), atol=0.05, rtol=0)
    with pytest.raises(ValueError, match="more than a process of 1000 steps"):
        RecordingHead(head, 900, (1.0, 2.0))._times()


def test_a_diffusion_head_becomes_a_flow_head_with_its_weights():
    generator = images("diffusion", width=32, depth=2)
    copy = with_flow_map(generator, (1.0, 4.0), 2)
    assert isinstance(copy.token_head, FlowHead) and copy.token_head.guidance_range == (1.0, 4.0)
    same = copy.state_dict()
    for name, weight in generator.state_dict().items():
        assert torch.equal(weight, same[name]) == ("final_layer.linear" not in name), name
    path = make(generator, RecordingHead(generator.token_head, 6, (1.0, 4.0)))
    assert path["states"].isfinite().all()


def test_other_heads_are_refused():
    with pytest.raises(ValueError, match="not of this CategoricalHead"):
        RecordingHead(CategoricalHead(8, 4), 4, (1.0, 2.0))
    few = with_flow_map(images(), (1.0, 3.0))
    with pytest.raises(ValueError, match="without a flow map"):
        RecordingHead(few.token_head, 4, (1.0, 2.0))
    with pytest.raises(ValueError, match="no flow map yet"):
        with_flow_map(few, (1.0, 3.0))


@pytest.mark.parametrize("generator", [images(), shaken(SpeechFlowAR(**SPEECH))], ids=["images", "speech"])
def test_a_copy_is_the_teacher_at_first_and_goes_back(generator):
    copy = with_flow_map(generator, (1.0, 3.0), 3)
    condition = generator.example_condition(3)

    def sample(model, **options):
        return model.generate(condition, noise=SeededNoise.from_seeds(range(3)),
                              sampler=model.Sampler(guidance_scale=1.0, **options)).values

    torch.testing.assert_close(sample(copy, num_inference_steps=4), sample(generator, num_inference_steps=4))
    calls = []
    copy.token_head.net.final_layer.register_forward_hook(lambda *_: calls.append(1))
    copy.generate(condition[[0]], noise=SeededNoise.from_seeds([0]))
    assert len(calls) % 3 == 0 and copy.sampler_settings == {"num_inference_steps": 3}
    back = without_flow_map(copy)
    assert back.sampler_settings == {} and without_flow_map(back) is back
    torch.testing.assert_close(sample(back, num_inference_steps=4), sample(generator, num_inference_steps=4))


def recorded(tmp_path, generator, parts=2):
    head = RecordingHead(generator.token_head, 6, (1.0, 3.0), seed=1)
    for number in range(parts):
        save_part([make(generator, head, 24, 100 * number)], tmp_path / "rows" / f"part-{number:03d}.safetensors")
    return tmp_path / "rows"


def test_training_lowers_the_error_of_few_steps_and_goes_on_bit_for_bit(tmp_path):
    generator = images()
    generator.save_pretrained(tmp_path / "teacher")
    rows = recorded(tmp_path, generator)
    settings = {"data": str(rows), "validation": str(rows), "init_from": str(tmp_path / "teacher"), "steps": 60,
                "batch_size": 32, "learning_rate": 5e-3, "final_learning_rate": 1e-4, "warmup_steps": 5,
                "weight_decay": 0.0, "ema_decay": 0.8, "log_every": 10, "validate_every": 20, "preview_every": 0,
                "checkpoint_every": 20, "task": {"guidance_range": [1.0, 3.0], "sampling_steps": 1, "counts": [1, 2]}}
    config = TrainConfig(**settings)

    def run(folder, seconds=None, resume=False):
        torch.manual_seed(0)
        trainer = Trainer(few_steps_task(config), config, tmp_path / folder, resume)
        trainer.run(seconds)
        return FlowARGenerator.from_pretrained(tmp_path / folder / "export")

    whole = run("whole")
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    errors = [line["validation_error_1"] for line in lines if "validation_error_1" in line]
    assert len(errors) == 3 and errors[-1] < 0.7 * errors[0]
    assert whole.sampler_settings == {"num_inference_steps": 1}
    after = whole.state_dict()
    for name, weight in generator.state_dict().items():  # the head alone learns
        assert torch.equal(weight, after[name]) or name.startswith("token_head."), name
    assert not torch.equal(after["token_head.net.blocks.0.qkv.weight"],
                           generator.token_head.net.blocks[0].qkv.weight)
    run("parts", seconds=0.0)
    assert list((tmp_path / "parts" / "checkpoints").iterdir())
    again = run("parts", resume=True)
    for name, weight in again.state_dict().items():
        assert torch.equal(weight, after[name]), name


def test_bad_recordings_and_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no part-"):
        load_recording(tmp_path)
    rows = recorded(tmp_path, images(), 1)
    data = load_recording(rows)
    assert set(data) == {"hidden", "guidance", "times", "states"}
    few = with_flow_map(images(), (1.0, 3.0))
    with pytest.raises(ValueError, match="objective must be one of"):
        FewStepsTask(few, data, objective="guess")
    with pytest.raises(ValueError, match="init_from is missing"):
        few_steps_task(TrainConfig(str(rows)))
    batch = FewStepsTask(few, data).batch(np.arange(4), np.random.default_rng(0))
    assert batch["states"].shape == (4, 7, 4, 4) and math.isfinite(float(batch["states"].sum()))


def test_losses_of_a_plain_head_and_of_a_flow_map_agree_at_first():
    """The usual loss trains the velocity, which the map leaves alone."""
    torch.manual_seed(0)
    plain = shaken(build_head("flow", in_dim=6, token_dim=3, width=16, depth=1))
    few = build_head("flow", in_dim=6, token_dim=3, width=16, depth=1, guidance_range=(1.0, 2.0))
    few.load_state_dict(plain.state_dict(), strict=False)
    hidden, data = torch.randn(2, 4, 6), torch.randn(2, 4, 3)
    noises = [SeededNoise.from_seeds([0, 1]) for _ in range(2)]
    assert torch.equal(plain.loss(hidden, data, noise=noises[0]), few.loss(hidden, data, noise=noises[1]))


def run_script(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(SCRIPTS / name), run_name="__main__")


def few_steps_config(tmp_path, folder):
    config = tmp_path / "few.yaml"
    config.write_text(json.dumps({
        "data": str(tmp_path / "rows"), "init_from": str(folder), "steps": 4, "batch_size": 8, "preview_every": 0,
        "checkpoint_every": 2, "task": {"guidance_range": [1.0, 3.0], "sampling_steps": 1}}))
    return config


def test_images_from_recording_to_a_pipeline(tmp_path, monkeypatch, capsys):
    small_pipeline().save_pretrained(tmp_path / "slow")
    (tmp_path / "captions.txt").write_text("red circle\nblue square, flat emoji\ngreen ring\n")
    record_it = ["record_head.py", "image", tmp_path / "captions.txt", "-m", tmp_path / "slow", "-o", tmp_path / "rows",
                 "--parts", 2, "--texts-per-part", 6, "--batch-size", 4, "--steps", 3, "--guidance-range", 1, 3,
                 "--null-share", 0.2]
    run_script(monkeypatch, *record_it)
    assert capsys.readouterr().out.count("12 rows") == 2  # two cells each
    before = load_recording(tmp_path / "rows")
    (tmp_path / "rows" / "part-001.safetensors").unlink()
    run_script(monkeypatch, *record_it)  # goes on behind what is there, with the same draws
    assert "part-000" not in capsys.readouterr().out
    for name, values in load_recording(tmp_path / "rows").items():
        assert torch.equal(values, before[name]), name
    (tmp_path / "teacher").mkdir()
    for part in ("token_generator", "text_tokenizer"):
        shutil.copytree(tmp_path / "slow" / part, tmp_path / "teacher" / part)
    run_script(monkeypatch, "train_few_steps.py", "--config", few_steps_config(tmp_path, tmp_path / "teacher"),
               "--output", tmp_path / "run")
    run_script(monkeypatch, "build_pretrained.py", "--image-tokenizer", tmp_path / "slow" / "image_tokenizer",
               "--generator", tmp_path / "run" / "export", "-o", tmp_path / "fast", "--revision", "2")
    fast = TextToImagePipeline.from_pretrained(tmp_path / "fast")
    result = fast("red circle", generator=torch.Generator().manual_seed(0))
    assert result.settings["num_inference_steps"] == 1
    assert fast("red circle", num_inference_steps=6, guidance_scale=9.0, solver="heun").images[0].size == (16, 16)
    # a training that starts from it begins with a plain head
    assert without_flow_map(fast.token_generator).token_head.guidance_range is None


def test_speech_from_recording_to_a_pipeline(tmp_path, monkeypatch, capsys):
    TextToSpeechPipeline(small_speech(), small_codec()).save_pretrained(tmp_path / "slow")
    (tmp_path / "sentences.csv").write_text(
        "text,split\nLight carries sound.,train\nWho goes there?,test\nYes.,train\n")
    run_script(monkeypatch, "record_head.py", "speech", tmp_path / "sentences.csv", "--split", "train", "-m",
               tmp_path / "slow", "-o", tmp_path / "rows", "--parts", 1, "--texts-per-part", 2, "--steps", 3,
               "--guidance-range", 1, 3)
    run_script(monkeypatch, "train_few_steps.py", "--config", few_steps_config(
        tmp_path, tmp_path / "slow" / "speech_generator"), "--output", tmp_path / "run")
    run_script(monkeypatch, "build_speech.py", "--codec", tmp_path / "slow" / "codec", "--generator",
               tmp_path / "run" / "export", "-o", tmp_path / "fast", "--revision", "2")
    fast = TextToSpeechPipeline.from_pretrained(tmp_path / "fast")
    seed = [torch.Generator().manual_seed(3) for _ in range(2)]
    (whole,) = fast("Yes. No.", generator=seed[0]).audio
    chunks = [chunk.audio for chunk in fast.stream("Yes. No.", generator=seed[1])]
    np.testing.assert_allclose(np.concatenate(chunks), whole, atol=1e-4)
    assert fast("Yes.").settings["num_inference_steps"] == 1
    with pytest.raises(SystemExit) as stop:
        run_script(monkeypatch, "record_head.py", "speech", tmp_path / "sentences.csv", "-m", tmp_path / "fast", "-o",
                   tmp_path / "more", "--steps", 3, "--guidance-range", 1, 3)
    assert stop.value.code == 2 and "without a flow map" in capsys.readouterr().err
