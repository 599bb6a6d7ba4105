"""TextToSpeechPipeline with CosyVoice 1 from folders as its authors publish them; named voices of all versions."""

import json

import numpy as np
import pytest
import torch
from cosyvoice_folders import (
    built,
    load_cosyvoice,
    recording,
    seeded,
    write_cosyvoice,
    write_speakers,
)
from typer.testing import CliRunner

from photophone import NamedSpeakers, TextToSpeechPipeline, TokenToSpeechPipeline, Voice
from photophone.cli import app
from photophone.loading.registry import find, load_original
from photophone.pipelines.speech_fronts import Request
from photophone.text.voxcpm import WrittenPiece

FIRST = ("cosyvoice-300m", "cosyvoice-300m-25hz", "cosyvoice-300m-instruct")
ALL = (*FIRST, "cosyvoice2-0.5b", "cosyvoice3-0.5b")
RATE = 16000
PIECE = WrittenPiece("a hen.", "paragraph")


@pytest.fixture(scope="module", params=ALL)
def speaking(request, tmp_path_factory):
    folder = write_cosyvoice(tmp_path_factory.mktemp(request.param), request.param)
    flow = find(f"{request.param}-flow").tiny
    write_speakers(folder / "spk2info.pt", flow["speaker_dim"], flow["mel_dim"])
    pipeline = load_cosyvoice(folder, request.param)
    with pytest.MonkeyPatch.context() as patch:  # short speech in few steps
        patch.setattr(TextToSpeechPipeline, "published_sampler", {"max_ratio": 4.0})
        patch.setattr(TokenToSpeechPipeline, "published_sampler", {"num_inference_steps": 2})
        yield pipeline


def is_first(pipeline):
    return pipeline.source["model"] in FIRST


def follows(pipeline):
    return not is_first(pipeline) or pipeline.source["model"].endswith("instruct")


def read(pipeline, voice, instruction=None):
    """What the language model reads: text, text to say, speech to continue, vector of the speaker."""
    front = pipeline.front
    condition = front.request_of(Request(PIECE, front.whole_voice(voice, instruction)))
    spoken = None if condition.prompt_tokens is None else condition.prompt_tokens[0].tolist()
    return condition.text[0].tolist(), int(condition.said[0]), spoken, condition.speaker


def test_all_modes_speak(speaking):
    voices = [Voice(recording(RATE), RATE, "no."), Voice(recording(RATE), RATE), "中文女", "reader"]
    made = []
    for voice in voices:
        result = speaking("a hen.", voice=voice, generator=seeded(1)[0])
        assert np.isfinite(result.audio[0]).all() and len(result.audio[0]) > 100
        assert isinstance(voice, Voice) or result.settings["voice"] == voice
        again = speaking("a hen.", voice=voice, generator=seeded(1)[0])
        np.testing.assert_array_equal(again.audio[0], result.audio[0])
        made.append(result.audio[0])
    assert len({audio.tobytes() for audio in made}) == len(made)
    if follows(speaking):
        result = speaking("a hen.", voice="中文女", instruction="softly", generator=seeded(1)[0])
        assert result.settings["instruction"] == "softly" and len(result.audio[0]) > 100
    else:
        with pytest.raises(ValueError, match="follows no instructions; take cosyvoice-300m-instruct"):
            speaking("a hen.", voice="中文女", instruction="softly")


def test_what_the_language_model_reads_of_named_voices(speaking):
    """The modes of the authors' front end: sft, a stored recording, instructions."""
    tokenizer, third = speaking.text_tokenizer, speaking.source["model"] == "cosyvoice3-0.5b"

    def ids(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    vectors, said = speaking.speakers, ids("a hen.")
    start = ids("You are a helpful assistant.<|endofprompt|>") if third else []
    text, count, spoken, speaker = read(speaking, "中文女")
    assert text == start + said and count == len(said) and spoken is None
    text, _, spoken, other = read(speaking, "reader")
    assert text == [*start, 3, 4, 5, *said] and spoken == [1, 2, 3, 4]
    if is_first(speaking):
        torch.testing.assert_close(speaker[0], vectors["中文女"].vector)
        torch.testing.assert_close(other[0], vectors["reader"].vector)
    else:
        assert speaker is None and other is None
    if follows(speaking):
        for told in ("softly", "softly<|endofprompt|>"):
            text, count, spoken, speaker = read(speaking, "reader", told)
            front = ids(("You are a helpful assistant. " if third else "") + "softly<|endofprompt|>")
            assert text == front + said and count == len(said) and spoken is None
            assert speaker is None or not speaker.any()  # CosyVoice 1 hears no speaker then
    voice = speaking.front.whole_voice("reader", None)
    assert voice.mel.shape[1] == 8 and len(voice.tokens) == 4 and voice.speaker.shape == (1, 12)


def test_voices_are_listed_kept_and_refused(speaking, tmp_path):
    assert speaking.voices == ("中文女", "reader")
    with pytest.raises(ValueError, match=r"no voice is named 'nobody'; there are '中文女', 'reader'"):
        speaking("a hen.", voice="nobody")
    with pytest.raises(ValueError, match="or with one of 中文女, reader: voice=its name"):
        speaking("a hen.")
    speaking.save_pretrained(tmp_path)
    again = TextToSpeechPipeline.from_pretrained(tmp_path)
    assert again.voices == speaking.voices
    for name in speaking.voices:
        one, two = (pipeline("a hen.", voice=name, generator=seeded(2)[0]) for pipeline in (speaking, again))
        np.testing.assert_array_equal(one.audio[0], two.audio[0])


@pytest.mark.parametrize("speaking", FIRST, indirect=True)
def test_what_cosyvoice_1_reads_of_recordings(speaking):
    front, ids = speaking.front, speaking.text_tokenizer("no.a hen.", add_special_tokens=False)["input_ids"]
    text, count, spoken, speaker = read(speaking, Voice(recording(RATE), RATE, "no."))
    assert text == ids and count == 6 and speaker.any()
    voice = front.whole_voice(Voice(recording(RATE), RATE), None)
    assert spoken == voice.tokens.tolist()
    assert len(voice.tokens) == speaking.unit_tokenizer.encode(recording(RATE)[None, None]).values.shape[1]
    assert voice.mel.shape[1] == round(0.5 * 22050) // speaking.codec.hop_length  # not cut to the tokens
    text, _, spoken, _ = read(speaking, Voice(recording(RATE), RATE))
    assert text == ids[3:] and spoken is None


@pytest.mark.parametrize("speaking", FIRST, indirect=True)
def test_a_stream_of_cosyvoice_1_is_made_of_windows(speaking):
    voice, text = Voice(recording(RATE), RATE, "no."), "seven men led ten hens."
    (whole,) = speaking(text, voice=voice, generator=seeded(3)[0]).audio
    parts = [chunk.audio for chunk in speaking.stream(text, voice=voice, generator=seeded(3)[0])]
    assert abs(sum(map(len, parts)) - len(whole)) <= 2 * speaking.codec.hop_length
    assert all(np.isfinite(part).all() for part in parts)


def test_batches_of_all_versions_equal_single_runs(speaking):
    """Texts of different length; their tokens go through the language model together."""
    texts, voice = ["a hen.", "ten men led him to a den.", "no"], "reader"
    calls, generate = [], speaking.speech_generator.generate
    speaking.speech_generator.generate = lambda condition, **rest: calls.append(len(condition.text)) or generate(
        condition, **rest)
    try:
        batch = speaking(texts, voice=voice, generator=seeded(1, 2, 3))
        assert calls == [3]
    finally:
        del speaking.speech_generator.generate
    for text, seed, audio, faults in zip(texts, (1, 2, 3), batch.audio, batch.faults):
        alone = speaking(text, voice=voice, generator=seeded(seed)[0])
        np.testing.assert_allclose(alone.audio[0], audio, atol=1e-5)
        assert alone.faults == [faults]


def test_the_switch_of_written_forms(speaking):
    told = {"voice": "reader", "generator": seeded(1)[0]}
    written = speaking("12 hens.", normalize=False, **told)
    assert written.settings["normalized"] is False
    rewritten = speaking("12 hens.", normalize=True, voice="reader", generator=seeded(1)[0])
    spelled = speaking("twelve hens.", normalize=False, voice="reader", generator=seeded(1)[0])
    assert rewritten.settings["normalized"] is True
    np.testing.assert_array_equal(rewritten.audio[0], spelled.audio[0])
    assert len(written.audio[0]) != len(spelled.audio[0]) or (written.audio[0] != spelled.audio[0]).any()
    voice = speaking.front.normalizing(True).whole_voice(Voice(recording(RATE), RATE, "12 hens."), None)
    assert voice.text == "twelve hens."


@pytest.mark.parametrize("speaking", ["cosyvoice2-0.5b"], indirect=True)
def test_options_of_the_sampler_are_taken_by_name(speaking):
    texts, seeds = ["a hen."] * 2, [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    single = {"top_k": 1, "share": 1.0}
    alike = speaking(texts, voice="reader", generator=seeds, **single)
    assert alike.settings["top_k"] == 1 and len(alike.audio[0]) == len(alike.audio[1])
    (streamed,) = {chunk.sample_rate for chunk in speaking.stream("a hen.", voice="reader", **single)}
    assert streamed == alike.sample_rate
    with pytest.raises(ValueError, match="top_q"):
        speaking("a hen.", voice="reader", top_q=1)
    with pytest.raises(ValueError, match="top_p"):
        speaking.stream("a hen.", voice="reader", top_p=2.0)


@pytest.mark.parametrize("speaking", ["cosyvoice-300m", "cosyvoice2-0.5b"], indirect=True)
def test_the_command_line_takes_names(speaking, tmp_path):
    speaking.save_pretrained(tmp_path / "model")
    arguments = ["speak", "a hen.", "-m", str(tmp_path / "model"), "-o", str(tmp_path / "a.wav"), "--seed", "3"]
    done = CliRunner().invoke(app, [*arguments, "--voice", "reader"])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "a.json").read_text())["voice"] == "reader"
    done = CliRunner().invoke(app, [*arguments, "--voice", "nobody"])
    assert isinstance(done.exception, ValueError) and "there are '中文女', 'reader'" in str(done.exception)


@pytest.mark.parametrize("speaking", ["cosyvoice-300m", "cosyvoice3-0.5b"], indirect=True)
def test_a_stream_warns_of_faults(speaking, monkeypatch):
    monkeypatch.setattr(TextToSpeechPipeline, "published_sampler",
                        {"min_ratio": 3.0, "max_ratio": 3.0, "all_stops": True})
    with pytest.warns(UserWarning, match="stopped at the limit of 18 tokens"):
        assert sum(len(chunk.audio) for chunk in speaking.stream("a hen.", voice="reader"))


def test_broken_tables_of_speakers_are_refused(tmp_path):
    path = tmp_path / "spk2info.pt"
    for content, message in (({"a": {"name": 1}}, "holds no vector of the speaker 'a'"),
                             ({"a": torch.zeros(3)}, "holds no vector"),
                             ({"a": {"embedding": torch.zeros(1, 3)}}, "not all 0"),
                             ({"a": {"embedding": torch.ones(1, 3), "prompt_speech_feat": torch.ones(1, 2, 4)}},
                              "half a recording")):
        torch.save(content, path)
        with pytest.raises(ValueError, match=message):
            NamedSpeakers.from_original(path)
    with pytest.raises(ValueError, match="holds no named speakers"):
        NamedSpeakers.from_pretrained(tmp_path)


def test_speakers_of_another_model_and_missing_vocabularies(tmp_path):
    name = "cosyvoice-300m-25hz"
    folder = write_cosyvoice(tmp_path, name)
    pipeline = load_cosyvoice(folder, name, spk2info=write_speakers(tmp_path / "more.pt", 5, 8))
    with pytest.raises(ValueError, match="is of another model: its vector has 5 numbers, this model reads 12"):
        pipeline("a hen.", voice="reader")
    assert load_cosyvoice(folder, name).voices == ()
    with pytest.raises(ValueError, match="has none. A recording is given as Voice"):
        load_cosyvoice(folder, name)("a hen.", voice="reader")
    (folder / "multilingual.tiktoken").unlink()
    with pytest.raises(ValueError, match="give text_tokenizer= the file multilingual_zh_ja_yue_char_del.tiktoken"):
        load_cosyvoice(folder, name)


@pytest.mark.parametrize("name", [f"{name}-flow" for name in ALL])
def test_a_flow_is_written_as_its_authors_do(name, tmp_path):
    flow = built(name)
    flow.save_original(tmp_path)
    again = load_original(name, tmp_path / "flow.pt", **find(name).tiny)
    for key, value in flow.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, rtol=0, atol=0)


def test_a_flow_that_is_only_read_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not written in the layout of its authors; use save_pretrained"):
        built("glm4voice-flow").save_original(tmp_path)
    assert not list(tmp_path.iterdir())
