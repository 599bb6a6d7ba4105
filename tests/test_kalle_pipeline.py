"""TextToSpeechPipeline with KALL-E from the folder of its authors: voices, long texts, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from photophone import SeededNoise, TextToSpeechPipeline, Voice, VoiceAttributes
from photophone.codecs.flow_vae.model import FlowVAE
from photophone.core.noise import draw_seed
from photophone.generators.kalle.model import KallE, KallESampler, draw
from photophone.pipelines.kalle_front import SPEECH_START, TEXT_END

GOLDEN = Path(__file__).parent / "goldens" / "data" / "kalle"
RATE = 16000
TEXTS = ["a hen.", "ten men led him."]


def vocabulary(marks=(TEXT_END, SPEECH_START)):
    """Single bytes behind a begin, and marks, as Llama's vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({"<s>": 0, **{sign: index + 1 for index, sign in enumerate(alphabet)}}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")
    made.add_tokens(list(marks), special_tokens=True)
    return made


@pytest.fixture(scope="module")
def configs():
    config = json.loads((GOLDEN / "config.json").read_text())["config"]
    return {"model": {**KallE.convert_config(config["kalle"]["llama"]), "vocab_size": 259, "max_length": 400,
                      "token_dim": config["kalle"]["latent_dim"]}}, config["flowvae"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, configs):
    """The authors' repository with the recorded weights and a table of more ids."""
    folder = tmp_path_factory.mktemp("kalle")
    for name in ("ckpt", "configs"):
        (folder / name).mkdir()
    state = {key: value for key, value in load_file(GOLDEN / "kalle.safetensors").items() if "lm_head" not in key}
    table = torch.randn(259, 32, generator=torch.Generator().manual_seed(0))
    state["base_model.model.embed_tokens.weight"] = state["base_model.lm_head.weight"] = table
    torch.save(state, folder / "ckpt" / "model.pt")
    torch.save({"generator": load_file(GOLDEN / "flowvae.safetensors")}, folder / "ckpt" / "flowvae.pt")
    (folder / "configs" / "flowvae_dim1024_12p5hz.json").write_text(json.dumps(configs[1]))
    vocabulary().save_pretrained(folder / "tokenizer_dir")
    return folder


@pytest.fixture(scope="module")
def pipeline(folder, configs):
    made = TextToSpeechPipeline.from_original("kalle", folder, part_configs=configs[0])
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Random weights never end: a few frames are enough."""
    monkeypatch.setattr("photophone.pipelines.kalle_front.FRAMES_PER_ID", 1)
    monkeypatch.setattr("photophone.pipelines.kalle_front.SPARE_FRAMES", 3)


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def recording(seconds=0.01):
    time = torch.arange(round(RATE * seconds)) / RATE
    return 0.3 * torch.sin(2 * torch.pi * 220 * time) + 0.1 * torch.sin(2 * torch.pi * 700 * time)


def test_it_speaks_as_its_parts_do(pipeline):
    model, codec, tokenizer = pipeline.speech_generator, pipeline.codec, pipeline.text_tokenizer
    assert isinstance(codec, FlowVAE) and codec.sample_rate == RATE
    result = pipeline("a hen.", voice=Voice(recording(), RATE, "no."), generator=seeded(7)[0])
    seed = draw_seed(seeded(7)[0])
    ids = [*tokenizer("no.")["input_ids"], *tokenizer("a hen.")["input_ids"][1:], 257, 258]
    assert ids[0] == 0 and ids.count(0) == 1
    moments = codec.moments(recording()[None, None])[:, :-1]
    prompt = draw(moments, SeededNoise.from_seeds([seed]).branch())[0]
    tokens = model.generate(model.prepare([ids], [prompt]), noise=SeededNoise.from_seeds([seed]),
                            sampler=KallESampler(max_frames=9))
    np.testing.assert_allclose(result.audio[0], codec.decode(tokens)[0, 0].numpy(), atol=1e-5)
    seconds = len(result.audio[0]) / RATE
    assert result.faults == [("stopped at the limit of 9 frames: 'a hen.'", f"lasts {seconds:.2f} s, which cannot hold "
                              "all words (0.16 s are the least): 'a hen.'")]
    assert result.settings["voice"] == "no." and result.settings["end_threshold"] == 0.5
    assert result.settings["voice_tokens"] == moments.shape[1] and result.model == "kalle"


def test_seeds_repeat_alone_and_in_a_batch(pipeline):
    for voice in (Voice(recording(), RATE, "no."), None):
        batch = pipeline(TEXTS, voice=voice, generator=seeded(1, 2))
        for text, seed, audio in zip(TEXTS, (1, 2), batch.audio):
            again = pipeline(text, voice=voice, generator=seeded(seed)[0])
            np.testing.assert_allclose(again.audio[0], audio, atol=1e-5)
        assert len(batch.audio[0]) and np.isfinite(batch.audio[0]).all()


def test_a_found_voice_stays_for_a_long_text(pipeline, monkeypatch):
    monkeypatch.setattr("photophone.pipelines.language_fronts.PIECE_IDS", 18)
    front, read = type(pipeline.front), []
    prompt = front.prompt
    monkeypatch.setattr(front, "prompt", lambda own, voice, noise: read.append(voice) or prompt(own, voice, noise))
    text = "a hen. ten men led him."
    (whole,) = pipeline(text, generator=seeded(3)[0]).audio
    assert [len(voice.tokens) for voice in read] == [0, 9] and read[1].text == "a hen."
    chunks = list(pipeline.stream(text, generator=seeded(3)[0]))
    np.testing.assert_allclose(np.concatenate([chunk.audio for chunk in chunks]), whole, atol=1e-5)


def test_speech_that_is_too_short_is_reported(pipeline, monkeypatch):
    monkeypatch.setattr(type(pipeline), "published_sampler", {"end_threshold": 1000.0, "min_frames": 2})
    monkeypatch.setattr("photophone.pipelines.kalle_front.SPARE_FRAMES", 30)
    result = pipeline(TEXTS[1], generator=seeded(1)[0])
    (tokens, sound), = result.faults
    assert tokens == "ended after 2 frames, which cannot hold all words (8 are the least): 'ten men led him.'"
    assert sound.startswith("lasts 0.") and "(0.48 s are the least)" in sound


def test_a_saved_pipeline_speaks_the_same(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    again, voice = TextToSpeechPipeline.from_pretrained(tmp_path), Voice(recording(), RATE, "no.")
    one, two = (made("a hen.", voice=voice, generator=seeded(5)[0]) for made in (pipeline, again))
    assert np.array_equal(one.audio[0], two.audio[0]) and one.facts(0) == two.facts(0)


@pytest.mark.parametrize(("options", "message"), [
    ({"text": "?"}, "no words"), ({"text": f"a {TEXT_END} b"}, "takes for one of its marks"),
    ({"voice": Voice(recording(), RATE)}, "needs the words"), ({"voice": VoiceAttributes("male")}, "recorded voices"),
    ({"voice": Voice(recording(), RATE, "?")}, "no words"), ({"instruction": "softly"}, "takes no instruction"),
    ({"voice": Voice(torch.zeros(9), RATE, "no")}, "lasts 0.00 s; give"), ({"speed": 2.5}, "speed must be 0.5 to 2"),
    ({"voice": Voice(recording(0.2), RATE, "no")}, "leave no room"), ({"output_type": "latent"}, "no latents")])
def test_what_cannot_be_spoken_is_refused(pipeline, options, message):
    with pytest.raises(ValueError, match=message):
        pipeline(**{"text": "a hen.", **options})


def test_wrong_files_are_named(folder, configs, tmp_path):
    vocabulary([TEXT_END]).save_pretrained(tmp_path / "tokens")
    with pytest.raises(ValueError, match=r"has no <\|SPEECH_GENERATION_START\|>"):  # before any weights are read
        TextToSpeechPipeline.from_original("kalle", folder, text_tokenizer=tmp_path / "tokens", model="none.pt")
    with pytest.raises(ValueError, match=r"no such checkpoint file: none.pt"):
        TextToSpeechPipeline.from_original("kalle", folder, model="none.pt")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "flowvae.json").write_text("{}")
    vocabulary().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"flowvae.json lacks 'resblock'"):
        TextToSpeechPipeline.from_original("kalle", tmp_path, model=folder / "ckpt" / "model.pt",
                                           flowvae=folder / "ckpt" / "flowvae.pt", part_configs=configs[0])
    with pytest.raises(ValueError, match="has no checkpoint named vae"):
        TextToSpeechPipeline.from_original("kalle", folder, vae="x")
