"""Voices of delayed-streams text to speech: two that speak in turns, and a recording in front of the speech."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from official_streams import BOOKS, GOING_ON, HOP, MIMI, RATE, TTS, tiny_lm, write_release, write_voice
from safetensors.torch import load_file

from photophone import TextToSpeechPipeline, Voice
from photophone.core.noise import SeededNoise, draw_seed
from photophone.generators.delayed_streams.config import model_config
from photophone.generators.delayed_streams.script_condition import SpeakingSampler, SpokenScript
from photophone.loading.registry import find
from photophone.text.delayed_streams import script_words

RECORDED = Path(__file__).parent / "goldens" / "data" / "dsm_prefix" / "config.json"
TALK = "is it far?\n\nno <break time=\"0.2s\"/> not far\nthen we go"
PARTS = {"part_configs": {"mimi": MIMI}}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def load(name, folder):
    made = TextToSpeechPipeline.from_original(name, folder, **PARTS)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voices")
    write_release(folder / "tts", TTS)
    write_release(folder / "going-on", GOING_ON)
    for name, seed in (("ann", 8), ("bob", 9)):
        write_voice(folder / f"{name}.safetensors", seed=seed, sig="abc", epoch=3)
    return folder


@pytest.fixture(scope="module")
def talkers(folder):
    return load("kyutai-tts-1.6b-en-fr", folder / "tts")


@pytest.fixture(scope="module")
def going_on(folder):
    return load("kyutai-tts-0.75b-en", folder / "going-on")


@pytest.fixture(scope="module")
def both(folder):
    return [Voice(folder / f"{name}.safetensors") for name in ("ann", "bob")]


def recording(seconds=1.0):
    time = torch.arange(round(RATE * seconds)) / RATE
    return 0.4 * torch.sin(2 * torch.pi * 200 * time) * torch.sin(2 * torch.pi * 1.3 * time)


# two in turns ---------------------------------------------------------------------------------------------------


class Letters:
    """The toy vocabulary of the recording."""

    def __call__(self, word, add_special_tokens):
        return {"input_ids": [10 + ord(letter) % 20 for letter in word]}


def test_turns_are_those_of_the_authors_script():
    """Recorded from script_to_entries; a text of one line is one turn in both."""
    for script in json.loads(RECORDED.read_text())["config"]["tts"]["scripts"]:
        made = script_words(Letters(), "\n".join(script["lines"]), 12.5, turns=True)
        assert [[list(word.ids), word.text, word.padding] for word in made] == script["entries"]


def test_a_speaker_who_goes_on_is_not_named_again():
    words = script_words(Letters(), 'a\n<break time="1s"/>\nb\nc', 12.5, turns=True)
    assert [word.ids[0] for word in words if word.ids] == [1, words[2].ids[0], 2]  # the second turn is silent


def test_two_voices_speak_in_turns(talkers, both):
    result = talkers(TALK, voice=both, generator=seeded(4))
    front, model = talkers.front, talkers.speech_generator
    frames = [load_file(voice.audio)["speaker_wavs"][0].T for voice in both]
    tokens = torch.cat([*frames, torch.zeros(3 * len(frames[0]), 6)])
    mask = torch.arange(len(tokens)) < 2 * len(frames[0])
    words = script_words(talkers.text_tokenizer, TALK, 12.5, turns=True)
    assert [word.ids[0] for word in words if word.ids and word.ids[0] in (1, 2)] == [1, 2, 1]
    script = SpokenScript.of_rows([[(word.ids, word.padding) for word in words]], [(tokens, mask)])
    spoken = front.read_turns(both)
    assert torch.equal(spoken.tokens, tokens) and torch.equal(spoken.mask, mask)
    codes = model.generate(script, noise=SeededNoise.from_seeds([draw_seed(seeded(4))]),
                           sampler=SpeakingSampler(guidance_scale=2.0))
    np.testing.assert_allclose(result.audio[0], talkers.codec.decode(codes)[0, 0, 2 * HOP:].numpy(), atol=1e-5)
    assert result.settings["voice"] == ["ann.safetensors", "bob.safetensors"] and result.settings["voice_frames"] == 14
    alone = talkers(TALK, voice=both[0], generator=seeded(4))
    assert alone.settings["voice"] == "ann.safetensors" and not np.array_equal(alone.audio[0], result.audio[0])


def test_a_stream_of_turns_equals_the_whole(talkers, both):
    (whole,) = talkers(TALK, voice=both, generator=seeded(3)).audio
    chunks = [chunk.audio for chunk in talkers.stream(TALK, voice=both, generator=seeded(3))]
    np.testing.assert_allclose(np.concatenate(chunks), whole, atol=1e-5)


def test_turns_that_cannot_be_spoken_are_refused(talkers, going_on, both, folder):
    with pytest.raises(ValueError, match="3 voices given; 2 speak in turns"):
        talkers(TALK, voice=[*both, both[0]])
    write_voice(folder / "short.safetensors", frames=5)
    with pytest.raises(ValueError, match="the voices have 7 and 5 frames"):
        talkers(TALK, voice=[both[0], Voice(folder / "short.safetensors")])
    with pytest.raises(ValueError, match="must be a photophone.Voice"):
        talkers(TALK, voice=[both[0], "bob"])
    with pytest.raises(ValueError, match="speak with one voice"):
        going_on(TALK, voice=[Voice(recording(), RATE)] * 2)


# a recording in front -------------------------------------------------------------------------------------------


def test_speech_goes_on_from_a_recording(going_on):
    """The codes of the recording come first, and the decoder goes on from their sound."""
    model, codec, voice = going_on.speech_generator, going_on.codec, Voice(recording(), RATE)
    result = going_on("a hill", voice=voice, generator=seeded(7))
    prefix = codec.encode(recording()[None, None]).values[:, :, :-2]
    assert prefix.shape == (1, BOOKS, 11)
    words = script_words(going_on.text_tokenizer, "a hill", 12.5, speakers=False)
    assert words[0].ids[0] != 1
    script = SpokenScript.of_rows([[(word.ids, word.padding) for word in words]],
                                  [(torch.zeros(1, 0), torch.zeros(1, dtype=torch.bool))], list(prefix))
    codes = model.generate(script, noise=SeededNoise.from_seeds([draw_seed(seeded(7))]),
                           sampler=SpeakingSampler(guidance_scale=2.0))
    whole = codec.decode(type(codes)(torch.cat([prefix, codes.values], dim=-1)))[0, 0]
    np.testing.assert_allclose(result.audio[0], whole[13 * HOP:].numpy(), atol=1e-5)
    assert result.settings["voice_frames"] == 11 and result.model == "kyutai-tts-0.75b-en"


def test_a_stream_and_a_batch_equal_single_calls(going_on):
    voice, texts = Voice(recording(), RATE), ["a hill", "the light carries far"]
    batch = going_on(texts, voice=voice, generator=[seeded(1), seeded(2)]).audio
    assert len(batch[0]) != len(batch[1])
    for text, seed, audio in zip(texts, (1, 2), batch):
        (alone,) = going_on(text, voice=voice, generator=seeded(seed)).audio
        chunks = [chunk.audio for chunk in going_on.stream(text, voice=voice, generator=seeded(seed))]
        np.testing.assert_allclose(audio, alone, atol=1e-5)
        np.testing.assert_allclose(np.concatenate(chunks), alone, atol=1e-5)


def test_rows_with_recordings_of_other_lengths_are_what_each_is_alone(going_on):
    model = going_on.speech_generator
    script = model.example_condition(3)
    sampler = SpeakingSampler(guidance_scale=1.5)
    batch = model.generate(script, noise=SeededNoise.from_seeds([1, 2, 3]), sampler=sampler)
    for row in range(3):
        alone = model.generate(script[row:row + 1], noise=SeededNoise.from_seeds([row + 1]), sampler=sampler)
        assert torch.equal(batch.values[row, :, :alone.num_tokens], alone.values[0])
        assert int(batch.mask[row].sum()) == alone.num_tokens


@pytest.mark.parametrize(("options", "message"), [
    ({}, "needs a voice: voice=Voice.recording."), ({"voice": Voice(recording(0.1), RATE)}, "give 0.24 s at least"),
    ({"voice": Voice("away.wav")}, "away.wav")])
def test_recordings_that_cannot_be_read_are_refused(going_on, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        going_on("a hill", **options)


@pytest.mark.parametrize(("prefix", "message"), [
    (torch.zeros(3, 2, 4, dtype=torch.long), r"prefix must be Long \(3, 4, P\)"),
    (torch.full((3, 4, 2), 32), "codes in 0..31"), (torch.full((3, 4, 2), -1), "of a frame at least")])
def test_wrong_codes_are_refused(going_on, prefix, message):
    model = going_on.speech_generator
    script = model.example_condition(3)
    with pytest.raises(ValueError, match=message):
        model.generate(type(script)(script.ids, script.padding, script.frames, script.mask, prefix),
                       noise=SeededNoise.from_seeds([1, 2, 3]))


def test_the_known_sizes_are_in_the_registry():
    """What the hub page says: 16 codebooks, 2 frames between them, 16 behind the text, 300 and 450 M parameters."""
    config = find("kyutai-tts-0.75b-en").config
    assert config["books"] == config["spoken_books"] == 16 and config["speech_delay"] == 16
    assert config["delays"] == [0, 0, *[2] * 15]
    assert find("kyutai-tts-0.75b-en").chain.tokenizer == ("mimi", "mimi-16")
    assert model_config(GOING_ON)["text_out"] == 5 and tiny_lm(GOING_ON).text_linear.out_features == 5
