"""Language models of speech learn pretokenised examples, go on where they stopped, and are written for their authors.
"""

import numpy as np
import pytest
import torch
import yaml
from tiny import arguments

from photophone import CosyVoiceFlow, CosyVoiceQwenLM, SeededNoise
from photophone.data.speech_examples import SpeechExamples, groups_of_like_length, write_examples
from photophone.generators.cosyvoice.spoken_text import SpeechLMSampler, SpokenText
from photophone.loading.registry import find
from photophone.training.loop.config import TrainConfig, load_config
from photophone.training.loop.trainer import Trainer
from photophone.training.tasks.speech_lm import SpeechLMTask
from photophone.training.tasks.speech_recipes import speech_generator_task

COUNTS = ((3, 9), (4, 14), (5, 11), (4, 17))
"""Ids and tokens of each example: some have speech for every turn of text, some do not."""
GREEDY = SpeechLMSampler(top_k=1, share=1.0, min_ratio=0.0)
SETTINGS = {"batch_size": 1, "learning_rate": 5e-3, "warmup_steps": 10, "log_every": 10, "validate_every": 0,
            "preview_every": 0, "ema_decay": 0.9, "checkpoint_every": 20}


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    generator = torch.Generator().manual_seed(0)
    path = tmp_path_factory.mktemp("examples") / "train.safetensors"
    write_examples(path, *([torch.randint(40, (row[part],), generator=generator) for row in COUNTS] for part in (0, 1)))
    return path


def lm_trainer(path, folder, resume=False, **changes):
    torch.manual_seed(0)
    model = CosyVoiceQwenLM(**arguments(find("cosyvoice2-0.5b")))
    task = SpeechLMTask(model, SpeechExamples(path), SpeechExamples(path), positions=64)
    return Trainer(task, TrainConfig(str(path), **{**SETTINGS, **changes}), folder, resume)


def test_a_tiny_model_learns_four_examples_and_says_them(examples, tmp_path):
    trainer = lm_trainer(examples, tmp_path, steps=300, validate_every=300)
    assert trainer.run() == 300
    model, data = CosyVoiceQwenLM.from_pretrained(tmp_path / "export").eval(), SpeechExamples(examples)
    official = CosyVoiceQwenLM.from_original(tmp_path / "export" / "original" / "llm.pt",
                                             **arguments(find("cosyvoice2-0.5b")))
    for ids, tokens in zip(data.ids, data.tokens, strict=True):
        for one in (model, official):
            made = one.generate(SpokenText.of_rows([ids.tolist()]), noise=SeededNoise.from_seeds([1]), sampler=GREEDY)
            assert made.values[0].tolist() == tokens.tolist()


def test_a_stopped_training_of_a_language_model_continues_bit_for_bit(examples, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert lm_trainer(examples, whole, steps=30).run() == 30
    assert lm_trainer(examples, stopped, steps=30).run(max_seconds=0) == 1
    assert lm_trainer(examples, stopped, resume=True, steps=30).run() == 30
    files = [folder / "checkpoints" / "step-00000030" / "ema.safetensors" for folder in (whole, stopped)]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(("model", "family"), [
    ({"family": "cosyvoice2-lm", **find("cosyvoice2-0.5b").tiny}, "cosyvoice2-0.5b"),
    ({"family": "cosyvoice1-lm", **find("cosyvoice-300m").tiny}, "cosyvoice-300m"),
    ({"family": "sparktts", **find("spark-tts-0.5b").tiny}, "spark-tts-0.5b")])
def test_the_config_chooses_the_family(examples, tmp_path, model, family):
    (tmp_path / "lm.yaml").write_text(yaml.safe_dump({"data": str(examples), "model": model, "steps": 2, **SETTINGS,
                                                      "task": {"positions": 40}}))
    config = load_config(tmp_path / "lm.yaml")
    task = speech_generator_task(config)
    assert isinstance(task.model, find(family).load_class()) and task.num_examples > 1
    assert Trainer(task, config, tmp_path / "run").run() == 2
    again = speech_generator_task(load_config(tmp_path / "lm.yaml", [f"init_from={tmp_path / 'run' / 'export'}",
                                                                     "model={}"]))
    assert type(again.model) is type(task.model)


def test_a_flow_learns_mel_frames_behind_tokens(tmp_path):
    """The same task: what is written may be continuous, and the vector of a speaker belongs to an example."""
    sizes = arguments(find("cosyvoice2-0.5b-flow"))
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(40, (count,), generator=generator) for count in (6, 8)]
    mels = [torch.randn(2 * len(row), sizes["mel_dim"], generator=generator) for row in ids]
    write_examples(tmp_path / "flow.safetensors", ids, mels, torch.randn(2, sizes["speaker_dim"], generator=generator))
    torch.manual_seed(0)
    task = SpeechLMTask(CosyVoiceFlow(**sizes), SpeechExamples(tmp_path / "flow.safetensors"))
    Trainer(task, TrainConfig("flow", steps=3, **SETTINGS), tmp_path / "run").run()
    flow = CosyVoiceFlow.from_pretrained(tmp_path / "run" / "export")
    official = CosyVoiceFlow.from_original(tmp_path / "run" / "export" / "original" / "flow.pt", **sizes)
    for key, value in flow.state_dict().items():
        assert torch.equal(official.state_dict()[key], value), key


def test_groups_hold_clips_of_like_length():
    lengths = torch.tensor([5, 90, 7, 6, 30, 31, 200])
    groups = groups_of_like_length(lengths, 64)
    assert sorted(np.concatenate(groups).tolist()) == list(range(7))
    assert [lengths[group].tolist() for group in groups] == [[5, 6, 7], [30, 31], [90], [200]]


def test_files_that_are_no_examples_are_refused(examples, tmp_path):
    from safetensors.torch import load_file, save_file
    with pytest.raises(ValueError, match="every example needs its own"):
        write_examples(tmp_path / "a.safetensors", [torch.zeros(2).long()], [])
    with pytest.raises(ValueError, match="no file of examples"):
        SpeechExamples(tmp_path / "missing.safetensors")
    tensors = load_file(examples)
    save_file({**tensors, "ids": tensors["ids"][:-1]}, tmp_path / "short.safetensors")
    with pytest.raises(ValueError, match="offsets do not fit"):
        SpeechExamples(tmp_path / "short.safetensors")
    save_file({"ids": tensors["ids"]}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="a file of examples holds"):
        SpeechExamples(tmp_path / "other.safetensors")
