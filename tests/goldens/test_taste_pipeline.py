"""SpokenContinuationPipeline from a folder as the authors of TASTE publish it, with recorded official weights."""

import json
from pathlib import Path

import cosyvoice_parts
import numpy as np
import pytest
import taste
import torch
from golden import Golden
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from photophone import SeededNoise, SpokenContinuationPipeline, TextToSpeechPipeline, Voice
from photophone.codecs.speech_units.blocks import WhisperMel
from photophone.codecs.speech_units.onnx_write import write_voice_network
from photophone.core.noise import draw_seed
from photophone.decoding.loop import DecodingStopped
from photophone.generators.taste.config import spoken_lm_config
from photophone.generators.taste.layout import ContinuationSampler, SpokenPrompt, piece_tables
from photophone.generators.taste.unit_decoder import SpokenWords, UnitSampler
from photophone.text.taste import split_words, vocabulary_pieces, word_ids

DATA = Path(__file__).parent / "data"
SETTINGS = json.loads((DATA / "taste" / "config.json").read_text())["constructor"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
RATE, SPEAKER_DIM, WORD_IDS, TEXT_IDS = 16000, 24, 290, 284
SHORT = {"extra_words": 2, "max_ids": 30, "text_top_p": 0.95, "text_temperature": 2.0}


def vocabulary(size):
    """Single bytes, letters with a space in front, and further tokens up to ``size``."""
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet()) + [f"Ġ{letter}" for letter in LETTERS]
    backend = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)},
                                   [("Ġ", letter) for letter in LETTERS]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=backend)
    made.add_tokens([AddedToken(f"<|{index}|>", special=True) for index in range(len(pieces), size)])
    return made


def official_config(**spoken):
    """What of the official config.json tells sizes."""
    quantizer = {key: value for key, value in SETTINGS["quantizer"].items() if key != "quantizer_class"}
    return {"model_type": "taste", "asr_config": {**SETTINGS["whisper"], "vocab_size": WORD_IDS},
            "audio_tower_config": {"encoder__target_hidden_layer": SETTINGS["joint"]["target_hidden_layer"],
                                   "kwargs_for_quantizer": quantizer},
            "text_config": {**SETTINGS["text"], "vocab_size": TEXT_IDS, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
                            "rope_scaling": None, "eos_token_id": TEXT_IDS - 1, "max_position_embeddings": 512},
            "spoken_lm_config": {"sos_id": TEXT_IDS - 2, "delay": 1, "delay_level": "word",
                                 "in_llm_module": "weighted_sum", "audio_embed_conv_mode": "fill_forward",
                                 "out_llm_module": "continue_latent_linear_last", **spoken}}


def part_configs():
    """What no config.json tells."""
    golden = Golden(DATA / "cosyvoice")
    decoder, vocoder = ({name: value for name, value in model.config.items() if not name.startswith("_")}
                        for model in (taste.load_decoder(Golden(DATA / "taste")), cosyvoice_parts.load_hift(golden)))
    return {"tower": {"prefix": [280, 281, 282, 283], "end": 284},
            "unit_decoder": {**decoder, "vocab_size": WORD_IDS, "speaker_dim": SPEAKER_DIM},
            "flow": cosyvoice_parts.flow_config(golden.settings["flow_v1"], "v1"), "hift": vocoder}


def official_state():
    """All three models under the keys of the released file: the recorded weights, with tables of more ids."""
    state = {f"{part}.{key}": value for part in ("audio_tower", "speech_decoder", "spoken_lm")
             for key, value in load_file(DATA / "taste" / f"{part}.safetensors").items()}
    generator = torch.Generator().manual_seed(0)
    words = "audio_tower.audio_joint_encoder_segmenter.audio_segmenter.decoder.embed_tokens.weight"
    text = "spoken_lm.language_model.model.embed_tokens.weight"
    for key, rows in ((words, WORD_IDS), ("speech_decoder.text_embedding.weight", WORD_IDS), (text, TEXT_IDS)):
        more = torch.randn(rows - len(state[key]), state[key].shape[1], generator=generator)
        state[key] = torch.cat([state[key], more * state[key].std()])
    state.pop("spoken_lm.language_model.lm_head.weight", None)
    key = "speech_decoder.spk_embed_affine_layer.weight"
    state[key] = torch.randn(len(state[key]), SPEAKER_DIM, generator=generator)
    return {key: value.contiguous() for key, value in state.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The release, and in ``whisper`` the vocabulary that its authors fetch from elsewhere."""
    folder, golden = tmp_path_factory.mktemp("taste"), Golden(DATA / "cosyvoice")
    (folder / "cosyvoice").mkdir()
    (folder / "config.json").write_text(json.dumps(official_config()))
    save_file(official_state(), folder / "model.safetensors")
    vocabulary(TEXT_IDS).save_pretrained(folder / "llama_tokenizer")
    vocabulary(WORD_IDS).save_pretrained(folder / "whisper")
    write_voice_network(folder / "cosyvoice" / "speaker_embed.onnx", SPEAKER_DIM)
    torch.save({f"{part}.{key}": value for part in ("flow", "hift")
                for key, value in golden.state(f"{part}_v1").items()}, folder / "cosyvoice" / "voice_generator.pth")
    return folder


def load(folder, **options):
    made = SpokenContinuationPipeline.from_original(
        "taste-llama-1b", folder, part_configs=part_configs(), **{"word_tokenizer": folder / "whisper", **options})
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def pipeline(folder):
    return load(folder)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Random weights never end: a few tokens are enough."""
    made = UnitSampler(least_ratio=0.5, most_ratio=1.0)
    monkeypatch.setattr(UnitSampler, "from_settings", classmethod(lambda cls, settings, owner="": made))


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def recording(seconds=0.4, pitch=220):
    time = torch.arange(round(RATE * seconds)) / RATE
    return 0.3 * torch.sin(2 * torch.pi * pitch * time) + 0.1 * torch.sin(2 * torch.pi * 3.1 * pitch * time)


HEN = Voice(recording(), RATE, "ten men led  him.")


def by_hand(pipeline, prompt, seed, sampler):
    """Words, codes and speech of a continuation, put together as the authors' scripts do it."""
    own = seeded(seed)[0]
    text_seed, unit_seed = draw_seed(own), draw_seed(own)
    words = prompt.text.split()
    heard, read = (word_ids(tokenizer, words) for tokenizer in (pipeline.word_tokenizer, pipeline.text_tokenizer))
    padded = torch.nn.functional.pad(prompt.audio, (0, 48 * 160 - len(prompt.audio)))
    mel = WhisperMel(16)(padded[None]).transpose(1, 2)
    found = pipeline.tower(mel, torch.tensor([heard.ids]), torch.tensor([len(heard.ids)]), torch.tensor([heard.words]))
    codes = torch.full((1, len(read.ids), 4), -1)
    codes[0, read.begins] = found.codes[0, heard.begins]
    config = pipeline.spoken_lm.config
    tables = piece_tables(vocabulary_pieces(pipeline.text_tokenizer, TEXT_IDS), config.start, config.end)
    made = pipeline.spoken_lm.generate(
        SpokenPrompt(torch.tensor([read.ids]), torch.tensor([len(read.ids)]), codes, **tables),
        noise=SeededNoise.from_seeds([text_seed]), sampler=sampler).values[0]
    new = pipeline.text_tokenizer.decode(made[0]).split()
    later = word_ids(pipeline.word_tokenizer, new)
    new_codes = made[1:].T[made[1] >= 0]
    assert len(new_codes) == len(new)
    units = torch.cat([found.values[0], pipeline.tower.quantizer.decode(new_codes[None])[0, later.words]])[None]
    ids = torch.tensor([heard.ids + later.ids])
    speaker = pipeline.speaker_encoder(prompt.audio)[None]
    tokens = pipeline.unit_decoder.generate(SpokenWords(ids, torch.tensor([ids.shape[1]]), speaker, units),
                                            noise=SeededNoise.from_seeds([unit_seed]),
                                            sampler=UnitSampler.from_settings({}))
    frames = pipeline.flow.generate(pipeline._sound.flow.Condition(tokens.values, speaker),
                                    noise=SeededNoise.from_seeds([unit_seed]), sampler=pipeline._sound.sampler())
    audio = pipeline.vocoder.decode(frames, noise=SeededNoise.from_seeds([unit_seed]))[0, 0]
    return words, new, audio.numpy()


def test_it_goes_on_as_its_parts_do(pipeline):
    result = pipeline(HEN, generator=seeded(7)[0], **SHORT)
    words, new, audio = by_hand(pipeline, HEN, 7, ContinuationSampler(**SHORT))
    assert result.texts == [" ".join(words + new)] and result.continuations == [" ".join(new)] and len(new) > 2
    np.testing.assert_allclose(result.audio[0], audio, atol=1e-5)
    assert result.sample_rate == 22050 and result.model == "taste-llama-1b" and result.settings["extra_words"] == 2
    assert "none stated" in result.weights_licence and "Apache-2.0" in result.weights_licence
    assert result.facts(0)["continuation"] == " ".join(new) and result.seeds == [7]
    alone = pipeline(HEN, generator=seeded(7)[0], with_prompt=False, **SHORT)
    assert alone.texts == alone.continuations == result.continuations and len(alone.audio[0]) < len(audio)


def test_the_sizes_are_those_of_the_config(pipeline, folder):
    assert pipeline.spoken_lm.config.vocab_size == TEXT_IDS and pipeline.tower.config.vocab_size == WORD_IDS
    assert pipeline.spoken_lm.config.max_length == 512 and pipeline.spoken_lm.config.start == TEXT_IDS - 2
    for change, message in (({"in_llm_module": "concat"}, "in_llm_module='concat'"),):
        with pytest.raises(ValueError, match=message):
            spoken_lm_config(official_config(**change))


def test_a_recording_is_repeated_from_its_codes(pipeline):
    own = pipeline.repeat(HEN, generator=seeded(3)[0])
    assert own.texts == ["ten men led him."] and not own.continuations and "continuation" not in own.facts(0)
    other = pipeline.repeat(HEN, voice=Voice(recording(pitch=330), RATE), generator=seeded(3)[0])
    assert not np.array_equal(own.audio[0], other.audio[0]) and np.isfinite(own.audio[0]).all() and len(own.audio[0])
    (audio,), = pipeline.repeat(HEN, generator=seeded(3)[0], return_dict=False)
    np.testing.assert_array_equal(audio, own.audio[0])


def test_words_that_nobody_spoke_go_on_in_a_given_voice(pipeline):
    result = pipeline("a hen", voice=Voice(recording(), RATE), generator=seeded(2)[0], **SHORT)
    assert result.texts == result.continuations and len(result.texts[0].split()) > 2


def test_several_prompts_equal_each_alone(pipeline):
    prompts = [HEN, Voice(recording(0.3, 150), RATE, "no."), HEN]
    batch = pipeline(prompts, generator=seeded(1, 2, 3), **SHORT)
    for row, (prompt, seed) in enumerate(zip(prompts, (1, 2, 3))):
        alone = pipeline(prompt, generator=seeded(seed)[0], **SHORT)
        assert alone.texts[0] == batch.texts[row]
        np.testing.assert_allclose(alone.audio[0], batch.audio[row], atol=1e-5)
    assert batch.texts[0] != batch.texts[2]


def test_what_does_not_end_is_reported(pipeline):
    result = pipeline(HEN, generator=seeded(1)[0], **{**SHORT, "max_ids": 3, "extra_words": 9})
    assert result.faults[0][0] == "stopped at the limit of 3 ids of new text: 'ten men led him.'"


def test_a_saved_pipeline_speaks_the_same(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    again = SpokenContinuationPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    one, two = (made(HEN, generator=seeded(5)[0], **SHORT) for made in (pipeline, again))
    assert np.array_equal(one.audio[0], two.audio[0]) and one.facts(0) == two.facts(0)
    (file,) = one.save(tmp_path / "hen.wav")
    assert json.loads(file.with_suffix(".json").read_text())["continuation"] == one.continuations[0]


def test_a_callback_stops_it(pipeline):
    def stop(running, step, total, _):
        running._interrupt = True
    with pytest.raises(DecodingStopped, match="after prompt 1 of 2"):
        pipeline([HEN, HEN], callback_on_step_end=stop, **SHORT)


@pytest.mark.parametrize(("prompt", "options", "message"), [
    (Voice(recording(), RATE), {}, "needs the words of a recording"), ("a hen", {}, "need a voice"),
    (Voice(recording(), RATE, "?!"), {}, "no words"), (Voice(recording(0.6), RATE, "no"), {}, "at most 0.48 s"),
    (Voice(torch.zeros(99), RATE, "no"), {}, "give a few seconds"), (7, {}, "must be a photophone.Voice"),
    ([], {}, "0 prompts given"), (HEN, {"top_k": 3}, "has no option top_k"),
    (HEN, {"extra_words": 0}, "extra_words must be"), (HEN, {"max_ids": 5000}, "do not fit the model's 512")])
def test_what_cannot_go_on_is_refused(pipeline, prompt, options, message):
    with pytest.raises(ValueError, match=message):
        pipeline(prompt, **options)


def test_only_recordings_are_repeated(pipeline):
    with pytest.raises(ValueError, match="only recordings can be repeated"):
        pipeline.repeat("a hen")


def test_wrong_files_are_named(folder, tmp_path):
    torch.save({"other.weight": torch.zeros(1)}, tmp_path / "generator.pth")
    with pytest.raises(ValueError, match="does not hold the flow and the vocoder"):
        load(folder, voice_generator=tmp_path / "generator.pth")
    vocabulary(WORD_IDS - 1).save_pretrained(tmp_path / "small")
    with pytest.raises(ValueError, match="has a vocabulary of 289 ids, the model one of 290"):
        load(folder, word_tokenizer=tmp_path / "small")
    vocabulary(TEXT_IDS + 1).save_pretrained(tmp_path / "large")
    with pytest.raises(ValueError, match="text_tokenizer has 285 ids, its model knows 284"):
        load(folder, text_tokenizer=tmp_path / "large")
    with pytest.raises(ValueError, match="use SpokenContinuationPipeline"):
        TextToSpeechPipeline.from_original("taste-llama-1b", folder)
    with pytest.raises(ValueError, match="no checkpoint named vae"):
        load(folder, vae="x")


def test_flow_and_vocoder_may_lie_apart(folder, pipeline, tmp_path):
    golden = Golden(DATA / "cosyvoice")
    for part in ("flow", "hift"):
        torch.save(golden.state(f"{part}_v1"), tmp_path / f"{part}.pt")
    again = load(folder, flow=tmp_path / "flow.pt", hift=tmp_path / "hift.pt")
    one, two = (made.repeat(HEN, generator=seeded(1)[0]).audio[0] for made in (pipeline, again))
    np.testing.assert_array_equal(one, two)


def test_words_are_cut_between_spaces():
    tokenizer = vocabulary(TEXT_IDS)
    made = word_ids(tokenizer, split_words(" an  ox\nsat. "))
    assert made.words == [0, 0, 1, 1, 2, 2, 2, 2] and made.begins == [0, 2, 4]
    assert tokenizer.decode(made.ids) == " an ox sat."
