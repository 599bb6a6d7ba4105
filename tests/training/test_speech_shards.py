"""Folders of recordings become examples of published speech models, and these say what the models write."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from cosyvoice_folders import load_cosyvoice, part_configs, recording, write_cosyvoice
from speech_folders import write_spark, write_voxcpm

from photophone import TextToSpeechPipeline
from photophone.data.audio import write_audio
from photophone.data.speech_examples import SpeechExamples
from photophone.text.sparktts import codes_of
from photophone.text.voxcpm import voxcpm_ids
from photophone.training.loop.config import TrainConfig
from photophone.training.speech_shards import shard_maker
from photophone.training.tasks.speech_recipes import speech_generator_task

TEXTS = ("a hen.", "ten men led him.")
SCRIPT = Path(__file__).parents[2] / "scripts" / "tokenize_speech.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two recordings with texts, one without, one that is damaged."""
    folder = tmp_path_factory.mktemp("recordings")
    for index, text in enumerate((*TEXTS, None)):
        write_audio(folder / f"{index}.wav", recording(16000, 0.4 + 0.1 * index).numpy(), 16000)
        if text:
            (folder / f"{index}.txt").write_text(text)
    (folder / "9.wav").write_bytes(b"damaged")
    (folder / "9.txt").write_text("no.")
    return folder


def tokenize(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["tokenize_speech.py", *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


@pytest.mark.parametrize("name", ["cosyvoice-300m", "cosyvoice2-0.5b", "cosyvoice3-0.5b", "spark-tts-0.5b",
                                  "voxcpm-0.5b"])
def test_a_folder_becomes_a_shard_that_the_model_learns(name, folder, tmp_path, monkeypatch, capsys):
    release, options, sizes = tmp_path / "release", [], {}
    release.mkdir()
    if name.startswith("cosyvoice"):
        write_cosyvoice(release, name)
        sizes = part_configs(name)
        options = ["--settings", json.dumps(sizes)]
        pipeline = load_cosyvoice(release, name)
    elif name == "spark-tts-0.5b":
        write_spark(release)
        options = ["--file", f"bicodec={release / 'codec'}"]
        pipeline = TextToSpeechPipeline.from_original(name, release, bicodec=release / "codec")
    else:
        pipeline = TextToSpeechPipeline.from_original(name, write_voxcpm(release, "v1"))
    output = tmp_path / "shard.safetensors"
    tokenize(monkeypatch, folder, "-m", name, "--original", release, "-o", output, *options)
    told = capsys.readouterr().out
    assert "tokens of 2 clips" in told and "2 left out" in told and "it has no text" in told
    check_examples(name, pipeline, SpeechExamples(output))
    config = TrainConfig(str(output), model={"name": name, **sizes.get("llm", {})}, init_from=str(release))
    if name == "voxcpm-0.5b":  # its hop of a few samples makes long clips
        with pytest.raises(ValueError, match="example 1 has 684 positions of text and speech, and VoxCPM has room for "
                                             "397; cut or leave out longer recordings"):
            speech_generator_task(config)
        config.model["max_length"] = 2000
    task = speech_generator_task(config)
    batch = task.batch(list(range(task.num_examples)), None)
    assert torch.isfinite(task.model(batch["tokens"], batch["condition"]).loss)


def check_examples(name, pipeline, data):
    rate = pipeline.codec.sample_rate if not name.startswith("cosyvoice") else 16000
    from photophone.data.resampling import resample_audio
    for index, text in enumerate(TEXTS):
        ids, tokens = data.ids[index].tolist(), data.tokens[index]
        audio = recording(16000, 0.4 + 0.1 * index)
        audio = resample_audio((audio * 32768).round().clamp(-32768, 32767) / 32768, 16000, rate)
        if name.startswith("cosyvoice"):
            front = "You are a helpful assistant.<|endofprompt|>" if name == "cosyvoice3-0.5b" else ""
            assert ids == pipeline.text_tokenizer(front + text, add_special_tokens=False)["input_ids"]
            assert tokens.tolist() == pipeline.unit_tokenizer.encode(audio[None, None]).values[0].tolist()
        elif name == "spark-tts-0.5b":
            codes = pipeline.codec.encode(audio[None, None]).values[0].tolist()
            count = pipeline.codec.num_voice_tokens
            words = pipeline.text_tokenizer.convert_ids_to_tokens([*ids, *tokens.tolist()])
            assert codes_of("".join(words)) == (codes[:count], codes[count:])
            assert tokens[-1] == pipeline.speech_generator.config.end
            assert words[len(ids)] == "<|start_semantic_token|>" and words[len(ids) - 1] == "<|end_global_token|>"
        else:
            hop, size = pipeline.codec.hop_length, pipeline.speech_generator.config.patch_size
            padded = torch.nn.functional.pad(audio, (0, -len(audio) % (hop * size)))
            torch.testing.assert_close(tokens, pipeline.codec.encode(padded[None, None]).values[0])
            assert len(tokens) % size == 0 and ids == voxcpm_ids(pipeline.text_tokenizer, text)
    assert (data.speakers is not None) == (name == "cosyvoice-300m")
    assert (data.instructions is not None) == (name == "cosyvoice3-0.5b")


@pytest.mark.parametrize(("arguments", "message"), [
    (["nowhere", "-m", "voxcpm-0.5b"], "nowhere does not exist; give a folder of recordings"),
    ([".", "-m", "mar-base"], "mar-base has no pretokenised examples; models that have: cosyvoice-300m"),
    ([".", "-m", "voxcpm-0.5b", "--original", "."], "voxcpm-vae-16k"),
    ([".", "-m", "spark-tts-0.5b", "--file", "bicodec"], "PART=PATH, such as bicodec=folder, got bicodec")])
def test_what_cannot_be_tokenized_is_said(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        tokenize(monkeypatch, *arguments, "-o", "out.safetensors")
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_recordings_without_texts_are_no_examples(tmp_path, monkeypatch, capsys):
    (tmp_path / "release").mkdir()
    write_voxcpm(tmp_path / "release", "v1")
    (tmp_path / "silent").mkdir()
    write_audio(tmp_path / "silent" / "a.wav", recording(16000).numpy(), 16000)
    with pytest.raises(SystemExit):
        tokenize(monkeypatch, tmp_path / "silent", "-m", "voxcpm-0.5b", "--original", tmp_path / "release", "-o",
                 tmp_path / "out.safetensors")
    assert "no recording can be used; recording 1: it has no text" in capsys.readouterr().err
    assert shard_maker("voxcpm-0.5b", tmp_path / "release").sample_rate > 0
