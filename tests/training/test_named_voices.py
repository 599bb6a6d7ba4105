"""A generator learns two voices of one file: each keeps its pace; settings that do not fit are refused."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from speech import SENTENCES, SMALL_SPEECH, small_codec
from typer.testing import CliRunner

from photophone import TextToSpeechPipeline
from photophone.cli import app
from photophone.data.audio_write import to_whole
from photophone.data.speech import SpeechDataset, write_prepared
from photophone.data.speech_sources import TeacherVoice
from photophone.generators.speech_ar.model import SpeechFlowAR
from photophone.text.phonemes import encode_phonemes
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.trainer import Trainer
from photophone.training.record import load_recording
from photophone.training.tasks.speech_generator import balanced_rows
from photophone.training.tasks.speech_recipes import speech_generator_task
from photophone.training.tokenizing import tokens_of

SCRIPTS = Path(__file__).parents[2] / "scripts"
PAIRS = [["brisk", "american"], ["calm", "british"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The sentences said at two speeds by two speakers, as two parts of a folder, with tokens of a small codec."""
    path, teacher = tmp_path_factory.mktemp("voices"), TeacherVoice()
    (path / "parts").mkdir()
    for part, (speaker, speed) in enumerate((("a quick one", 1.25), ("a slow one", 0.6))):
        clips = [teacher.speak(text, phonemes, seed, speed) for seed, (text, phonemes) in enumerate(SENTENCES)]
        write_prepared(path / "parts" / f"part-{part:04d}.safetensors", [to_whole(clip.at(16_000)) for clip in clips],
                       [{**clip.fields, "speaker": speaker} for clip in clips], 16_000)
    small_codec().save_pretrained(path / "codec")
    tokens_of(SpeechDataset(path / "parts"), small_codec()).save(path / "tokens.safetensors")
    return path


def settings(folder, **task):
    own = {"codec": str(folder / "codec"), "tokens": str(folder / "tokens.safetensors"),
           "speakers": {"a quick one": "brisk", "a slow one": "calm"}, **task}
    return TrainConfig(str(folder / "parts"), model={**SMALL_SPEECH, "voices": PAIRS},
                       task={name: value for name, value in own.items() if value is not None}, steps=60, batch_size=12,
                       optimizer="muon", learning_rate=5e-3, warmup_steps=5, log_every=20, validate_every=0,
                       preview_every=0, checkpoint_every=0, ema_decay=0.8)


def test_each_voice_keeps_its_pace(folder, tmp_path):
    torch.manual_seed(0)
    config = settings(folder)
    Trainer(speech_generator_task(config), config, tmp_path).run()
    model = SpeechFlowAR.from_pretrained(tmp_path / "export").eval()
    ids = encode_phonemes(SENTENCES[3][1])[None]
    quick, slow, mixed = (int(model.durations(ids, ids >= 0, voices=torch.tensor([row])).sum())
                          for row in ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5)))
    assert slow > 1.5 * quick and quick < mixed < slow
    pipeline = TextToSpeechPipeline(model, small_codec())
    pipeline.save_pretrained(tmp_path / "pipeline")
    lengths = {}
    for name in ("brisk", "calm", "brisk=1,calm=1"):
        out = tmp_path / f"{name}.wav"
        done = CliRunner().invoke(app, ["speak", "She sells sea shells.", "-m", str(tmp_path / "pipeline"), "--voice",
                                        name, "--steps", "1", "--seed", "1", "-o", str(out)])
        assert done.exit_code == 0, done.output
        lengths[name] = out.stat().st_size
        assert f'"voice": "{name}"' in out.with_suffix(".json").read_text()
    assert lengths["calm"] > 1.4 * lengths["brisk"] and lengths["brisk"] < lengths["brisk=1,calm=1"] < lengths["calm"]
    refused = CliRunner().invoke(app, ["speak", "Yes.", "-m", str(tmp_path / "pipeline"), "--voice", "nobody", "-o",
                                       str(tmp_path / "x.wav")])
    assert refused.exit_code != 0 and "there are brisk, calm" in str(refused.exception or refused.output)


def test_one_voice_of_several_learns_a_reader(folder):
    """As `photophone train voice` starts from a model of several."""
    torch.manual_seed(0)
    SpeechFlowAR(**SMALL_SPEECH, voices=PAIRS).save_pretrained(folder / "several")
    config = settings(folder, speakers=None, voice="calm")
    config.model, config.init_from = {}, str(folder / "several")
    task = speech_generator_task(config)
    assert task.model.accents == {} and "voices" not in task.batch(np.arange(2), np.random.default_rng(0))


def test_rarer_voices_are_heard_as_often(folder):
    """Two files of their own, the second voice with fewer clips."""
    for part, count in ((0, 6), (1, 2)):
        data = SpeechDataset(folder / "parts" / f"part-{part:04d}.safetensors")
        write_prepared(folder / f"{part}.safetensors", [data.samples(row).numpy() for row in range(count)],
                       data.fields[:count], 16_000)
        tokens_of(SpeechDataset(folder / f"{part}.safetensors"), small_codec()).save(folder / f"t{part}.safetensors")
    config = settings(folder, tokens=str(folder / "t0.safetensors"), more_data=[str(folder / "1.safetensors")],
                      more_tokens=[str(folder / "t1.safetensors")])
    config.data = str(folder / "0.safetensors")
    task = speech_generator_task(config)
    assert task.num_examples == 12 and len(task.data) == 8
    epoch = task.batch(np.arange(12), np.random.default_rng(0))
    assert epoch["voices"].sum(0).tolist() == [6, 6]
    alone = SpeechDataset(folder / "1.safetensors")
    tokens = small_codec().encode(alone.clip(1)[None, None]).values[0]
    torch.testing.assert_close(epoch["tokens"][-1, :len(tokens)], tokens)
    assert balanced_rows(torch.eye(2)[[0] * 100 + [1]]).tolist().count(100) == 8


@pytest.mark.parametrize(("task", "words"), [
    ({"speakers": {"a quick one": "brisk"}}, "the speakers a slow one have no voice"),
    ({"speakers": None}, "the speakers a quick one, a slow one have no voice; there are brisk, calm"),
    ({"speakers": {"a quick one": "brisk", "a slow one": "grave"}}, "names the voices grave; model.voices has brisk")])
def test_speakers_without_a_voice_are_refused(folder, task, words):
    with pytest.raises(ValueError, match=words):
        speech_generator_task(settings(folder, **task))


def test_speakers_need_a_model_with_voices(folder):
    config = settings(folder)
    config.model.pop("voices")
    with pytest.raises(ValueError, match="needs a model with named voices"):
        speech_generator_task(config)
    config.task.pop("speakers")
    assert speech_generator_task(config).batch(torch.arange(2).numpy(), None).keys() == {"ids", "mask", "durations",
                                                                                        "tokens"}


def test_the_head_is_recorded_with_all_voices(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = SpeechFlowAR(**SMALL_SPEECH, voices=PAIRS).eval()
    TextToSpeechPipeline(model, small_codec()).save_pretrained(tmp_path / "slow")
    (tmp_path / "lines.csv").write_text("text\n" + "Yes.\n" * 12)
    module = runpy.run_path(str(SCRIPTS / "record_head.py"))
    speech, rng = module["Speech"](str(tmp_path / "slow")), np.random.default_rng(0)
    batches = speech.batches(["Go far."] * 40, 8, rng)
    shares = torch.cat([condition.voices for condition, _ in batches])
    torch.testing.assert_close(shares.sum(1), torch.ones(40))
    alone = (shares == 1).any(1)
    assert 2 <= int((~alone).sum()) <= 16 and bool((shares[alone].sum(0) >= 8).all())
    monkeypatch.setattr("sys.argv", ["record_head.py", "speech", str(tmp_path / "lines.csv"), "-m",
                                     str(tmp_path / "slow"), "-o", str(tmp_path / "rows"), "--parts", "1",
                                     "--texts-per-part", "4", "--steps", "2", "--guidance-range", "1", "3"])
    runpy.run_path(str(SCRIPTS / "record_head.py"), run_name="__main__")
    assert len(load_recording(tmp_path / "rows")["times"]) > 4
