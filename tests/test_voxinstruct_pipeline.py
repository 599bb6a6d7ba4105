"""TextToSpeechPipeline with VoxInstruct from the folder of its authors: instructions, voices, faults, refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import build, shake
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from photophone import SeededNoise, TextToSpeechPipeline, Tokens, Voice, VoiceAttributes, create_model
from photophone.core.noise import draw_seed
from photophone.generators.voxinstruct.condition import Instruction, InstructionSampler, WrittenSpeech
from photophone.loading.registry import find
from photophone.pipelines.speech_fronts import voice_samples
from photophone.text.voxinstruct import full_instruction, quoted_words

GOLDEN = Path(__file__).parent / "goldens" / "data" / "voxinstruct"
RATE = 24000
TEXTS = ["a hen.", "ten men led him."]
FAIRSEQ = {"feature_projection.projection.": "post_extract_proj.", "feature_projection.layer_norm.": "layer_norm.",
           "encoder.pos_conv_embed.conv.": "encoder.pos_conv.0.", ".attention.": ".self_attn.",
           ".feed_forward.intermediate_dense.": ".fc1.", ".feed_forward.output_dense.": ".fc2.",
           "parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def vocabulary():
    """Single bytes and an end, as mT5's vocabulary has one."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {"<pad>": 0, "</s>": 1, **{sign: index + 2 for index, sign in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(ids, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>")


MORE_ROWS = {28: 32, 15: 19, 30: 258}
"""Rows of recorded tables (ids of speech, codes of a book, ids of text), and how many the parts of these tests need."""


def with_more_rows(state):
    """Recorded weights with random rows behind those of tables."""
    generator, made = torch.Generator().manual_seed(0), {}
    for key, value in state.items():
        added = MORE_ROWS.get(len(value), len(value)) - len(value)
        more = torch.randn(added, *value.shape[1:], generator=generator)
        made[key] = torch.cat([value, 2.0 * value.std() * more])
    if "t5_model.shared.weight" in made:
        made["t5_model.encoder.embed_tokens.weight"] = made["t5_model.shared.weight"]
    return made


def sizes():
    model = {**find("voxinstruct-ar").tiny, "max_text": 120, "num_codes": 16}
    model["mt5"] = {**model["mt5"], "vocab_size": 258}
    codec = find("vocos-encodec-24khz-6kbps").tiny
    codec = {**codec, "settings": {**codec["settings"], "codebook_size": 16}}
    return {"ar": model, "nar": model, "vocos": codec, "hubert": find("hubert-base-km500").tiny}


def fairseq_state(model):
    """The official keys of a HuBERT of ours."""
    made = {}
    for name, value in model.state_dict().items():
        key = name.removeprefix("hubert.")
        if "encoder.layers." in key:
            key = key.replace(".layer_norm.", ".self_attn_layer_norm.") if ".final_" not in key else key
        for ours, theirs in FAIRSEQ.items():
            key = key.replace(ours, theirs)
        if key.startswith("feature_extractor."):
            key = key.replace(".conv.", ".0.").replace(".layer_norm.", ".2.")
        made[key] = value
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The authors' repository: recorded models with a table of more ids, a codec and HuBERT with random weights."""
    folder = tmp_path_factory.mktemp("voxinstruct") / "pretrained"
    for name in ("voxinstruct-sft-checkpoint", "vocos-encodec-24khz", "encodec-checkpoint", "hubert-base-checkpoint"):
        (folder / name).mkdir(parents=True)
    for name in ("ar", "nar"):
        state = with_more_rows(load_file(GOLDEN / f"{name}.safetensors"))
        torch.save({"model": state, "step": 1}, folder / "voxinstruct-sft-checkpoint" / f"{name}_1800k.pyt")
    torch.manual_seed(0)
    codec = shake(create_model("vocos-encodec-24khz-6kbps", **sizes()["vocos"]))
    state = {"feature_extractor.codebook_weights" if key == "codebooks" else key: value
             for key, value in codec.state_dict().items() if not key.startswith("model.")}
    torch.save(state, folder / "vocos-encodec-24khz" / "pytorch_model.bin")
    save_file({key.removeprefix("model."): value.contiguous() for key, value in codec.state_dict().items()
               if key.startswith("model.")}, folder / "encodec-checkpoint" / "model.safetensors")
    hubert = build("hubert-base-km500")
    state = fairseq_state(hubert)
    np.save(folder / "hubert-base-checkpoint" / "hubert_base_ls960_L9_km500.npy", state.pop("centres").numpy())
    torch.save({"model": {**state, "mask_emb": torch.ones(16)}, "args": None},
               folder / "hubert-base-checkpoint" / "hubert_base_ls960.pt")
    vocabulary().save_pretrained(folder / "google-mt5-base-checkpoint")
    return folder.parent


@pytest.fixture(scope="module")
def pipeline(folder):
    made = TextToSpeechPipeline.from_original("voxinstruct-ar", folder, part_configs=sizes())
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Random weights rarely end, and frames of the tiny codec last a millisecond."""
    for name, value in (("IDS_PER_ID", 1), ("SPARE_IDS", 40), ("LEAST_CODES", 0), ("LEAST_SECONDS", 0.01)):
        monkeypatch.setattr(f"photophone.pipelines.voxinstruct_front.{name}", value)


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def recording(seconds=0.02):
    time = torch.arange(round(RATE * seconds)) / RATE
    return 0.3 * torch.sin(2 * torch.pi * 220 * time) + 0.1 * torch.sin(2 * torch.pi * 700 * time)


def spoken(pipeline, *texts, **options):
    """The result of the first seeds with which a text becomes speech."""
    for seed in range(40):
        result = pipeline(list(texts), generator=seeded(*range(seed, seed + len(texts))), **options)
        if all(len(audio) for audio in result.audio):
            return result
    pytest.fail("no seed made speech")


def test_it_speaks_as_its_parts_do(pipeline):
    voice = Voice(recording(), RATE)
    result = spoken(pipeline, "a hen.", voice=voice, instruction="A low voice.")
    ar, nar, codec = pipeline.speech_generator, pipeline.book_generator, pipeline.codec
    units = torch.unique_consecutive(pipeline.front.read_voice(voice).tokens)
    low = torch.unique_consecutive(pipeline.unit_tokenizer.encode(
        voice_samples(voice, 16000)[None, None]).values[0])
    assert torch.equal(units, low[:min(int(0.8 * len(low)), len(low) - 20)]) and len(units)
    codes = codec.encode(recording()[None, None]).values
    ids = torch.tensor([pipeline.text_tokenizer('A low voice, "a hen."')["input_ids"]])
    assert ids[0, -1] == 1
    condition = Instruction(ids, torch.ones_like(ids, dtype=torch.bool), torch.tensor([0]), units[None], codes)
    noise = SeededNoise.from_seeds([draw_seed(seeded(result.seeds[0])[0])])
    sampler = InstructionSampler(max_ids=2 + len(units) + codes.shape[2] + 46)
    made = ar.generate(condition, noise=noise, sampler=sampler).values
    whole = WrittenSpeech(**vars(condition), ids=torch.cat([condition.prompt_ids(ar.layout), made], dim=1))
    books = nar.generate(whole, noise=noise).values[..., codes.shape[2]:]
    np.testing.assert_allclose(result.audio[0], codec.decode(Tokens(books))[0, 0].numpy(), atol=1e-5)
    assert result.settings["instruction"] == "A low voice." and result.settings["voice_tokens"] == len(units)
    assert result.settings["temperature"] == 0.8 and result.settings["max_ids"] == 2048
    assert result.model == "voxinstruct-ar" and result.sample_rate == RATE


def test_seeds_repeat_alone_and_in_a_batch(pipeline):
    for options in ({"voice": Voice(recording(), RATE, "read by nobody")}, {"instruction": "softly"}, {}):
        batch = spoken(pipeline, *TEXTS, **options)
        for text, seed, audio in zip(TEXTS, batch.seeds, batch.audio):
            np.testing.assert_array_equal(pipeline(text, generator=seeded(seed)[0], **options).audio[0], audio)


def test_a_found_voice_stays_for_a_long_text(pipeline, monkeypatch):
    monkeypatch.setattr("photophone.pipelines.language_fronts.PIECE_IDS", 18)
    front, read = type(pipeline.front), []
    condition = front.condition_of
    monkeypatch.setattr(front, "condition_of",
                        lambda own, request: read.append(request.voice) or condition(own, request))
    text = "a hen. ten men led him."
    for seed in range(40):
        read.clear()
        result = pipeline(text, instruction="softly", generator=seeded(seed)[0])
        if read[1].codes is not None:
            break
    assert read[0].codes is None and read[1].codes.shape[0] == 4 and read[1].instruction == "softly"
    chunks = list(pipeline.stream(text, instruction="softly", generator=seeded(seed)[0]))
    np.testing.assert_array_equal(np.concatenate([chunk.audio for chunk in chunks]), result.audio[0])


def test_endless_and_silent_speech_is_reported(pipeline, monkeypatch):
    ar = pipeline.speech_generator
    pick, layout = ar.pick, ar.layout

    def without(*never):
        def picked(logits, *others):
            logits = logits.clone()
            logits[:, list(never)] = -1e9
            return pick(logits, *others)
        return picked

    monkeypatch.setattr(ar, "pick", without(layout.end))
    result = spoken(pipeline, "a hen.")
    assert "stopped at the limit of 46 ids: 'a hen.'" in result.faults[0]
    monkeypatch.setattr(ar, "pick", without(layout.semantic_end))
    result = pipeline("a hen.", generator=seeded(1)[0])
    assert not len(result.audio[0])
    assert result.faults[0] == ("stopped at the limit of 46 ids: 'a hen.'", "made no speech: 'a hen.'")


def test_a_saved_pipeline_speaks_the_same(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    again, voice = TextToSpeechPipeline.from_pretrained(tmp_path), Voice(recording(), RATE)
    one = spoken(pipeline, "a hen.", voice=voice)
    two = again("a hen.", voice=voice, generator=seeded(one.seeds[0])[0])
    assert np.array_equal(one.audio[0], two.audio[0]) and one.facts(0) == two.facts(0)


@pytest.mark.parametrize(("text", "instruction", "whole", "words"), [
    ("Hi there.", None, '"hi there."', "Hi there."), ("你好。", None, "“你好。”", "你好。"),
    ('A man says: "Fire, Major."', None, 'A man says: "fire, major."', "Fire, Major."),
    ("Say “no” now", "a Low voice,", "A low voice, \"say 'no' now\"", "Say 'no' now"),
    ("你好", "语调高昂。", "语调高昂，“你好”", "你好"),
    ('an empty "" one', None, "\"an empty '' one\"", "an empty '' one")])
def test_instructions_are_written_as_the_authors_do(text, instruction, whole, words):
    assert full_instruction(text, instruction) == (whole, words)


def test_an_instruction_stays_whole(pipeline, monkeypatch):
    monkeypatch.setattr("photophone.pipelines.language_fronts.PIECE_IDS", 12)
    assert quoted_words("He said it.") is None and quoted_words('A man: "Yes. No. Yes."') == "Yes. No. Yes."
    assert len(pipeline.front.pieces("Yes indeed. No never. Yes.")) == 3
    assert len(pipeline.front.pieces('A man: "Yes indeed. No never. Yes."')) == 1


@pytest.mark.parametrize(("options", "message"), [
    ({"text": "?"}, "no words"), ({"instruction": " "}, "no words"), ({"instruction": "very " * 40}, "at most 120 are"),
    ({"voice": VoiceAttributes("male")}, "recorded voices"), ({"voice": Voice(torch.zeros(9), RATE)}, "lasts 0.00 s"),
    ({"voice": Voice("none.wav")}, "none.wav"), ({"speed": 2.5}, "speed must be 0.5 to 2"),
    ({"output_type": "latent"}, "no latents")])
def test_what_cannot_be_spoken_is_refused(pipeline, options, message):
    with pytest.raises((ValueError, OSError), match=message):
        pipeline(**{"text": "a hen.", **options})


def test_wrong_files_are_named(folder, pipeline, tmp_path):
    load = TextToSpeechPipeline.from_original
    with pytest.raises(ValueError, match=r"needs ar_1800k.pyt, which is on no hub"):
        load("voxinstruct-ar", tmp_path)
    models = {key: folder / "pretrained" / "voxinstruct-sft-checkpoint" / f"{key}_1800k.pyt" for key in ("ar", "nar")}
    with pytest.raises(ValueError, match="kmeans is missing"):
        load("voxinstruct-ar", tmp_path, **models, hubert="x.pt")
    np.save(tmp_path / "km.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"centres must be one float array \(K, C\)"):
        load("voxinstruct-ar", folder, kmeans=tmp_path / "km.npy", part_configs=sizes())
    (tmp_path / "km.bin").write_bytes(b"x")
    with pytest.raises(ValueError, match="opening one runs what it holds; save its centres once"):
        load("voxinstruct-ar", folder, kmeans=tmp_path / "km.bin", part_configs=sizes())
    mute = TextToSpeechPipeline(pipeline.speech_generator, pipeline.codec, pipeline.text_tokenizer,
                                book_generator=pipeline.book_generator)
    with pytest.raises(ValueError, match="reads no voices; give hubert= and kmeans="):
        mute("a hen.", voice=Voice(recording(), RATE))
    with pytest.raises(ValueError, match="needs book_generator"):
        TextToSpeechPipeline(pipeline.speech_generator, pipeline.codec, pipeline.text_tokenizer)("a hen.")
