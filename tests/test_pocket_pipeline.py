"""TextToSpeechPipeline with Pocket TTS: from a published folder, voices, streaming, long texts, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from speech import in_rounds, word_tokenizer

from photophone import SeededNoise, TextToSpeechPipeline, Voice
from photophone.core.noise import draw_seed
from photophone.data.voice_prompts import end_on_pause
from photophone.generators.pocket_tts.sampler import PocketTTSSampler
from photophone.text.pocket_tts import LANGUAGES, frames_after, pocket_ids, rules_of, written

GOLDEN = Path(__file__).parent / "goldens" / "data" / "pocket_tts"
LONG = "a bad cab. a big dig. he fed a hen, and ten men led him. oh no. we do go on and on. " * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a tiny model as its authors publish it: the recorded weights, with room for another vocabulary."""
    folder = tmp_path_factory.mktemp("pocket")
    settings = json.loads((GOLDEN / "config.json").read_text())["constructor"]["model"]
    recorded = load_file(GOLDEN / "weights.safetensors")  # halved: as they are, they magnify rounding
    state = {key: value * 0.5 if ".transformer." in key or ".flow_net." in key else value
             for key, value in recorded.items()}
    settings["flow_lm"]["lookup_table"]["n_bins"] = 80
    settings["mimi"] |= {"sample_rate": 4800, "frame_rate": 200}
    state["flow_lm.conditioner.embed.weight"] = torch.randn(81, 32, generator=torch.Generator().manual_seed(0))
    (folder / "config.json").write_text(json.dumps(settings))
    save_file(state, folder / "model.safetensors")
    word_tokenizer().backend_tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def pipeline(folder):
    made = TextToSpeechPipeline.from_original("pocket-tts-english", folder)
    made.set_progress_bar_config(disable=True)
    return made


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def recording(rate, seconds=0.2):
    time = torch.arange(round(rate * seconds)) / rate
    return 0.3 * torch.sin(2 * torch.pi * 50 * time)


def test_a_published_folder_speaks_as_its_parts_do(pipeline):
    rate = pipeline.codec.sample_rate
    voice = recording(rate)
    result = pipeline("a hen", voice=Voice(voice, rate), generator=seeded(7))
    model, codec = pipeline.speech_generator, pipeline.codec
    ids = pocket_ids(pipeline.text_tokenizer, "A hen.")
    prompt = codec.encode(end_on_pause(voice, rate)[None, None]).values[0]
    sampler = PocketTTSSampler(max_frames=int(np.ceil((len(ids) / 3 + 2) * codec.frame_rate)), frames_after_end=5)
    tokens = model.generate(model.prepare([ids], [prompt]), sampler=sampler,
                            noise=SeededNoise.from_seeds([draw_seed(seeded(7))]))
    np.testing.assert_allclose(result.audio[0], codec.decode(tokens)[0, 0].numpy(), atol=1e-5)
    assert result.sample_rate == 4800 and result.model == "pocket-tts-english"
    assert result.weights_licence == "CC BY 4.0" and result.settings["temperature"] == 0.3
    assert result.settings["voice_tokens"] == len(prompt)


@pytest.mark.parametrize("spoken", [False, True])
def test_streaming_equals_the_whole(pipeline, spoken):
    voice = Voice(recording(4800), 4800) if spoken else None
    (whole,) = pipeline(LONG, voice=voice, generator=seeded(3)).audio
    chunks = list(pipeline.stream(LONG, voice=voice, generator=seeded(3)))
    assert len(chunks) > 10 and len(pipeline.front.pieces(LONG)) > 2
    np.testing.assert_allclose(np.concatenate([chunk.audio for chunk in chunks]), whole, atol=1e-4)


def test_a_batch_equals_its_texts(pipeline):
    texts = ["a hen", LONG, "oh no. he is on it."]
    batch = pipeline(texts, generator=[seeded(seed) for seed in (1, 2, 3)]).audio
    for row, (text, seed) in enumerate(zip(texts, (1, 2, 3))):
        np.testing.assert_allclose(batch[row], pipeline(text, generator=seeded(seed)).audio[0], atol=1e-4)


@pytest.mark.parametrize("spoken", [False, True])
def test_texts_in_rounds_equal_single_ones(pipeline, spoken):
    """Without a voice, the first piece of a text decides the one of the others."""
    voice = Voice(recording(4800), 4800) if spoken else None
    texts = ["a hen", LONG, "oh no. he is on it."]
    for seed, (text, audio) in enumerate(zip(texts, in_rounds(pipeline, texts, is_streamed=spoken, voice=voice))):
        np.testing.assert_allclose(audio, pipeline(text, voice=voice, generator=seeded(seed)).audio[0], atol=1e-4)


def test_a_saved_pipeline_speaks_the_same(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    again = TextToSpeechPipeline.from_pretrained(tmp_path)
    assert np.array_equal(again("a hen", generator=seeded(1)).audio[0], pipeline("a hen", generator=seeded(1)).audio[0])


def test_what_cannot_be_spoken_is_refused(pipeline, folder, tmp_path):
    with pytest.raises(ValueError, match="no words"):
        pipeline("...")
    with pytest.raises(ValueError, match="about 5 s"):
        pipeline("a hen", voice=Voice(torch.zeros(10), 4800))
    pipeline.speech_generator.register_to_config(max_length=64)
    try:
        with pytest.raises(ValueError, match="leave no room"):
            pipeline("a hen", voice=Voice(recording(4800, 1.0), 4800))
    finally:
        pipeline.speech_generator.register_to_config(max_length=4096)
    with pytest.raises(ValueError, match="has no option guidance_scale"):
        pipeline("a hen", guidance_scale=2.0)
    with pytest.raises(ValueError, match="no pipeline from original"):
        TextToSpeechPipeline.from_original("pocket-tts-2m", folder)
    with pytest.raises(ValueError, match="no tokenizer.json"):
        TextToSpeechPipeline.from_original("pocket-tts-english", folder, text_tokenizer=tmp_path)


def test_texts_are_written_as_the_models_were_trained():
    english, french = LANGUAGES["english"], LANGUAGES["french"]
    assert written("he\n said  it’s", english) == "He said it's."
    assert written("“what?”, she said –", LANGUAGES["dutch"]) == "What? she said."
    assert written("oui: non; si!", french) == "Oui, non, si!"
    assert written("(a list:", english) == "(a list."
    assert written('he said "no"', english) == 'He said "no".'
    assert rules_of("pocket-tts-german-24l") is LANGUAGES["german"] and rules_of(None) is english
    assert frames_after("No.") == 5 and frames_after("a b c d e") == 3
