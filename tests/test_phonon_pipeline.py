"""TextToSpeechPipeline with Phonon: a published folder against transformers' classes, voices from files, streaming."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from speech import word_tokenizer
from tiny import shake

from photophone import SeededNoise, TextToSpeechPipeline, Voice, VoiceAttributes, create_model
from photophone.codecs.continuous_mimi.config import codec_config
from photophone.generators.pocket_tts.phonon import Phonon
from photophone.generators.pocket_tts.sampler import PocketTTSSampler
from photophone.text.pocket_tts import pocket_ids

GOLDEN = Path(__file__).parent / "goldens" / "data" / "pocket_tts"
LONG = "a bad cab. a big dig. he fed a hen, and ten men led him. oh no. we do go on and on. " * 3
CONDITIONS = "flow_lm.condition_provider.conditioners."
OFFICIAL = {"text_embedding.": f"{CONDITIONS}transcript_in_segment.embed.",
            "voice_proj.": f"{CONDITIONS}speaker_wavs.output_proj.", "speakers.": f"{CONDITIONS}num_speakers.embed.",
            "speakers_proj.": f"{CONDITIONS}num_speakers.output_proj.",
            "duration_proj.": f"{CONDITIONS}duration_delta.output_proj.", "speech_start": "flow_lm.bos_emb",
            "latent_mean": "flow_lm.emb_mean", "latent_std": "flow_lm.emb_std", "frame_proj.": "flow_lm.input_linear.",
            "norm.": "flow_lm.out_norm.", "end_head.": "flow_lm.out_eos.", "token_head.net.": "flow_lm.flow_net.",
            "token_head.objective.weighting.": "flow_lm.flow.w_s_t.", "blocks.": "flow_lm.transformer.layers."}
LAYERS = {".attention.to_qkv.": ".self_attn.in_proj.", ".attention.to_out.": ".self_attn.out_proj.",
          ".feed_forward.0.": ".linear1.", ".feed_forward.2.": ".linear2."}


def official_key(key):
    start = max((ours for ours in OFFICIAL if key.startswith(ours)), key=len)
    key = OFFICIAL[start] + key.removeprefix(start)
    for ours, theirs in LAYERS.items() if "transformer.layers" in key else ():
        key = key.replace(ours, theirs)
    return key


def official_config(**changes):
    """As transformers writes it."""
    head = {"hidden_size": 24, "num_hidden_layers": 2, "latent_dim": 6, "condition_dim": 32, "flow_type": "lsd"}
    return {"model_type": "gradium_phonon_tts", "architectures": ["GradiumPhononTTSForConditionalGeneration"],
            "vocab_size": 81, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8,
            "num_key_value_heads": 4, "intermediate_size": 48, "hidden_act": "gelu", "latent_dim": 6,
            "audio_prompt_dim": 10, "num_speakers": 2, "num_speakers_vocab_size": 32, "num_speakers_embedding_dim": 4,
            "duration_delta": 0.3, "duration_delta_embedding_dim": 8, "rope_parameters":
            {"rope_type": "default", "rope_theta": 10000.0}, "flow_head_config": head, **changes}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a tiny model as its authors publish it: both models in one file, a voice, a vocabulary."""
    folder, config = tmp_path_factory.mktemp("phonon"), official_config()
    torch.manual_seed(0)
    model = shake(Phonon(**Phonon.convert_config(config)), scale=0.1)
    model.fit_statistics(model.example_tokens(3))
    state = {official_key(key): value for key, value in model.state_dict().items() if key != "default_voice"}
    state |= {key: value * 0.5 for key, value in load_file(GOLDEN / "weights.safetensors").items()
              if key.startswith("mimi.")}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "model.safetensors")
    write_voice(folder / "default-voice.safetensors", 0)
    word_tokenizer().backend_tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def write_voice(path, seed, channels=10):
    save_file({"speaker_wavs": torch.randn(1, channels, 7, generator=torch.Generator().manual_seed(seed))}, path)
    return path


@pytest.fixture(scope="module")
def codec():
    settings = json.loads((GOLDEN / "config.json").read_text())["constructor"]["model"]["mimi"]
    settings |= {"sample_rate": 4800, "frame_rate": 200}
    return {key: value for key, value in codec_config(settings).items() if key != "encoder"}


@pytest.fixture(scope="module")
def pipeline(folder, codec):
    made = TextToSpeechPipeline.from_original("phonon-31m-en", folder, part_configs={"codec": codec})
    made.set_progress_bar_config(disable=True)
    return made


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_it_makes_what_transformers_makes(pipeline, folder):
    from transformers import GradiumPhononTTSForConditionalGeneration

    theirs = GradiumPhononTTSForConditionalGeneration.from_pretrained(folder).eval()
    ours, text = pipeline.speech_generator, [9, 12, 30, 7, 15]
    for voice in (ours.default_voice, None):
        count = 0 if voice is None else len(voice)
        ids = torch.tensor([[5] * count + text + [4]])
        prompt = {} if voice is None else {"audio_prompt_latents": voice[None],
                                           "audio_prompt_latents_mask": torch.ones(1, count, dtype=torch.long)}
        made = theirs.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20,
                               frames_after_eos=torch.tensor([2]), return_dict_in_generate=True, eos_threshold=0.1,
                               num_flow_steps=2, **prompt)
        sampler = PocketTTSSampler(temperature=0.0, max_frames=20, frames_after_end=3, end_threshold=0.1,
                                   num_inference_steps=2)
        tokens = ours.generate(ours.prepare([text], [voice]), noise=SeededNoise.from_seeds([0]), sampler=sampler)
        torch.testing.assert_close(tokens.values, made.audio_latents, rtol=1e-4, atol=1e-4)


def test_a_published_folder_speaks_as_its_parts_do(pipeline):
    result = pipeline("he fed a hen", generator=seeded(7))
    model, codec = pipeline.speech_generator, pipeline.codec
    ids = pocket_ids(pipeline.text_tokenizer, "He fed a hen.")
    most = int(np.ceil((len(ids) / 3 + 2) * codec.frame_rate))
    from photophone.core.noise import draw_seed
    tokens = model.generate(model.prepare([ids], [model.default_voice]), noise=SeededNoise.from_seeds(
        [draw_seed(seeded(7))]), sampler=PocketTTSSampler(max_frames=most, frames_after_end=5))
    audio = codec.decode(tokens)[0, 0]
    audio[:24] *= torch.linspace(0, 1, 24)  # 5 ms
    np.testing.assert_allclose(result.audio[0], audio.numpy(), atol=1e-5)
    assert result.sample_rate == 4800 and result.model == "phonon-31m-en" and result.settings["voice"] == "default"
    assert result.settings["temperature"] == 0.3 and result.weights_licence == "Apache-2.0"


def test_voices_come_from_files(pipeline, tmp_path):
    voice = Voice(write_voice(tmp_path / "anna.safetensors", 5))
    one, two = pipeline("a hen", voice=voice, generator=seeded(1)), pipeline("a hen", generator=seeded(1))
    assert one.settings["voice"] == "anna.safetensors" and one.settings["voice_tokens"] == 7
    assert len(one.audio[0]) != len(two.audio[0]) or not np.allclose(one.audio[0], two.audio[0])


def test_streaming_equals_the_whole(pipeline):
    (whole,) = pipeline(LONG, generator=seeded(3)).audio
    chunks = list(pipeline.stream(LONG, generator=seeded(3)))
    assert len(chunks) > 10 and len(pipeline.front.pieces(LONG)) > 2
    np.testing.assert_allclose(np.concatenate([chunk.audio for chunk in chunks]), whole, atol=1e-4)


def test_a_batch_equals_its_texts(pipeline):
    texts = ["a hen", LONG, "oh no. he is on it."]
    batch = pipeline(texts, generator=[seeded(seed) for seed in (1, 2, 3)]).audio
    for row, (text, seed) in enumerate(zip(texts, (1, 2, 3))):
        np.testing.assert_allclose(batch[row], pipeline(text, generator=seeded(seed)).audio[0], atol=1e-5)


def test_a_saved_pipeline_speaks_the_same(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    again = TextToSpeechPipeline.from_pretrained(tmp_path)
    one, two = (made("a hen", generator=seeded(1)) for made in (pipeline, again))
    assert np.array_equal(one.audio[0], two.audio[0]) and one.settings == two.settings


def test_endless_speech_is_bounded_and_reported(pipeline, monkeypatch):
    monkeypatch.setattr(type(pipeline), "published_sampler", {"end_threshold": 100.0})
    result = pipeline("no", generator=seeded(1))
    (fault,) = result.faults[0]
    assert fault.startswith("stopped at the limit of ") and "'No.'" in fault


@pytest.mark.parametrize(("options", "message"), [
    ({"text": "..."}, "no words"), ({"text": "a <|audio_bos|> b"}, "takes for one of its marks"),
    ({"instruction": "soft"}, "takes no instruction"), ({"voice": VoiceAttributes("male")}, "gradium/phonon-voices"),
    ({"voice": Voice(torch.zeros(4800), 4800)}, "recordings cannot be read"),
    ({"voice": Voice("anna.wav")}, "no such voice"), ({"voice": Voice(__file__)}, "encoder that makes them"),
    ({"output_type": "latent"}, "no latents"), ({"guidance_scale": 2.0}, "has no option guidance_scale")])
def test_what_cannot_be_spoken_is_refused(pipeline, options, message):
    with pytest.raises(ValueError, match=message):
        pipeline(**{"text": "a hen", **options})


def test_wrong_files_are_named(pipeline, folder, codec, tmp_path):
    with pytest.raises(ValueError, match="has 9 channels, the model reads 10"):
        pipeline("a hen", voice=Voice(write_voice(tmp_path / "b.safetensors", 1, channels=9)))
    save_file({"speaker_wavs": torch.zeros(3, 10)}, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"must hold speaker_wavs, float \(1, D, N\)"):
        pipeline("a hen", voice=Voice(tmp_path / "c.safetensors"))
    with pytest.raises(ValueError, match="leave text out"):
        pipeline("a hen", voice=Voice(folder / "default-voice.safetensors", text="no"))
    with pytest.raises(ValueError, match="no such voice"):  # before any weights are read
        TextToSpeechPipeline.from_original("phonon-31m-en", tmp_path, voice=tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="has no checkpoint named campplus"):
        TextToSpeechPipeline.from_original("phonon-31m-en", folder, campplus="x")
    with pytest.raises(ValueError, match="holds no model.safetensors"):
        TextToSpeechPipeline.from_original("phonon-31m-en", tmp_path, phonon=None)


@pytest.mark.parametrize(("changes", "message"), [
    ({"attention_bias": True}, "only the published kind"), ({"hidden_act": "relu"}, "only the published kind"),
    ({"num_speakers": 40}, "num_speakers must lie in 0..31")])
def test_other_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Phonon(**Phonon.convert_config(official_config(**changes)))


@pytest.mark.parametrize(("name", "size"), [("phonon-31m-en", 41.1), ("phonon-40m-multilingual", 50.5)])
def test_the_sizes_are_those_that_are_published(name, size):
    """Those of the hub pages, in millions, codec included."""
    with torch.device("meta"):
        model, codec = create_model(name), create_model("phonon-codec")
    weights = [weight for key, weight in model.named_parameters() if "objective" not in key]
    assert round(sum(map(torch.numel, [*weights, *codec.parameters()])) / 1e6, 1) == size
