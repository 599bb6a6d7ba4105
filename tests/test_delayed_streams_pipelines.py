"""Text to speech and speech to text with delayed streams, from folders as Kyutai publishes them."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from official_streams import (
    BOOKS,
    HOP,
    MIMI,
    RATE,
    STT,
    TTS,
    tiny_lm,
    tiny_mimi,
    write_release,
    write_voice,
)
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from photophone import SpeechToTextPipeline, TextToSpeechPipeline, Tokens, Voice, create_model
from photophone.decoding.loop import DecodingStopped
from photophone.generators.delayed_streams import session as sessions
from photophone.generators.delayed_streams.config import model_config
from photophone.layers.streaming import StreamingLayer
from photophone.layers.window_attention import WindowAttention
from photophone.loading.registry import find
from photophone.text.delayed_streams import script_words

TEXTS = ["Light carries sound.", "the photophone <break time=\"0.4s\"/> speaks (a little) longer: here", "no"]
LONG = "the light of the sun carries the sound of a voice over the hill and far away " * 13
WRITER, SPEAKER = "kyutai-stt-1b-en-fr", "kyutai-tts-1.6b-en-fr"
PARTS = {"part_configs": {"mimi": MIMI}}
KYUTAI = {"card": 2048, "existing_text_padding_id": 3, "hidden_scale": 4.125, "causal": True, "layer_scale": None,
          "gating": "silu", "norm": "rms_norm_f32", "positional_embedding": "rope", "depformer_dim": 1024,
          "depformer_num_heads": 16, "depformer_multi_linear": True, "depformer_pos_emb": "none",
          "depformer_weights_per_step": True, "n_q": 32, "dim": 2048}
KYUTAI_STT = {**KYUTAI, "dep_q": 0, "delays": [0] * 33, "max_period": 100000.0, "depformer_num_layers": 6,
              "depformer_dim_feedforward": None, "conditioners": {}, "cross_attention": False}
PUBLISHED_CONFIGS = {
    WRITER: {**KYUTAI_STT, "text_card": 8000, "num_heads": 16, "num_layers": 16, "context": 750,
             "stt_config": {"audio_delay_seconds": 0.5, "audio_silence_prefix_seconds": 0.0}},
    "kyutai-stt-2.6b-en": {**KYUTAI_STT, "text_card": 4000, "num_heads": 32, "num_layers": 48, "context": 375,
                           "stt_config": {"audio_delay_seconds": 2.5, "audio_silence_prefix_seconds": 1.0},
                           "model_id": {"sig": "dabcc802", "epoch": 50}},
    SPEAKER: {**KYUTAI, "dep_q": 32, "delays": [0, 0] + [2] * 31, "text_card": 8000, "num_heads": 16, "num_layers": 16,
              "context": 500, "max_period": 10000, "depformer_num_layers": 4, "depformer_dim_feedforward": 3072,
              "depformer_low_rank_embeddings": 128, "demux_second_stream": True, "text_card_out": None,
              "cross_attention": True,
              "conditioners": {"speaker_wavs": {"type": "tensor", "tensor": {"dim": 512}},
                               "control": {"type": "lut", "lut": {"dim": 2048, "n_bins": 1, "tokenizer": "noop",
                                                                  "possible_values": ["ok"]}},
                               "cfg": {"type": "lut", "lut": {"n_bins": 7, "dim": 16, "tokenizer": "noop",
                                                              "possible_values": [f"{1 + step / 2:.1f}"
                                                                                  for step in range(7)]}}},
              "fuser": {"cross_attention_pos_emb": True, "cross_attention_pos_emb_scale": 1,
                        "sum": ["control", "cfg"], "prepend": [], "cross": ["speaker_wavs"]},
              "tts_config": {"audio_delay": 1.28, "second_stream_ahead": 2},
              "model_id": {"sig": "1e68beda", "epoch": 240},
              "depformer_weights_per_step_schedule": [*range(8), *[8] * 8, *[9] * 8, *[10] * 8]}}
"""What the ``config.json`` of the hub say, but for names of files."""


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kyutai")
    write_release(folder / "tts", TTS)
    write_release(folder / "stt", STT)
    write_voice(folder / "voice.wav.abc@3.safetensors", sig="abc", epoch=3)
    return folder


@pytest.fixture(scope="module")
def speaker(releases):
    made = TextToSpeechPipeline.from_original(SPEAKER, releases / "tts", **PARTS)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def writer(releases):
    made = SpeechToTextPipeline.from_original(WRITER, releases / "stt", **PARTS)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def voice(releases):
    return Voice(releases / "voice.wav.abc@3.safetensors")


def recording(seconds, seed=3, rate=RATE):
    """Tones that come and go, so that codes differ."""
    time = torch.arange(round(rate * seconds)) / rate
    pitch = 200 + 150 * torch.sin(2 * torch.pi * 0.7 * time + seed)
    return (0.4 * torch.sin(2 * torch.pi * torch.cumsum(pitch, 0) / rate) * torch.sin(2 * torch.pi * 1.3 * time)
            + 0.05 * torch.randn(len(time), generator=seeded(seed)))


# files ----------------------------------------------------------------------------------------------------------


def test_official_files_give_the_weights_that_were_written(speaker, writer):
    for pipeline, settings in ((speaker, TTS), (writer, STT)):
        model = pipeline.speech_generator if settings is TTS else pipeline.text_generator
        for given, loaded in ((tiny_lm(settings), model), (tiny_mimi(), pipeline.codec)):
            for (key, value), (name, own) in zip(given.state_dict().items(), loaded.state_dict().items(), strict=True):
                assert key == name and torch.equal(value, own), key
    assert speaker.speech_generator.load_report is not None


@pytest.mark.parametrize(("name", "size", "single"), [
    ("kyutai-stt-2.6b-en", 5_234_275_128, 323), (SPEAKER, 3_683_719_712, 418)])
def test_published_files_have_room_for_these_models_and_no_more(name, size, single):
    """Bytes and tensors of the files on the hub: bfloat16, conditions in float32, and a header of names."""
    with torch.device("meta"):
        model = create_model(name)
    wide = sum(value.numel() for key, value in model.named_parameters() if key.startswith("conditioners."))
    count = find(name).parameters
    unused = model.config.depth_width * (model.config.depth_rank or 0)  # a layer that no embedding of two texts uses
    header = size - 2 * (count - wide + unused) - 4 * wide
    assert 80 * single < header < 140 * single


def test_the_published_configs_are_those_of_the_registry():
    for name, settings in PUBLISHED_CONFIGS.items():
        given, entry = model_config(settings), find(name)
        with torch.device("meta"):
            config = create_model(name).config
        for key in given:
            if name == SPEAKER or not key.startswith("depth_"):
                own = list(config[key]) if isinstance(config[key], tuple) else config[key]
                assert given[key] == own or not given[key] and not own, key
        assert all(given[key] == value for key, value in entry.config.items())


# text to speech -------------------------------------------------------------------------------------------------


def test_speech_is_that_of_its_parts(speaker, voice):
    """Words, frames and sound, put together by hand as the authors' script does it."""
    result = speaker(TEXTS[1], voice=voice, generator=seeded(7))
    front, model, codec = speaker.front, speaker.speech_generator, speaker.codec
    words = script_words(speaker.text_tokenizer, TEXTS[1], codec.frame_rate)
    assert [word.text for word in words] == ["the", "photophone", "", "speaks", "a", "little", "longer", "here"]
    assert words[0].ids[0] == 1 and words[2].padding == 5 and words[1].padding == len(words[1].ids)
    spoken = front.read_voice(voice)
    values = load_file(voice.audio)["speaker_wavs"]
    assert torch.equal(spoken.tokens[:7], values[0].T) and not spoken.tokens[7:].any() and len(spoken.tokens) == 35
    assert spoken.mask.tolist() == [True] * 7 + [False] * 28
    from photophone.core.noise import SeededNoise, draw_seed
    from photophone.generators.delayed_streams.script_condition import SpeakingSampler, SpokenScript
    script = SpokenScript.of_rows([[(word.ids, word.padding) for word in words]], [(spoken.tokens, spoken.mask)])
    tokens = model.generate(script, noise=SeededNoise.from_seeds([draw_seed(seeded(7))]),
                            sampler=SpeakingSampler(guidance_scale=2.0))
    whole = codec.decode(tokens)[0, 0]
    np.testing.assert_allclose(result.audio[0], whole[2 * HOP:].numpy(), atol=1e-5)
    assert tokens.values.shape[1] == BOOKS and result.sample_rate == RATE
    assert result.settings["voice"] == "voice.wav.abc@3.safetensors" and result.settings["voice_frames"] == 7
    assert result.settings["guidance_scale"] == 2.0 and result.settings["temperature"] == 0.6
    assert "CC BY 4.0" in result.weights_licence and result.model == SPEAKER


def test_a_stream_of_speech_equals_the_whole(speaker, voice):
    (whole,) = speaker(TEXTS[1], voice=voice, generator=seeded(3)).audio
    chunks = [chunk.audio for chunk in speaker.stream(TEXTS[1], voice=voice, generator=seeded(3))]
    assert len(chunks) > 20 and all(len(chunk) == HOP for chunk in chunks)
    np.testing.assert_allclose(np.concatenate(chunks), whole, atol=1e-5)


def test_a_batch_of_texts_equals_single_texts(speaker, voice):
    batch = speaker(TEXTS, voice=voice, generator=[seeded(seed) for seed in (1, 2, 3)]).audio
    assert len({len(audio) for audio in batch}) == 3
    for text, seed, audio in zip(TEXTS, (1, 2, 3), batch):
        (alone,) = speaker(text, voice=voice, generator=seeded(seed)).audio
        np.testing.assert_allclose(audio, alone, atol=1e-5)


def held(*models):
    """Numbers that streams remember."""
    def count(value):
        if isinstance(value, torch.Tensor):
            return value.numel()
        if isinstance(value, dict):
            return sum(map(count, value.values()))
        if isinstance(value, list | tuple):
            return sum(map(count, value))
        layers = getattr(value, "layers", [])
        return sum(count([layer.keys, layer.values]) for layer in layers)
    return sum(count(layer.stream_state) for model in models for layer in model.modules()
               if isinstance(layer, StreamingLayer))


def test_a_minute_of_speech_costs_the_same_for_each_chunk(speaker, voice):
    """Multiply-adds of chunks, and what is remembered, at 8 s and behind 60 s."""
    model = speaker.speech_generator
    chunks, costs = speaker.stream(LONG, voice=voice, generator=seeded(5)), {}
    count = 0
    while True:
        if count % 325 in (100, 101):  # far behind the window of 20 frames
            with FlopCounterMode(display=False) as work:
                chunk = next(chunks, None)
            costs[count] = work.get_total_flops(), held(model, speaker.codec)
        else:
            chunk = next(chunks, None)
        if chunk is None:
            break
        count += 1
    assert count / speaker.codec.frame_rate > 60 and len(costs) >= 6
    assert len(set(costs.values())) == 1 and min(costs[100]) > 0, costs


def test_windows_are_bounded(speaker, voice):
    sizes = []
    layers = [layer for layer in speaker.speech_generator.modules() if isinstance(layer, WindowAttention)]
    for chunk in speaker.stream(LONG[:60], voice=voice, generator=seeded(5)):
        sizes.append([layer.stream_state[0].shape[2] for layer in layers])
        assert len(chunk.audio) == HOP
    assert len(layers) == TTS["num_layers"] and max(map(max, sizes)) == TTS["context"] - 1


def test_long_texts_are_decoded_in_parts(speaker, voice, monkeypatch):
    """What is decoded at once stays small, and the sound is that of the whole."""
    whole = speaker(TEXTS[1], voice=voice, generator=seeded(3)).audio[0]
    seen, decode = [], speaker.codec.decode
    monkeypatch.setattr("photophone.pipelines.text_sound.DECODED_TOKENS", 10)
    monkeypatch.setattr(speaker.codec, "decode", lambda tokens: seen.append(tokens.num_tokens) or decode(tokens))
    np.testing.assert_allclose(speaker(TEXTS[1], voice=voice, generator=seeded(3)).audio[0], whole, atol=1e-5)
    assert len(seen) > 3 and max(seen) == 10


def test_speech_without_a_seed_is_repeated_by_its_seed(speaker, voice, tmp_path):
    result = speaker("a hill", voice=voice)
    again = speaker("a hill", voice=voice, generator=seeded(result.seeds[0]))
    assert np.array_equal(result.audio[0], again.audio[0])
    (file,) = result.save(tmp_path / "hill.wav")
    facts = json.loads(file.with_suffix(".json").read_text())
    assert facts["seed"] == result.seeds[0] and facts["voice"] == "voice.wav.abc@3.safetensors"


def test_codes_come_out_as_latents(speaker, voice):
    tokens = speaker("a hill", voice=voice, generator=seeded(2), output_type="latent").audio[0]
    assert isinstance(tokens, Tokens) and tokens.values.shape[:2] == (1, BOOKS)


def test_saved_speakers_speak_alike(speaker, voice, tmp_path):
    speaker.save_pretrained(tmp_path)
    again = TextToSpeechPipeline.from_pretrained(tmp_path)
    one, two = (pipeline("a hill", voice=voice, generator=seeded(5)) for pipeline in (speaker, again))
    assert np.array_equal(one.audio[0], two.audio[0]) and replace(one, audio=[]) == replace(two, audio=[])


def test_guided_models_that_were_not_distilled_compute_each_frame_twice(releases, voice, tmp_path):
    settings = {**TTS, "conditioners": {key: value for key, value in TTS["conditioners"].items() if key != "cfg"},
                "fuser": {**TTS["fuser"], "sum": ["control"]}}
    write_release(tmp_path, settings)
    pipeline = TextToSpeechPipeline.from_original(SPEAKER, tmp_path, **PARTS)
    rows, states = [], pipeline.speech_generator.states
    pipeline.speech_generator.states = lambda codes, *others: rows.append(len(codes)) or states(codes, *others)
    made = [pipeline("a hill", voice=voice, generator=seeded(1), guidance_scale=scale).audio[0] for scale in (1.0, 1.7)]
    assert set(rows) == {1, 2} and not np.array_equal(*made)


@pytest.mark.parametrize(("options", "message"), [
    ({}, "needs a voice"), ({"text": "..."}, "no words"), ({"speed": 2.5}, "speed must be 0.5 to 2"),
    ({"text": 'a <break time="11s"/> b'}, "break of 11 s, the limit is 10"), ({"num_inference_steps": 3}, "no option"),
    ({"guidance_scale": 1.3}, "guidance_scale must be one of 1.0, 2.0"), ({"instruction": "softly"}, "no instruction"),
    ({"voice": Voice("reader.wav")}, "reader.wav is no published voice; recordings cannot be read"),
    ({"voice": Voice("away.safetensors")}, "no such voice"),
    ({"voice": Voice(torch.zeros(9), 4000)}, r"float \(1, 6, N\)"),
    ({"voice": "voice.safetensors"}, "must be a photophone.Voice"),
])
def test_what_cannot_be_spoken_is_refused(speaker, voice, options, message):
    given = {} if not options else {"voice": voice}
    with pytest.raises(ValueError, match=message):
        speaker(**{"text": "a hill", **given, **options})


def test_voices_of_other_weights_are_refused(speaker, tmp_path):
    write_voice(tmp_path / "a.safetensors", sig="def", epoch=1)
    with pytest.raises(ValueError, match=r"made for the weights def@1, these are abc@3"):
        speaker("a hill", voice=Voice(tmp_path / "a.safetensors"))
    write_voice(tmp_path / "b.safetensors", dim=5)
    with pytest.raises(ValueError, match=r"a voice must be float \(1, 6, N\)"):
        speaker("a hill", voice=Voice(tmp_path / "b.safetensors"))
    save_file({"other": torch.zeros(1)}, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match="holds no speaker_wavs but other"):
        speaker("a hill", voice=Voice(tmp_path / "c.safetensors"))
    (tmp_path / "d.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="cannot be read"):
        speaker("a hill", voice=Voice(tmp_path / "d.safetensors"))
    write_voice(tmp_path / "e.safetensors")  # one that does not say
    assert len(speaker("no", voice=Voice(tmp_path / "e.safetensors")).audio[0])


@pytest.mark.parametrize(("change", "message"), [
    ("no config.json", "holds no config.json"), ("no lm", "holds no dsm_tts_abc@3.safetensors"),
    ("no vocabulary", "holds no pieces.model"), ("a path", "no plain name of a file"),
    ("another vocabulary", "vocabulary has 600 ids, the model knows 500"), ("multistream", "multistream"),
    ("a broken vocabulary", "no vocabulary of SentencePiece")])
def test_releases_that_do_not_fit_are_refused(releases, tmp_path, change, message):
    folder = tmp_path / "tts"
    shutil.copytree(releases / "tts", folder)
    settings = dict(TTS)
    if change == "no config.json":
        (folder / "config.json").unlink()
    else:
        settings |= {"a path": {"mimi_name": "../mimi.safetensors"}, "another vocabulary": {"text_card": 500},
                     "multistream": {"tts_config": {"audio_delay": 0.4, "multistream": True}}}.get(change, {})
        (folder / "config.json").write_text(json.dumps(settings))
    if change == "another vocabulary":
        write_release(folder, settings)
    if change == "a broken vocabulary":
        (folder / "pieces.model").write_bytes(b"\x0a\xff")
    (folder / {"no lm": settings.get("moshi_name"), "no vocabulary": "pieces.model"}.get(change, "away")).unlink(True)
    with pytest.raises(ValueError, match=message):
        TextToSpeechPipeline.from_original(SPEAKER, folder, **PARTS)


def test_files_come_from_the_hub_by_the_names_in_the_config(releases, monkeypatch):
    asked = []

    def download(repository, file, revision, cache_dir, local_files_only):
        asked.append((repository, file, revision))
        return releases / "stt" / file, "c0ffee"

    monkeypatch.setattr("photophone.pipelines.stream_chains.download", download)
    pipeline = SpeechToTextPipeline.from_original(WRITER, revision="main", **PARTS)
    assert pipeline.source == {"model": WRITER, "revision": "c0ffee"}
    assert asked == [("kyutai/stt-1b-en_fr", name, "main") for name in
                     ("config.json", "model.safetensors", "tokenizer-tiny.safetensors", "pieces.model")]
    asked.clear()
    SpeechToTextPipeline.from_original(WRITER, "someone/smaller", lm=releases / "stt" / "model.safetensors", **PARTS)
    assert [file for _, file, _ in asked] == ["config.json", "tokenizer-tiny.safetensors", "pieces.model"]


def test_names_of_other_pipelines_are_refused(releases):
    with pytest.raises(ValueError, match="is no model for TextToSpeechPipeline; use SpeechToTextPipeline"):
        TextToSpeechPipeline.from_original(WRITER, releases / "stt", **PARTS)
    with pytest.raises(ValueError, match="use TextToSpeechPipeline"):
        SpeechToTextPipeline.from_original(SPEAKER, releases / "tts", **PARTS)
    with pytest.raises(ValueError, match="has no pipeline"):
        SpeechToTextPipeline.from_original("moshiko", releases / "stt", **PARTS)
    with pytest.raises(ValueError, match="no checkpoint named vae"):
        SpeechToTextPipeline.from_original(WRITER, releases / "stt", vae="x", **PARTS)
    with pytest.raises(ValueError, match="no such folder, and no hub id"):
        SpeechToTextPipeline.from_original(WRITER, "./nowhere", **PARTS)
    with pytest.raises(ValueError, match="reads 4 codebooks of 32 codes, the codec has 2"):
        SpeechToTextPipeline(tiny_lm(STT), create_model("mimi-32", **{**MIMI, "num_codebooks": 2}), [])


# speech to text -------------------------------------------------------------------------------------------------


def test_texts_are_those_of_the_models_codes(writer):
    """The codes of all of it at once, through the model by hand."""
    audio = recording(2.0)
    made = writer(audio, RATE)
    before, behind = torch.zeros(3 * HOP), torch.zeros(19 * HOP)  # 0.2 s, and 0.5 s and one more
    codes = writer.codec.encode(torch.cat([before, audio, behind])[None, None]).values
    model = writer.text_generator
    session, ids = sessions.StreamSession(model, 1), []
    with session.open():
        session.step(codes[..., 0])
        for frame in range(codes.shape[-1]):
            ids.append(int(session.step(codes[..., frame])[0, 0]))
    said = writer.text_tokenizer.decode([one for one in ids if one > 3])
    assert made.texts[0].replace(" ", "") == said.replace(" ", "") and len(made.words[0]) > 3
    assert made.seconds == [2.0] and made.model == WRITER and made.settings["text_temperature"] == 0.0
    for word, following in zip(made.words[0], [*made.words[0][1:], None]):
        assert 0 <= word.start <= word.end <= 2.0 and (following is None or word.start <= following.start)


@pytest.mark.parametrize("sizes", [[HOP], [7], [1000, 3, 5000]])
def test_a_stream_of_chunks_equals_the_whole(writer, sizes):
    audio = recording(2.3)
    whole = writer(audio, RATE)
    sizes, chunks, start = [*sizes], [], 0
    while start < len(audio):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(audio[start:start + size].numpy())
        start += size
    assert list(writer.stream(chunks, RATE)) == whole.words[0]


def test_words_come_as_soon_as_they_are_known(writer):
    """Behind a word's end the stream has heard no more than the delay, the frame, and a second."""
    audio, heard, late = recording(6.0), [0], []

    def chunks():
        for chunk in audio.split(HOP):
            heard[0] += len(chunk)
            yield chunk

    for word in writer.stream(chunks(), RATE):
        late.append(heard[0] / RATE - word.end)
    assert min(late) < 0.8 and max(late) <= 0.5 + 0.2 + 1.0 + 2 * HOP / RATE


def test_recordings_together_equal_each_alone(writer, tmp_path):
    clips = [recording(seconds, seed) for seconds, seed in ((2.1, 1), (0.05, 2), (3.3, 4))]
    batch = writer(clips, RATE)
    for row, clip in enumerate(clips):
        alone = writer(clip, RATE)
        assert alone.words[0] == batch.words[row] and alone.texts[0] == batch.texts[row]
    soundfile.write(tmp_path / "third.wav", clips[2].numpy(), RATE, subtype="FLOAT")
    stereo = np.stack([clips[2].numpy(), clips[2].numpy()])
    for same in (tmp_path / "third.wav", stereo, (tmp_path / "third.wav").read_bytes()):
        assert writer(same, RATE).words == [batch.words[2]]


def test_other_rates_are_resampled_as_they_come(writer):
    """16 kHz in chunks equal the whole; the times are those of the recording."""
    audio = recording(2.0, rate=16000)
    whole = writer(audio, 16000)
    assert list(writer.stream(audio.split(321), 16000)) == whole.words[0] and whole.seconds == [2.0]


def test_a_minute_of_hearing_costs_the_same_for_each_frame(writer, monkeypatch):
    """Multiply-adds of frames, and what is remembered, at 8 s and at 60 s."""
    step, costs, count = sessions.StreamSession.step, {}, [0]

    def counting(session, *given):
        count[0] += 1
        if count[0] % 300 not in (100, 101):
            return step(session, *given)
        with FlopCounterMode(display=False) as work:
            made = step(session, *given)
        costs[count[0]] = work.get_total_flops(), held(writer.text_generator, writer.codec)
        return made

    monkeypatch.setattr(sessions.StreamSession, "step", counting)
    assert sum(1 for _ in writer.stream(recording(60.0).split(4000), RATE)) > 10
    assert len(costs) >= 6 and len(set(costs.values())) == 1 and min(costs[100]) > 0, costs


def test_transcriptions_are_saved_with_their_words(writer, tmp_path):
    result = writer([recording(1.0), recording(1.5, 9)], RATE, generator=[seeded(4), seeded(5)])
    files = result.save(tmp_path / "notes")
    assert len(files) == 2 and all(file.suffix == ".txt" for file in files)
    for row, file in enumerate(files):
        assert file.read_text(encoding="utf-8") == result.texts[row] + "\n"
        facts = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        assert [word["text"] for word in facts["words"]] == [word.text for word in result.words[row]]
        assert facts["seed"] == 4 + row and facts["model"] == WRITER and "CC BY 4.0" in facts["weights_licence"]
    result.save(tmp_path / "notes")  # an own result may be replaced
    files[0].write_text("mine")
    with pytest.raises(FileExistsError):
        result.save(tmp_path / "notes")
    with pytest.raises(ValueError, match="must end in .txt"):
        result.save(tmp_path / "notes.wav")


def test_draws_are_repeated_by_seeds(writer):
    clips = [recording(1.0), recording(2.0, 8)]
    batch = writer(clips, RATE, temperature=1.0, generator=[seeded(1), seeded(2)])
    for row, clip in enumerate(clips):
        assert writer(clip, RATE, temperature=1.0, generator=seeded(row + 1)).words == [batch.words[row]]
        assert list(writer.stream([clip], RATE, temperature=1.0, generator=seeded(row + 1))) == batch.words[row]
    assert writer(clips[0], RATE, temperature=1.0, generator=seeded(3)).texts != batch.texts[:1]


def test_saved_writers_write_alike(writer, tmp_path):
    writer.save_pretrained(tmp_path)
    again = SpeechToTextPipeline.from_pretrained(tmp_path)
    one, two = (pipeline(recording(1.0), RATE, generator=seeded(1)) for pipeline in (writer, again))
    assert one == two and one.model == WRITER


def test_callbacks_stop_and_streams_leave_nothing_behind(writer):
    def stop(pipeline, step, total, _):
        pipeline._interrupt = step == 2

    with pytest.raises(DecodingStopped, match="after word 2"):
        writer(recording(3.0), RATE, callback_on_step_end=stop)
    words = writer.stream([recording(3.0)], RATE)
    next(words)
    with pytest.raises(RuntimeError, match="streams already"):
        writer(recording(0.5), RATE)
    words.close()
    assert writer(recording(0.5), RATE, return_dict=False)[0]


@pytest.mark.parametrize(("given", "message"), [
    ((torch.zeros(9),), "need their sampling_rate"), ((torch.zeros(9).int(), RATE), "audio must be"),
    ((torch.zeros(3, 9), RATE), "C at most 2"), ((torch.zeros(0), RATE), "T > 0"), (([], RATE), "0 recordings"),
    ((torch.full((9,), torch.nan), RATE), "NaN"), ((torch.zeros(9), 100), "100"), ((b"RIFF",), "audio")])
def test_what_cannot_be_heard_is_refused(writer, given, message):
    with pytest.raises(ValueError, match=message):
        writer(*given)


def test_chunks_that_are_no_sound_are_refused(writer):
    for chunk, message in ((torch.zeros(2, 9), "a chunk must be"), (torch.full((9,), torch.inf), "infinite|NaN")):
        with pytest.raises(ValueError, match=message):
            list(writer.stream([chunk], RATE))
    with pytest.raises(ValueError, match="no samples"):
        list(writer.stream([], RATE))
    with pytest.raises(ValueError, match="temperature must be"):
        writer.stream([], RATE, temperature=-1)


WRITING = """
import json, sys
from pathlib import Path
import torch
from official_streams import write_release, write_voice
from photophone import create_model

name, folder, settings = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
torch.set_default_dtype(torch.bfloat16)
model = create_model(name)
torch.set_default_dtype(torch.float32)
write_release(folder, settings, model, create_model("mimi-32"))
write_voice(folder / "voice.safetensors", 512, 125, sig="1e68beda", epoch=240)
"""
PUBLISHED = """
import json, resource, sys, time
import torch
from photophone import SpeechToTextPipeline, TextToSpeechPipeline, Voice

name, folder = sys.argv[1:]
started = time.time()
torch.set_default_dtype(torch.bfloat16)  # as the weights are
if "tts" in name:
    pipeline = TextToSpeechPipeline.from_original(name, folder)
    torch.set_default_dtype(torch.float32)
    pipeline.codec.float()
    loaded = time.time()
    voice = Voice(f"{folder}/voice.safetensors")
    made = sum(len(chunk.audio) for chunk in pipeline.stream("no", voice=voice)) / pipeline.sample_rate
else:
    pipeline = SpeechToTextPipeline.from_original(name, folder)
    torch.set_default_dtype(torch.float32)
    pipeline.codec.float()
    loaded = time.time()
    made = pipeline(0.1 * torch.randn(8000), 8000).seconds[0]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"seconds": made, "loading": loaded - started, "running": time.time() - loaded, "peak": peak}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most"), [(WRITER, 6.0), (SPEAKER, 9.5)])
def test_published_sizes_run_from_official_files(name, most, tmp_path):
    """Random weights in bfloat16 under official names, in a new process: its memory in GiB is bounded."""
    settings = {**(TTS if name == SPEAKER else STT), **PUBLISHED_CONFIGS[name]}
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{Path(__file__).parents[1]}"}
    for code, more in ((WRITING, [json.dumps(settings)]), (PUBLISHED, [])):
        done = subprocess.run([sys.executable, "-c", code, name, str(tmp_path), *more], check=True, capture_output=True,
                              text=True, env=environment)
    facts = json.loads(done.stdout.splitlines()[-1])
    print(name, facts)
    assert facts["seconds"] > 0.5 and facts["peak"] < most


# command line ---------------------------------------------------------------------------------------------------


def test_transcribe_writes_texts_and_times(run, releases, tmp_path, monkeypatch):
    official = SpeechToTextPipeline.from_original.__func__
    monkeypatch.setattr(SpeechToTextPipeline, "from_original",
                        classmethod(lambda cls, name, **given: official(cls, name, **given, **PARTS)))
    soundfile.write(tmp_path / "one.wav", recording(1.5).numpy(), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "two.wav", recording(1.0, 7).numpy(), RATE, subtype="FLOAT")
    model = str(releases / "stt")
    code, out, _ = run("transcribe", str(tmp_path / "one.wav"), "--model", model, "--json")
    (made,) = json.loads(out)["recordings"]
    assert code == 0 and made["words"] and made["model"] is None and made["seconds"] == 1.5
    code, out, _ = run("transcribe", str(tmp_path / "one.wav"), "-m", model, "--times")
    assert code == 0 and len(out.splitlines()) == len(made["words"])
    code, out, _ = run("transcribe", str(tmp_path), "-m", model, "-o", str(tmp_path / "notes"))
    assert code == 0 and len(out.splitlines()) >= 2
    assert sorted(path.name for path in (tmp_path / "notes").iterdir()) == [
        "one-0.json", "one-0.txt", "two-1.json", "two-1.txt"]
    assert (tmp_path / "notes" / "one-0.txt").read_text().strip() == made["text"]


@pytest.mark.parametrize(("options", "message"), [
    ([], "no weights of speech to text come with photophone; give --model"),
    (["--model", "photophone/tiny-speech"], "no speech to text"), (["-m", "nowhere"], "neither a folder"),
    (["-m", "x", "-o", "text.wav"], "must end in .txt"), (["-m", "x", "--dtype", "int8"], "--dtype must be")])
def test_transcribe_refuses(run, tmp_path, options, message):
    soundfile.write(tmp_path / "one.wav", recording(0.2).numpy(), RATE)
    code, _, errors = run("transcribe", str(tmp_path / "one.wav"), *options)
    assert code == 2 and message in errors and len(errors.strip().splitlines()) == 1


