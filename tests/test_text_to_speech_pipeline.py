"""The text-to-speech pipeline on small real parts: calls, seeds, streaming, files."""

import json

import numpy as np
import pytest
import soundfile
import torch
from speech import small_codec, small_speech

from photophone import TextToSpeechPipeline, Tokens, Voice
from photophone.decoding.loop import DecodingStopped

TEXTS = ["Light carries sound.", "She sells sea shells. Who goes there? Nobody else is at risk today.", "No.",
         "The sun is warm.\n\nAnd that was the start."]
FAST = {"num_inference_steps": 2}


@pytest.fixture(scope="module")
def pipeline():
    return TextToSpeechPipeline(small_speech(), small_codec())


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_a_text_is_spoken(pipeline):
    result = pipeline(TEXTS[0], generator=seeded(7)[0], **FAST)
    (audio,) = result.audio
    assert audio.dtype == np.float32 and audio.ndim == 1 and len(audio) % pipeline.codec.hop_length == 0
    assert result.sample_rate == 16000 and result.seeds == [7] and result.texts == [TEXTS[0]]
    assert np.abs(audio).max() <= 1 and audio.std() > 1e-3
    assert result.settings == {"guidance_scale": 2.0, "temperature": 1.0, "num_inference_steps": 2, "speed": 1.0,
                               "pause": 0.15}


def test_a_seed_means_the_same_speech_alone_and_in_a_batch(pipeline):
    batch = pipeline(TEXTS, generator=seeded(4, 4, 9, 1), **FAST)
    for row, (text, seed) in enumerate(zip(TEXTS, (4, 4, 9, 1))):
        (alone,) = pipeline(text, generator=seeded(seed)[0], **FAST).audio
        assert alone.shape == batch.audio[row].shape
        np.testing.assert_allclose(alone, batch.audio[row], atol=1e-4)
    (other,) = pipeline(TEXTS[0], generator=seeded(5)[0], **FAST).audio
    assert np.abs(other - batch.audio[0]).max() > 1e-2


@pytest.mark.parametrize("text", TEXTS[1::2])
def test_streaming_equals_the_whole(pipeline, text):
    (whole,) = pipeline(text, generator=seeded(3)[0], **FAST).audio
    chunks = list(pipeline.stream(text, generator=seeded(3)[0], **FAST))
    assert len(chunks) > 5 and all(chunk.sample_rate == 16000 for chunk in chunks)
    np.testing.assert_allclose(np.concatenate([chunk.audio for chunk in chunks]), whole, atol=1e-4)


def test_latents_decode_to_the_speech(pipeline):
    audio, latents = (pipeline(TEXTS[1], generator=seeded(2)[0], output_type=kind, **FAST).audio[0]
                      for kind in ("pt", "latent"))
    assert isinstance(latents, Tokens)
    torch.testing.assert_close(pipeline.codec.decode(latents)[0, 0], audio, atol=1e-5, rtol=0)


def test_pauses_are_silent_tokens_between_sentences_only(pipeline):
    rate = pipeline.codec.frame_rate
    lengths = {pause: [tokens.num_tokens for tokens in pipeline(
        TEXTS, generator=seeded(1, 2, 3, 4), pause=pause, output_type="latent", **FAST).audio] for pause in (0, 0.5)}
    # three sentences have two pauses; that of a paragraph is two
    assert [b - a for a, b in zip(lengths[0], lengths[0.5])] == [0, rate, 0, rate]


def test_speed_shortens(pipeline):
    slow, fast = (len(pipeline(TEXTS[1], generator=seeded(1)[0], speed=speed, **FAST).audio[0]) for speed in (0.7, 1.5))
    assert fast < slow


def test_the_callback_counts_sentences_and_can_stop(pipeline):
    seen = []
    pipeline(TEXTS[1], callback_on_step_end=lambda *arguments: seen.append(arguments[1:3]), **FAST)
    assert seen == [(3, 3)]
    seen.clear()
    list(pipeline.stream(TEXTS[1], callback_on_step_end=lambda *arguments: seen.append(arguments[1:3]), **FAST))
    assert seen == [(1, 3), (2, 3), (3, 3)]

    def stop(pipe, step, total, _):
        pipe._interrupt = True

    with pytest.raises(DecodingStopped, match="sentence 1 of 3"):
        list(pipeline.stream(TEXTS[1], callback_on_step_end=stop, **FAST))
    assert pipeline(TEXTS[0], **FAST).audio  # the next call starts afresh


def test_an_abandoned_stream_frees_the_codec(pipeline):
    stream = pipeline.stream(TEXTS[1], **FAST)
    next(stream)
    with pytest.raises(RuntimeError, match="streams already"):
        pipeline(TEXTS[0], **FAST)
    stream.close()
    assert pipeline(TEXTS[0], **FAST).audio


@pytest.mark.parametrize(("options", "message"), [
    ({"text": ""}, "empty"), ({"text": "Привет"}, "cyrillic"), ({"text": "?!"}, "only punctuation"),
    ({"text": []}, "0 texts"), ({"text": 3}, "must be a string"), ({"speed": 3}, "speed must be 0.5 to 2"),
    ({"speed": float("nan")}, "speed must be"), ({"pause": -1}, "pause must be"),
    ({"guidance_scale": -1}, "guidance_scale must be"), ({"temperature": 9}, "temperature must be"),
    ({"num_inference_steps": 0}, "num_inference_steps must be"), ({"output_type": "wav"}, "output_type must be"),
])
def test_refusals(pipeline, options, message):
    with pytest.raises(ValueError, match=message):
        pipeline(**{"text": TEXTS[0], **options})


def test_the_speech_alone(pipeline):
    (audio,) = pipeline(TEXTS[:2], generator=seeded(1, 2), return_dict=False, **FAST)
    whole = pipeline(TEXTS[:2], generator=seeded(1, 2), **FAST)
    assert all(np.array_equal(one, two) for one, two in zip(audio, whole.audio, strict=True))


def test_a_voice_is_refused_where_there_is_one(pipeline):
    with pytest.raises(ValueError, match="one voice of its own"):
        pipeline(TEXTS[0], voice=Voice(np.zeros(100, np.float32), 16000), **FAST)


def test_saving_writes_wav_and_json(pipeline, tmp_path):
    result = pipeline(TEXTS[:2], generator=seeded(1, 2), **FAST)
    files = result.save(tmp_path / "new")
    assert [file.name for file in files] == ["light-carries-sound-1.wav",
                                             "she-sells-sea-shells-who-goes-there-nobo-2.wav"]
    for row, file in enumerate(files):
        audio, rate = soundfile.read(file, dtype="float32")
        assert rate == 16000
        np.testing.assert_allclose(audio, result.audio[row], atol=1 / 32767)
        facts = json.loads(file.with_suffix(".json").read_text())
        assert facts["text"] == TEXTS[row] and facts["seed"] == row + 1 and facts["num_inference_steps"] == 2
        assert {"model", "revision", "weights_licence", "speed", "sample_rate", "seconds"} <= set(facts)
    assert sorted(file.suffix for file in files[0].parent.iterdir()) == [".json"] * 2 + [".wav"] * 2
    with pytest.raises(ValueError, match="2 texts do not fit one file"):
        result.save(tmp_path / "one.wav")


def test_a_failed_save_leaves_nothing(pipeline, tmp_path):
    result = pipeline(TEXTS[0], **FAST)
    result.settings["callback"] = object()  # cannot be written as JSON
    with pytest.raises(TypeError):
        result.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_saved_pipeline_speaks_alike(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["speech_generator"] == ["photophone", "SpeechFlowAR"] and index["codec"] == ["photophone",
                                                                                            "StreamCodec"]
    again = TextToSpeechPipeline.from_pretrained(tmp_path)
    one, two = (p(TEXTS[0], generator=seeded(5)[0], **FAST).audio[0] for p in (pipeline, again))
    assert np.array_equal(one, two)
