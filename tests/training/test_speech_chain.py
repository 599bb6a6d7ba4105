"""A small CosyVoice 2 from a few sentences: targets of its parts, and the whole chain through the public pipeline."""

import csv
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from speech import write_speech

from photophone import SeededNoise
from photophone.codecs.hift.model import HiFT
from photophone.codecs.speech_units.onnx_write import write_s3_onnx
from photophone.codecs.speech_units.s3 import S3Tokenizer
from photophone.data.speech import SpeechDataset, resample_prepared
from photophone.data.speech_examples import SpeechExamples
from photophone.generators.cosyvoice.qwen_lm import CosyVoiceQwenLM
from photophone.loading.registry import find
from photophone.text.phonemes import SYMBOLS
from photophone.training.cosyvoice_chain import CosyVoiceChain, write_lm_examples
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.trainer import Trainer
from photophone.training.qwen2_vocabulary import write_qwen2_vocabulary
from photophone.training.spark_chain import SparkChain
from photophone.training.tasks.guided_lm import GuidedLMTask, guides_of
from photophone.training.tasks.speech_units import SpeechUnitsTask, melody_at, pitch_at, sounds_of, unit_targets
from photophone.training.tasks.vocoder import VocoderTask

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_speech_chain.py"
CLIP = {"phonemes": "_hˈI mˈɛn._", "seconds_per_phoneme": [0.1, 0.06, 0.02, 0.12, 0.02, 0.1, 0.02, 0.1, 0.06, 0.1, 0.1],
        "pitch": [0] * 8 + [200] * 12 + [0] * 12 + [400] * 12 + [0] * 20}
SETTINGS = {"batch_size": 2, "optimizer": "adamw", "learning_rate": 3e-3, "warmup_steps": 5, "log_every": 5,
            "validate_every": 0, "preview_every": 0, "checkpoint_every": 0, "ema_decay": 0.5}


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voice")
    low, high = write_speech(folder / "low.safetensors"), folder / "high.safetensors"
    resample_prepared(low, high, 24000)
    return SpeechDataset(low), SpeechDataset(high)


def metrics(folder, key):
    import json
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[key] for line in lines if key in line]


def test_marks_and_short_gaps_belong_to_the_next_sound():
    names, ends = sounds_of(CLIP)
    assert [SYMBOLS[name] for name in names] == ["_", "h", "I", "m", "ɛ", "n", "_", "_"]
    np.testing.assert_allclose(ends, [0.1, 0.16, 0.3, 0.42, 0.54, 0.6, 0.7, 0.8])
    sounds, melody = unit_targets(CLIP, 20, 0.04)
    assert "".join(SYMBOLS[name] for name in sounds.flatten()[:16]) == "_____hhhIIIIIIIm" and melody.shape == (20, 3)
    np.testing.assert_allclose(melody[3, :2], np.log1p([1.0, 0.5]), atol=1e-6)  # h: 0.04 s old, ends 0.02 s later


def test_the_melody_goes_on_where_there_is_no_voice():
    times = torch.tensor([0.01, 0.2, 0.3125, 0.5], dtype=torch.float64)
    assert pitch_at(CLIP["pitch"], times).tolist() == [0, 200, 0, 400]
    octaves = melody_at(CLIP["pitch"], times)
    assert octaves[0] == octaves[1] == 0 and 0 < octaves[2] < 1 and octaves[3] == 1
    assert not melody_at([0, 0], times).any()


def test_units_learn_sounds_and_are_those_of_the_authors_file(voice, tmp_path):
    torch.manual_seed(0)
    tokenizer = S3Tokenizer(num_mels=16, width=32, depth=1, num_heads=2)
    task = SpeechUnitsTask(tokenizer, voice[0], seconds=10)
    Trainer(task, TrainConfig("voice", steps=60, **SETTINGS), tmp_path / "run").run()
    sounds = metrics(tmp_path / "run", "sounds")
    assert sounds[-1] < 0.8 * sounds[0]
    made = S3Tokenizer.from_pretrained(tmp_path / "run" / "export").eval()
    clip = voice[0].clip(0)[None, None]
    states, _ = made.hidden(made.mel(clip[:, 0]))
    assert states.isfinite().all() and len(made.encode(clip).values.unique()) > 5
    write_s3_onnx(made, tmp_path / "units.onnx")
    sizes = {key: made.config[key] for key in made.config_keys()}
    official = S3Tokenizer.from_original(tmp_path / "units.onnx", **sizes)
    assert torch.equal(official.encode(clip).values, made.encode(clip).values)


def test_digits_of_the_folded_tokenizer_are_normalised(voice):
    task = SpeechUnitsTask(S3Tokenizer(num_mels=16, width=32, depth=1, num_heads=2), voice[0], seconds=10)
    model, batch = task.model.train(), task.batch(np.arange(1), np.random.default_rng(0))
    with torch.no_grad():
        for _ in range(200):
            model(batch["mel"], batch["frames"])
    model.eval()
    states, _ = model.tokenizer.hidden(batch["mel"][:1])
    expected = model.norm(model.tokenizer.to_digits(states)[0])
    torch.testing.assert_close(model.folded().to_digits(states)[0], expected, rtol=1e-4, atol=1e-4)


def test_a_vocoder_learns_spectra_and_pitch(voice, tmp_path):
    torch.manual_seed(0)
    vocoder = HiFT(channels=32, block_kernels=[3], block_dilations=[[1]], source_kernels=[3, 3, 3],
                   source_dilations=[[1], [1], [1]], pitch_channels=32)
    task = VocoderTask(vocoder, voice[1], voice[1], crop_frames=10)
    assert set(task.validate(task.model)) == {"validation_mel", "validation_magnitude", "validation_pitch"}
    Trainer(task, TrainConfig("voice", steps=40, **SETTINGS), tmp_path / "run").run()
    mel = metrics(tmp_path / "run", "mel")
    assert mel[-1] < 0.8 * mel[0]
    made = HiFT.from_pretrained(tmp_path / "run" / "export")
    made.save_original(tmp_path)
    official = HiFT.from_original(tmp_path / "hift.pt", **{key: made.config[key] for key in made.config_keys()})
    frames = made.eval().encode(voice[1].clip(0)[None, None])
    torch.testing.assert_close(official.decode(frames), made.decode(frames))


def test_data_without_pitch_is_refused(voice):
    for task, part, data in ((SpeechUnitsTask, S3Tokenizer(num_mels=8, width=16, depth=1, num_heads=2), voice[1]),
                             (VocoderTask, HiFT(**{**find("cosyvoice2-0.5b-hift").tiny}), voice[0])):
        with pytest.raises(ValueError, match="learns from"):
            task(part, data)


def test_a_vocabulary_in_the_format_of_qwen(tmp_path):
    from transformers import AutoTokenizer
    texts = ["The old men sat in the sun.", "The men had sat there for ten days, or 12."]
    write_qwen2_vocabulary(texts, tmp_path, 300)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer(texts[0])["input_ids"]
    assert tokenizer.decode(ids) == texts[0] and len(ids) < len(texts[0]) / 1.5 and max(ids) < 300
    assert len(tokenizer("12")["input_ids"]) == 2  # Qwen2 splits numbers into digits


def test_the_guided_head_of_a_chain_is_shown_the_word_that_is_spoken(tmp_path):
    """In both layouts; the model that writes down where it looks is the layout itself, on embeddings that are ids."""
    text = "hi men"
    fields = {**CLIP, "text": text}
    write_qwen2_vocabulary([text], tmp_path / "vocabulary", 257)  # letters alone
    units, path = torch.arange(100, 125), tmp_path / "examples.safetensors"
    write_lm_examples(path, [fields], [units], [slice(2, 22)], tmp_path / "vocabulary", seconds=0.04, copies=0)
    data = SpeechExamples(path)
    assert len(data.ids[0]) == 6 and data.tokens[0].tolist() == list(range(102, 122))
    torch.manual_seed(0)
    model = CosyVoiceQwenLM(vocab_size=300, num_tokens=729, width=32, depth=2, num_heads=2, num_kv_heads=1, hidden=64,
                            max_length=400)
    task = GuidedLMTask(model, data, guides=[guides_of(path)], guide_layer=1)
    seen = set()
    for seed in range(8):
        batch = task.batch(np.arange(1), np.random.default_rng(seed))
        (mixed,) = model.mixed_rows(1, SeededNoise.from_seeds(batch["seeds"].tolist()))
        seen.add(mixed)
        # start, 6 letters, task, 20 units; or start, 5 letters, 15 units, 1 letter, task, 5 units
        letters = [1, 2, 3, 4, 5, 21] if mixed else [1, 2, 3, 4, 5, 6]
        foretell = [*range(5, 20), *range(22, 27)] if mixed else range(7, 27)
        inside = batch["inside"][0]
        assert inside.sum(1).nonzero()[:, 0].tolist() == list(foretell)
        for unit, place in enumerate(foretell, start=2):
            word = letters[:2] if unit < 7 else letters[2:]  # "hi" ends at 0.3 s, in the middle of the eighth unit
            assert set(word) - {letters[2]} <= set(inside[place].nonzero()[:, 0].tolist()) <= set(word)
        loss, told = task.loss(model, batch, 0)
        assert 0 < float(told["guided"]) < 1 and float(loss) > float(told["tokens"])
    assert seen == {False, True}


@pytest.fixture
def sentences(tmp_path):
    texts = ("The men sat in the sun.", "She had ten hens.", "Go home now.")
    with (tmp_path / "sentences.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "phonemes", "split"])
        rows.writerows([text, "", split] for split in ("train", "val", "test") for text in texts)
    return tmp_path / "sentences.csv"


SMALL = {"spark-tts": {
    "units": ["batch_size=2", "task.crop_seconds=0.5", "model.features.hidden_size=32", "model.wave.channels=32",
              "model.features.intermediate_size=64", "model.features.conv_dim=[16, 16, 16, 16, 16, 16, 32]",
              "model.semantic.in_channels=32", "model.postnet_config.out_channels=32"],
    "llm": ["model.width=64", "model.depth=3", "model.hidden=128"], "waves": ["batch_size=2", "task.crop_seconds=0.5"]}}
"""Settings of the stages of a chain, so that they take seconds."""


@pytest.mark.parametrize("system", ["cosyvoice2", "spark-tts"])
def test_a_whole_chain_speaks_from_the_folder_of_a_release(system, sentences, tmp_path, monkeypatch):
    chain = {"cosyvoice2": CosyVoiceChain, "spark-tts": SparkChain}[system](tmp_path / "chain")
    small = ["steps=2", "warmup_steps=0", "validate_every=0", "checkpoint_every=0"]
    for stage in ("data", *chain.stages, "folder"):
        monkeypatch.setattr(sys, "argv", ["train", system, str(sentences), "-o", str(chain.folder), "--stages", stage,
                                          "--set", *small, *SMALL.get(system, {}).get(stage, [])])
        runpy.run_path(str(SCRIPT), run_name="__main__")
    files = {path.name for path in (chain.folder / "release").iterdir()}
    assert files >= ({"LLM", "BiCodec", "wav2vec2-large-xlsr-53"} if system == "spark-tts" else
                     {"llm.pt", "flow.pt", "hift.pt", "speech_tokenizer_v2.onnx", "campplus.onnx",
                      "CosyVoice-BlankEN"})
    audio, rate = chain.voice()("Go home.")
    assert np.isfinite(audio).all() and rate == chain.rates[0]


def test_stages_of_another_chain_are_refused(sentences, tmp_path, monkeypatch, capsys):
    for wrong in (["--stages", "flow"], ["--transcript"]):
        monkeypatch.setattr(sys, "argv", ["train", "spark-tts", str(sentences), "-o", str(tmp_path), *wrong])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        assert ended.value.code == 2
    assert "units, tokens, llm, waves" in capsys.readouterr().err
