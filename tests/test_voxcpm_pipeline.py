"""TextToSpeechPipeline with VoxCPM: from a published folder, voices, streaming, long texts, refusals."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from speech_folders import write_voxcpm
from typer.testing import CliRunner

from photophone import SeededNoise, TextToSpeechPipeline, Tokens, Voice
from photophone.cli import app
from photophone.core.noise import draw_seed
from photophone.generators.voxcpm.sampler import VoxCPMSampler
from photophone.text.voxcpm import voxcpm_ids

GOLDEN = Path(__file__).parent / "goldens" / "data" / "voxcpm"
FAST = {"num_inference_steps": 3}
NAMES = {"v1": "voxcpm-0.5b", "v2": "voxcpm-2"}
LONG = "a bad cab. a big dig. he fed a hen, and ten men led him. oh no. we do go on and on."


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def recording(rate, seconds=0.01):
    time = torch.arange(round(rate * seconds)) / rate
    return 0.3 * torch.sin(2 * torch.pi * 440 * time)


@pytest.fixture(scope="module", params=NAMES)
def pipeline(request, tmp_path_factory):
    folder = write_voxcpm(tmp_path_factory.mktemp(request.param), request.param)
    made = TextToSpeechPipeline.from_original(NAMES[request.param], folder)
    made.set_progress_bar_config(disable=True)
    return made


def test_a_published_folder_speaks_as_its_parts_do(pipeline):
    result = pipeline("a hen", generator=seeded(7)[0], **FAST)
    model, codec = pipeline.speech_generator, pipeline.codec
    ids = voxcpm_ids(pipeline.text_tokenizer, "a hen")
    seed = draw_seed(seeded(7)[0])
    tokens = model.generate(model.prepare([ids]), noise=SeededNoise.from_seeds([seed]),
                            sampler=VoxCPMSampler(max_patches=6 * len(ids) + 10, **FAST))
    np.testing.assert_allclose(result.audio[0], codec.decode(tokens)[0, 0].numpy(), atol=1e-5)
    assert result.sample_rate == codec.output_sample_rate and result.model in NAMES.values()
    assert result.weights_licence == "Apache-2.0" and result.settings["guidance_scale"] == 2.0


def test_a_voice_is_continued_without_its_own_sound(pipeline):
    rate = pipeline.codec.sample_rate
    voice = Voice(recording(rate), rate, "he had a cat.")
    result = pipeline("a hen", voice=voice, generator=seeded(7)[0], **FAST)
    model, codec = pipeline.speech_generator, pipeline.codec
    size = model.config.patch_size * codec.hop_length
    padded = torch.nn.functional.pad(recording(rate), (-160 % size, 0))  # silence in front
    prompt = codec.encode(padded[None, None]).values[0]
    ids = voxcpm_ids(pipeline.text_tokenizer, "he had a cat.a hen")
    most = 6 * len(voxcpm_ids(pipeline.text_tokenizer, "a hen")) + 10
    tokens = model.generate(model.prepare([ids], [prompt]), noise=SeededNoise.from_seeds([draw_seed(seeded(7)[0])]),
                            sampler=VoxCPMSampler(max_patches=most, **FAST))
    context = model.context(prompt)[None]
    whole = codec.decode(Tokens(torch.cat([context, tokens.values], dim=1)))[0, 0]
    expected = whole[-tokens.num_tokens * codec.output_hop:]
    np.testing.assert_allclose(result.audio[0], expected.numpy(), atol=1e-5)
    other = pipeline("a hen", generator=seeded(7)[0], **FAST).audio[0]
    assert other.shape != result.audio[0].shape or np.abs(other - result.audio[0]).max() > 1e-3
    assert result.settings["voice"] == "he had a cat." and result.settings["voice_tokens"] == len(prompt)


@pytest.mark.parametrize("spoken", [False, True])
def test_streaming_equals_the_whole(pipeline, spoken, monkeypatch):
    monkeypatch.setattr("photophone.text.voxcpm.written_pieces.__defaults__", (24,))
    rate = pipeline.codec.sample_rate
    voice = Voice(recording(rate), rate, "no.") if spoken else None
    (whole,) = pipeline(LONG, voice=voice, generator=seeded(3)[0], **FAST).audio
    chunks = list(pipeline.stream(LONG, voice=voice, generator=seeded(3)[0], **FAST))
    assert len(chunks) > 10 and len(pipeline.front.pieces(LONG)) > 2
    np.testing.assert_allclose(np.concatenate([chunk.audio for chunk in chunks]), whole, atol=1e-4)


def test_a_batch_equals_its_texts_and_long_texts_keep_the_first_voice(pipeline, monkeypatch):
    monkeypatch.setattr("photophone.text.voxcpm.written_pieces.__defaults__", (24,))
    texts = ["a hen", LONG, "oh no. he is on it. a bad cab is on a big hill."]
    batch = pipeline(texts, generator=seeded(1, 2, 3), **FAST).audio
    for row, (text, seed) in enumerate(zip(texts, (1, 2, 3))):
        (alone,) = pipeline(text, generator=seeded(seed)[0], **FAST).audio
        np.testing.assert_allclose(batch[row], alone, atol=1e-4)
    given = []
    condition = pipeline.front.condition
    monkeypatch.setattr(type(pipeline.front), "condition",
                        lambda front, requests: given.extend(requests) or condition(requests))
    list(pipeline.stream(LONG, generator=seeded(2)[0], **FAST))
    first, later = given[0], given[-1]
    assert first.voice is None and later.voice.text == first.piece.text + " "
    assert later.voice.tokens.shape[1] == pipeline.codec.token_dim


def test_references_without_words_are_for_version_2(pipeline):
    rate = pipeline.codec.sample_rate
    voice = Voice(recording(rate).numpy(), rate)
    if not pipeline.speech_generator.reads_references:
        with pytest.raises(ValueError, match="needs the words"):
            pipeline("a hen", voice=voice, **FAST)
        return
    spoken = pipeline.read_voice(voice)
    size = pipeline.speech_generator.config.patch_size * pipeline.codec.hop_length
    padded = torch.nn.functional.pad(recording(rate), (0, -160 % size))  # silence behind
    torch.testing.assert_close(spoken.tokens, pipeline.codec.encode(padded[None, None]).values[0])
    assert np.isfinite(pipeline("a hen", voice=voice, generator=seeded(1)[0], **FAST).audio[0]).all()


def test_voices_are_files_too(pipeline, tmp_path):
    from photophone.data.audio import write_audio
    rate = pipeline.codec.sample_rate
    write_audio(tmp_path / "voice.wav", recording(rate), rate)
    one, two = (pipeline.read_voice(Voice(source, given, "no.")).tokens
                for source, given in ((tmp_path / "voice.wav", None), (recording(rate), rate)))
    torch.testing.assert_close(one, two, atol=1e-2, rtol=1e-2)  # 16 bits


def test_the_command_line_speaks_with_a_voice(pipeline, tmp_path):
    voice, folder = tmp_path / "voice.wav", tmp_path / "saved"
    soundfile.write(voice, recording(16000, 0.02).numpy(), 16000)
    pipeline.save_pretrained(folder)
    arguments = ["speak", "a cab.", "--voice", str(voice), "--voice-text", "a bad cab.", "--seed", "1", "-m",
                 str(folder), "-o", str(tmp_path / "made.wav"), "--json"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    made, rate = soundfile.read(tmp_path / "made.wav", dtype="float32")
    expected = pipeline("a cab.", voice=Voice(voice, text="a bad cab."), generator=seeded(1)[0]).audio[0]
    assert rate == pipeline.sample_rate and len(made) == len(expected)
    facts = json.loads((tmp_path / "made.json").read_text())
    assert facts["voice"] == str(voice) and facts["voice_text"] == "a bad cab."


@pytest.mark.parametrize(("options", "message"), [
    ({"text": ""}, "no words"), ({"text": " ?! "}, "no words"), ({"speed": 3}, "speed must be 0.5 to 2"),
    ({"voice": "voice.wav"}, r"must be a photophone.Voice\(audio"),
    ({"voice": Voice(torch.zeros(2, 100), 16000, "no")}, r"float \(T,\)"),
    ({"voice": Voice(torch.full((9,), torch.nan), 16000, "no")}, "without NaN"),
    ({"voice": Voice(torch.zeros(100), None, "no")}, "needs its sampling_rate"),
    ({"voice": Voice(torch.zeros(100), 16000, "")}, "no words"),
    ({"voice": Voice(torch.zeros(70 * 4000), 4000, "no")}, "70 s, over the limit of 60 s"),
    ({"voice": Voice(torch.zeros(6000), 16000, "no")}, "leave no room in the 400 positions"),
    ({"instruction": "(low)"}, "brackets|from version 2 on"), ({"instruction": "?"}, "no words|from version 2 on"),
    ({"instruction": "low", "voice": Voice(torch.zeros(100), 16000, "no")}, "own style|from version 2 on"),
    ({"voice": Voice(torch.zeros(100), 16000, reference=torch.zeros(100))}, "where the recording's words are given"),
])
def test_refusals(pipeline, options, message):
    with pytest.raises(ValueError, match=message):
        pipeline(**{"text": "a hen", **options}, **FAST)


def test_saved_pipelines_speak_alike_and_keep_their_name(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["speech_generator"] == ["photophone", "VoxCPM"] and index["codec"] == ["photophone", "AudioVAE"]
    again = TextToSpeechPipeline.from_pretrained(tmp_path)
    one, two = (p("a hen", generator=seeded(5)[0], **FAST) for p in (pipeline, again))
    assert np.array_equal(one.audio[0], two.audio[0])
    assert replace(one, audio=[]) == replace(two, audio=[])


def test_wrong_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint named gpt; it is made of voxcpm, vae, text_tokenizer"):
        TextToSpeechPipeline.from_original("voxcpm-0.5b", tmp_path, gpt="x")
    with pytest.raises(ValueError, match="holds no pytorch_model.bin of voxcpm-0.5b"):
        TextToSpeechPipeline.from_original("voxcpm-0.5b", tmp_path)
    with pytest.raises(ValueError, match="no model for TextToSpeechPipeline; use ClassToImagePipeline"):
        TextToSpeechPipeline.from_original("mar-base", tmp_path)
    folder = write_voxcpm(tmp_path, "v1")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match="holds no text tokenizer"):
        TextToSpeechPipeline.from_original("voxcpm-0.5b", folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="must hold a JSON object"):
        TextToSpeechPipeline.from_original("voxcpm-0.5b", folder)


def test_speech_that_is_cut_is_reported(pipeline, monkeypatch):
    monkeypatch.setattr("photophone.pipelines.voxcpm_front.MOST_PATCHES", 5)
    result = pipeline(["a hen", "oh no"], generator=seeded(1, 2), **FAST)
    for text, audio, faults in zip(result.texts, result.audio, result.faults):
        cut = len(audio) >= 5 * pipeline.speech_generator.config.patch_size * pipeline.codec.hop_length
        told = tuple(fault for fault in faults if "which cannot hold all words" not in fault)
        assert told == ((f"stopped at the limit of 5 patches: {text!r}",) if cut else ())
        assert (told != faults) == (len(audio) / result.sample_rate < 4 / 25)  # four letters in each text


def given_to(pipeline, monkeypatch):
    """A list that gets what the generator is asked to read: text ids, prompts and references of each row."""
    seen = []
    prepare = pipeline.speech_generator.prepare
    monkeypatch.setattr(pipeline.speech_generator, "prepare", lambda *rows: seen.append(rows) or prepare(*rows))
    return seen


def second(pipeline):
    if not pipeline.speech_generator.reads_references:
        pytest.skip("of version 2")
    return pipeline.codec.sample_rate


def test_style_words_stand_before_every_piece_of_a_long_text(pipeline, monkeypatch):
    second(pipeline)
    monkeypatch.setattr("photophone.text.voxcpm.written_pieces.__defaults__", (24,))
    for text, options in ((LONG, {"instruction": "warm and low"}), (f"(warm and low){LONG}", {})):
        seen = given_to(pipeline, monkeypatch)
        chunks = list(pipeline.stream(text, generator=seeded(3)[0], **options, **FAST))
        pieces = [piece.text for piece in pipeline.front.pieces(LONG)]
        assert len(pieces) > 2 and len(seen) == len(pieces)
        for words, ((ids,), (prompt,), (reference,)) in zip(pieces, seen):
            assert ids == voxcpm_ids(pipeline.text_tokenizer, "(warm and low)" + words)
            assert prompt is None and (reference is None) == (words == pieces[0])
        (whole,) = pipeline(text, generator=seeded(3)[0], **options, **FAST).audio
        np.testing.assert_allclose(np.concatenate([chunk.audio for chunk in chunks]), whole, atol=1e-4)


def test_style_words_of_a_text_are_not_said_again_where_a_recording_is_continued(pipeline, monkeypatch):
    rate = second(pipeline)
    monkeypatch.setattr("photophone.text.voxcpm.written_pieces.__defaults__", (24,))
    seen = given_to(pipeline, monkeypatch)
    list(pipeline.stream(f"(warm) {LONG}", voice=Voice(recording(rate), rate, "no."), generator=seeded(3)[0], **FAST))
    pieces = [piece.text for piece in pipeline.front.pieces(LONG)]
    expected = [f"no.(warm) {pieces[0]}", *(f"no.{words}" for words in pieces[1:])]
    assert [ids for (ids,), _, _ in seen] == [voxcpm_ids(pipeline.text_tokenizer, text) for text in expected]


def test_a_reference_beside_a_recording_that_is_continued(pipeline, monkeypatch):
    rate = second(pipeline)
    other = recording(rate, 0.02).flip(0)
    spoken = pipeline.read_voice(Voice(recording(rate), rate, "no.", reference=other))
    torch.testing.assert_close(spoken.tokens, pipeline.read_voice(Voice(recording(rate), rate, "no.")).tokens)
    torch.testing.assert_close(spoken.reference, pipeline.read_voice(Voice(other, rate)).tokens)
    seen = given_to(pipeline, monkeypatch)
    voice = Voice(recording(rate), rate, "no.", reference=other)
    result = pipeline("a hen", voice=voice, generator=seeded(1)[0], **FAST)
    ((ids,), (prompt,), (reference,)), = seen
    assert ids == voxcpm_ids(pipeline.text_tokenizer, "no.a hen")
    assert torch.equal(prompt, spoken.tokens) and torch.equal(reference, spoken.reference)
    assert result.settings["reference_tokens"] == len(reference) and np.isfinite(result.audio[0]).all()


def test_speech_is_stretched_where_the_model_knows_one_pace(pipeline):
    usual = pipeline("a hen. oh no.", generator=seeded(1)[0], **FAST)
    fast = pipeline("a hen. oh no.", generator=seeded(1)[0], speed=1.5, **FAST)
    assert fast.settings["speed"] == 1.5 and "speed" not in usual.settings
    assert len(fast.audio[0]) == pytest.approx(len(usual.audio[0]) / 1.5, abs=2)
    chunks = [chunk.audio for chunk in pipeline.stream("a hen. oh no.", generator=seeded(1)[0], speed=1.5, **FAST)]
    np.testing.assert_allclose(np.concatenate(chunks), fast.audio[0], atol=1e-4)
    slow = pipeline("<speak>a hen. <prosody rate='50%'>oh no.</prosody></speak>", generator=seeded(1)[0], **FAST)
    assert len(slow.audio[0]) > 1.2 * len(usual.audio[0])


def test_pauses_and_volume_work_for_words_too(pipeline):
    rate, options = pipeline.sample_rate, {"generator": seeded(1)[0], **FAST}
    usual = pipeline("a hen.", **options).audio[0]
    made = pipeline("a hen. [pause 0.5s]", **{**options, "generator": seeded(1)[0]}).audio[0]
    assert len(made) - len(usual) == round(0.5 * pipeline.codec.frame_rate) * pipeline.codec.output_hop
    soft = pipeline("<speak><prosody volume='-20dB'>a hen.</prosody></speak>",
                    **{**options, "generator": seeded(1)[0]}).audio[0]
    np.testing.assert_allclose(soft[rate // 100:], usual[rate // 100:] / 10, atol=1e-5)


def test_times_and_phonemes_are_for_models_that_know_them(pipeline):
    assert pipeline("a hen", generator=seeded(1)[0], **FAST).words is None
    for options, message in (({"pronounce": {"hen": "hɛn"}}, "reads letters"),
                             ({"text": "<speak><phoneme ph='hɛn'>hen</phoneme></speak>"}, "reads letters")):
        with pytest.raises(ValueError, match=message):
            pipeline(**{"text": "a hen", **options}, **FAST)
    with pytest.raises(ValueError, match="does not tell when it says a word"):
        pipeline.explain("a hen")
