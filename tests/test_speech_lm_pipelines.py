"""TextToSpeechPipeline with CosyVoice 2 and 3 and with Spark-TTS from folders as their authors publish them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cosyvoice_folders import byte_vocabulary, load_cosyvoice, recording, seeded, write_cosyvoice
from speech import in_rounds
from speech_folders import write_spark

from photophone import TextToSpeechPipeline, Voice, VoiceAttributes
from photophone.decoding.loop import DecodingStopped
from photophone.text.cosyvoice import added_tokens, load_cosyvoice_tokenizer

FAST = {"num_inference_steps": None}
COSYVOICES = ("cosyvoice2-0.5b", "cosyvoice3-0.5b")
TEXTS = ["a hen.", "ten men led him."]


@pytest.fixture(scope="module", params=COSYVOICES)
def cosyvoice(request, tmp_path_factory):
    return load_cosyvoice(write_cosyvoice(tmp_path_factory.mktemp(request.param), request.param), request.param)


def test_cosyvoice_speaks_with_a_voice(cosyvoice):
    rate = 16000
    known, unknown = (Voice(recording(rate), rate, text) for text in ("he had a cat.", None))
    results = [cosyvoice("a hen.", generator=seeded(1)[0], **options) for options in (
        {"voice": known}, {"voice": unknown}, {"voice": known, "instruction": "in a whisper"})]
    for result in results:
        (audio,) = result.audio
        assert np.isfinite(audio).all() and result.sample_rate == cosyvoice.sample_rate
        assert len(audio) > 100 and result.model in COSYVOICES and result.faults in ([()], [result.faults[0]])
    assert results[0].settings["voice"] == "he had a cat." and results[2].settings["instruction"] == "in a whisper"
    again = cosyvoice("a hen.", voice=known, generator=seeded(1)[0])
    np.testing.assert_array_equal(again.audio[0], results[0].audio[0])


def test_what_cosyvoice_reads(cosyvoice):
    """The layouts of the modes, as the authors' front end has them."""
    front, rate = cosyvoice.front, 16000
    third = not cosyvoice.speech_generator.config.own_specials
    start = "You are a helpful assistant.<|endofprompt|>" if third else ""
    for text, instruction, before, prompt in (
            ("no.", None, start + "no.", True), (None, None, start, False),
            ("no.", "soft", ("You are a helpful assistant. " if third else "") + "soft<|endofprompt|>", False)):
        voice = front.whole_voice(Voice(recording(rate), rate, text), instruction)
        (piece,) = front.pieces("a hen.")
        from photophone.pipelines.speech_fronts import Request
        condition = front.request_of(Request(piece, voice))
        ids = cosyvoice.text_tokenizer(before + "a hen.")["input_ids"]
        assert condition.text[0].tolist() == ids and condition.said.tolist() == [6]
        assert (condition.prompt_tokens is not None) == prompt
    flow, frames = cosyvoice.flow, voice.mel.shape[1]
    assert frames == flow.frames(len(voice.tokens)) and voice.speaker.shape == (1, flow.config.speaker_dim)


def test_a_cosyvoice_stream_equals_the_whole(cosyvoice, monkeypatch):
    monkeypatch.setattr("photophone.text.cosyvoice_forms.MOST", 18)
    monkeypatch.setattr("photophone.text.cosyvoice_forms.LEAST", 4)
    monkeypatch.setattr("photophone.text.cosyvoice_forms.LAST", 1)
    voice = Voice(recording(16000), 16000, "no.")
    text = "a hen. ten men led him."
    (whole,) = cosyvoice(text, voice=voice, generator=seeded(3)[0]).audio
    chunks = list(cosyvoice.stream(text, voice=voice, generator=seeded(3)[0]))
    assert len(chunks) > 3 and len(cosyvoice.front.pieces(text)) == 2
    np.testing.assert_allclose(np.concatenate([chunk.audio for chunk in chunks]), whole, atol=1e-4)


def test_a_batch_of_cosyvoice_equals_its_texts(cosyvoice):
    voice = Voice(recording(16000), 16000, None)
    batch = cosyvoice(TEXTS, voice=voice, generator=seeded(1, 2))
    for text, seed, audio in zip(TEXTS, (1, 2), batch.audio):
        np.testing.assert_allclose(cosyvoice(text, voice=voice, generator=seeded(seed)[0]).audio[0], audio, atol=1e-6)


def test_cosyvoice_in_rounds_equals_its_texts(cosyvoice):
    voice = Voice(recording(16000), 16000, None)
    for seed, (text, audio) in enumerate(zip(TEXTS, in_rounds(cosyvoice, TEXTS, voice=voice))):
        alone = cosyvoice(text, voice=voice, generator=seeded(seed)[0]).audio[0]
        np.testing.assert_allclose(audio, alone, atol=1e-6)


def too_short(result):
    """What the sound of "a hen." is told of: tiny vocoders make a few samples of a token."""
    seconds = len(result.audio[0]) / result.sample_rate
    assert 0 < seconds < 0.16  # four letters, of 25 a second
    return f"lasts {seconds:.2f} s, which cannot hold all words (0.16 s are the least): 'a hen.'"


def test_endless_speech_is_bounded_and_reported(cosyvoice, monkeypatch):
    never = torch.finfo(torch.float32).min
    model, count = cosyvoice.speech_generator, cosyvoice.speech_generator.config.num_tokens
    scores = model.scores
    monkeypatch.setattr(model, "scores", lambda states: torch.cat(
        [scores(states)[:, :count], torch.full((1, model.token_head.vocab_size - count), never)], dim=1))
    monkeypatch.setattr(type(cosyvoice), "published_sampler", {"max_ratio": 3.0})
    result = cosyvoice("a hen.", voice=Voice(recording(16000), 16000, "no."), generator=seeded(1)[0])
    assert result.faults == [("stopped at the limit of 18 tokens: 'a hen.'", too_short(result))]
    assert "stopped at the limit" in result.facts(0)["faults"][0]


@pytest.mark.parametrize("cosyvoice", ["cosyvoice3-0.5b"], indirect=True)
def test_speech_that_ends_too_early_is_reported(cosyvoice, monkeypatch):
    """CosyVoice 3 may end at once, because its authors hold back a token that is never drawn."""
    model, count, calls = cosyvoice.speech_generator, cosyvoice.speech_generator.config.num_tokens, []
    scores = model.scores

    def ending(states):
        calls.append(1)
        made = scores(states)
        made[:, count + 1 if len(calls) > 5 else 7 * len(calls)] = 1000
        return made

    monkeypatch.setattr(model, "scores", ending)
    result = cosyvoice("a hen.", voice=Voice(recording(16000), 16000, "no."), generator=seeded(1)[0])
    assert result.faults == [("ended after 5 tokens, which cannot hold all words (12 are the least): 'a hen.'",
                              too_short(result))]


def test_saved_cosyvoices_speak_alike(cosyvoice, tmp_path):
    cosyvoice.save_pretrained(tmp_path)
    again = TextToSpeechPipeline.from_pretrained(tmp_path)
    voice = Voice(recording(16000), 16000, "no.")
    one, two = (pipeline("a hen.", voice=voice, generator=seeded(5)[0]) for pipeline in (cosyvoice, again))
    assert np.array_equal(one.audio[0], two.audio[0]) and replace(one, audio=[]) == replace(two, audio=[])


@pytest.mark.parametrize(("options", "message"), [
    ({}, "recorded voices"), ({"voice": VoiceAttributes("male")}, "recorded voices"),
    ({"voice": "a.wav"}, "given as Voice"),
    ({"voice": Voice(torch.zeros(100), 16000, "no")}, "lasts 0.01 s; give 0.2"),
    ({"voice": Voice(recording(16000), 16000, "")}, "no words"), ({"text": "?"}, "no words"),
    ({"voice": Voice(recording(16000), 16000, "no"), "output_type": "latent"}, "no latents"),
    ({"voice": Voice(recording(16000), 16000, "no"), "temperature": 1.0}, "has no option temperature"),
    ({"voice": Voice(recording(16000), 16000, "no"), "instruction": " "}, "no words"),
])
def test_cosyvoice_refuses(cosyvoice, options, message):
    with pytest.raises(ValueError, match=message):
        cosyvoice(**{"text": "a hen.", **options})


def test_missing_files_are_named(tmp_path):
    folder = write_cosyvoice(tmp_path, "cosyvoice2-0.5b")
    (folder / "campplus.onnx").unlink()
    with pytest.raises(ValueError, match=r"holds no campplus.onnx"):
        load_cosyvoice(folder, "cosyvoice2-0.5b")
    (folder / "campplus.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match="no ONNX network that can run"):
        load_cosyvoice(folder, "cosyvoice2-0.5b")
    (folder / "llm.pt").unlink()
    with pytest.raises(ValueError, match=r"holds no llm.pt"):
        load_cosyvoice(folder, "cosyvoice2-0.5b")


def test_added_tokens_have_the_ids_of_the_authors(tmp_path):
    byte_vocabulary().save_pretrained(tmp_path)
    for third in (False, True):
        tokenizer = load_cosyvoice_tokenizer(tmp_path, third=third)
        words = added_tokens(third)
        assert tokenizer.convert_tokens_to_ids(words) == list(range(256, 256 + len(words)))
        assert len(words) == (280 if third else 19) and words[2] == "<|endofprompt|>"
        assert tokenizer("a[breath]")["input_ids"][1:] == [259]


# Spark-TTS ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spark(tmp_path_factory):
    folder = write_spark(tmp_path_factory.mktemp("spark"))
    pipeline = TextToSpeechPipeline.from_original("spark-tts-0.5b", folder, bicodec=folder / "codec")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_spark_speaks_with_recorded_and_described_voices(spark):
    rate, made = spark.codec.sample_rate, []
    voices = (Voice(recording(rate, 0.1), rate, "no."), Voice(recording(rate, 0.1), rate),
              VoiceAttributes("female", "high", "low"))
    for voice in voices:
        result = spark(TEXTS, voice=voice, generator=seeded(1, 2))
        assert len(result.audio) == 2 and all(np.isfinite(audio).all() for audio in result.audio)
        made.append(result)
        for text, seed, audio in zip(TEXTS, (1, 2), result.audio):
            np.testing.assert_array_equal(spark(text, voice=voice, generator=seeded(seed)[0]).audio[0], audio)
    assert any(len(audio) for result in made for audio in result.audio)
    assert made[2].settings["voice"] == {"gender": "female", "pitch": "high", "speed": "low"}
    assert "CC BY-NC-SA" in made[0].weights_licence and made[0].settings["temperature"] == 0.8


def test_a_spark_stream_equals_the_whole(spark, monkeypatch):
    monkeypatch.setattr("photophone.pipelines.language_fronts.PIECE_IDS", 12)
    text = "a hen. ten men."
    voice = Voice(recording(16000, 0.1), 16000)
    (whole,) = spark(text, voice=voice, generator=seeded(4)[0]).audio
    chunks = list(spark.stream(text, voice=voice, generator=seeded(4)[0]))
    assert len(spark.front.pieces(text)) == 2
    np.testing.assert_array_equal(np.concatenate([chunk.audio for chunk in chunks]), whole)


def test_a_described_voice_stays_for_a_long_text(spark, monkeypatch):
    monkeypatch.setattr("photophone.pipelines.language_fronts.PIECE_IDS", 12)
    prompts = []
    prompt = type(spark.front).prompt
    monkeypatch.setattr(type(spark.front), "prompt",
                        lambda front, text, voice: prompts.append(prompt(front, text, voice)) or prompts[-1])
    for seed in range(8):
        prompts.clear()
        result = spark("a hen. ten men.", voice=VoiceAttributes("male"), generator=seeded(seed)[0])
        assert len(prompts) == 2 and prompts[0].startswith("<|task_controllable_tts|>")
        if not any("no speech" in fault and "a hen" in fault for fault in result.faults[0]):
            assert prompts[1].startswith("<|task_tts|>") and "<|start_semantic_token|>" not in prompts[1]
            return
    pytest.fail("no seed made a voice")


@pytest.mark.parametrize(("options", "message"), [
    ({}, "needs a voice"), ({"voice": VoiceAttributes("child")}, "gender must be one of female, male"),
    ({"voice": VoiceAttributes("male", pitch="5")}, "pitch must be one of very_low"),
    ({"voice": VoiceAttributes("male"), "instruction": "slowly"}, "takes no instruction"),
    ({"voice": VoiceAttributes("male"), "text": "a <|im_end|> b"}, "takes for one of its tokens"),
    ({"voice": Voice(torch.zeros(9), 16000, "<|task_tts|>")}, "takes for one of its tokens"),
])
def test_spark_refuses(spark, options, message):
    with pytest.raises(ValueError, match=message):
        spark(**{"text": "a hen.", **options})


def test_callbacks_stop_between_pieces(spark, monkeypatch):
    monkeypatch.setattr("photophone.pipelines.language_fronts.PIECE_IDS", 12)
    seen = []

    def stop(pipeline, step, total, _):
        seen.append((step, total))
        pipeline._interrupt = True

    with pytest.raises(DecodingStopped):
        spark("a hen. ten men.", voice=VoiceAttributes("male"), generator=seeded(1)[0], callback_on_step_end=stop)
    assert seen == [(1, 2)]
