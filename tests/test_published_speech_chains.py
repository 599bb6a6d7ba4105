"""CosyVoice, Phonon, KALL-E and VoxInstruct at published sizes, from random weights in the files of their authors."""

import json
from itertools import islice, product

import numpy as np
import pytest
import torch
from cosyvoice_folders import byte_vocabulary, write_ranks
from s3_onnx import without_key_bias, write_onnx
from safetensors.torch import save_file
from speech import word_tokenizer
from test_kalle_pipeline import vocabulary as llama_vocabulary
from test_phonon_pipeline import official_config, official_key
from test_voxinstruct_pipeline import fairseq_state
from test_voxinstruct_pipeline import vocabulary as mt5_vocabulary

from photophone import TextToSpeechPipeline, TokenToSpeechPipeline, Voice, create_model
from photophone.codecs.speech_units.onnx_write import write_voice_network
from photophone.loading.registry import find
from photophone.text.whisper_text import special_tokens

pytestmark = pytest.mark.slow
STACK = {"blocks.": "layers.", "norm1": "input_layernorm", "norm2": "post_attention_layernorm",
         "attention.to_out": "self_attn.o_proj", "feed_forward.gate": "mlp.gate_proj",
         "feed_forward.value": "mlp.up_proj", "feed_forward.out": "mlp.down_proj"}


def official_llama(state, ours, theirs, heads, kv_heads):
    """Official keys below ``theirs`` for those of a stack of ours below ``ours``; others stay."""
    made = {}
    for key, value in state.items():
        name = key.removeprefix(ours)
        if name == key:
            made[key] = value
            continue
        for own, other in STACK.items():
            name = name.replace(own, other)
        if "to_qkv" not in name:
            made[theirs + name] = value
            continue
        size = len(value) // (heads + 2 * kv_heads)
        for part, piece in zip("qkv", value.split([heads * size, kv_heads * size, kv_heads * size])):
            made[theirs + name.replace("attention.to_qkv", f"self_attn.{part}_proj")] = piece
    return made


def random_state(name, **settings):
    """The weights of a published model with random values, in half the room."""
    torch.manual_seed(0)
    return {key: value.bfloat16() if value.is_floating_point() else value
            for key, value in create_model(name, **settings).state_dict().items()}


def random_language_model(name):
    """The same without ever holding the model."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in create_model(name).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    return {key: 0.02 * torch.randn(shape, generator=generator, dtype=torch.bfloat16) if len(shape) > 1
            else torch.full(shape, float("norm" in key), dtype=torch.bfloat16) for key, shape in shapes.items()}


def recording(rate, seconds=1.0):
    time = torch.arange(round(rate * seconds)) / rate
    return 0.3 * torch.sin(2 * torch.pi * 220 * time) + 0.1 * torch.sin(2 * torch.pi * 700 * time)


def check(pipeline, rate, **options):
    """It speaks, alike for one seed."""
    pipeline.set_progress_bar_config(disable=True)
    results = [pipeline("no. ", generator=torch.Generator().manual_seed(1), **options) for _ in range(2)]
    (one,), (two,) = (result.audio for result in results)
    assert results[0].sample_rate == rate and np.isfinite(one).all()
    np.testing.assert_array_equal(one, two)
    return results[0]


@pytest.mark.parametrize("name", ["cosyvoice-300m", "cosyvoice-300m-25hz", "cosyvoice2-0.5b", "cosyvoice3-0.5b"])
def test_cosyvoice(name, tmp_path, monkeypatch):
    parts = (name, f"{name}-flow", f"{name}-hift")
    torch.manual_seed(0)
    for part in parts:
        create_model(part).save_original(tmp_path)
    units = find(name).chain.files["units"]
    write_onnx(without_key_bias(create_model(units)), tmp_path / find(units).files[0])
    write_voice_network(tmp_path / "campplus.onnx", 192)
    if name.startswith("cosyvoice-300m"):
        letters = [chr(code) for code in range(128)]
        words = ("".join(word) for length in (2, 3) for word in product(letters, repeat=length))
        count = find(name).config["vocab_size"] - 256 - len(special_tokens(name.endswith("25hz")))
        write_ranks(tmp_path / "multilingual.tiktoken", islice(words, count))
    else:
        byte_vocabulary().save_pretrained(tmp_path / "CosyVoice-BlankEN")
    pipeline = TextToSpeechPipeline.from_original(name, tmp_path)
    monkeypatch.setattr(TokenToSpeechPipeline, "published_sampler", {"num_inference_steps": 2})
    result = check(pipeline, pipeline.sample_rate, voice=Voice(recording(16000), 16000, "ah"), max_ratio=4.0)
    assert len(result.audio[0]) > 1000
    made = {part: sum(weight.numel() for weight in model.parameters()) for part, model in zip(
        parts, (pipeline.speech_generator, pipeline.flow, pipeline.codec))}
    assert made == {part: find(part).parameters for part in parts}


def test_phonon(tmp_path):
    state = {official_key(key): value for key, value in random_state("phonon-31m-en").items() if key != "default_voice"}
    keys = {"latent_proj.": "quantizer.output_proj.", "decoder.": "decoder.model.",
            "decoder_transformer.": "decoder_transformer.transformer.layers."}
    layers = {".attention.to_qkv.": ".self_attn.in_proj.", ".attention.to_out.": ".self_attn.out_proj.",
              ".feed_forward.0.": ".linear1.", ".feed_forward.2.": ".linear2.", ".scale1.gamma": ".layer_scale_1.scale",
              ".scale2.gamma": ".layer_scale_2.scale"}
    for key, value in random_state("phonon-codec").items():
        start = next((ours for ours in keys if key.startswith(ours)), "")
        name = keys.get(start, "") + key.removeprefix(start)
        for ours, theirs in layers.items():
            name = name.replace(ours, theirs)
        state[f"mimi.{name}"] = value
    config = official_config(vocab_size=4001, hidden_size=512, num_hidden_layers=6, num_attention_heads=8, head_dim=64,
                             num_key_value_heads=8, intermediate_size=2048, latent_dim=32, audio_prompt_dim=512,
                             num_speakers_embedding_dim=16, duration_delta_embedding_dim=128,
                             flow_head_config={"hidden_size": 512, "num_hidden_layers": 6, "latent_dim": 32,
                                               "condition_dim": 512, "flow_type": "lsd"})
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "model.safetensors")
    save_file({"speaker_wavs": torch.randn(1, 512, 125)}, tmp_path / "default-voice.safetensors")
    word_tokenizer().backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    pipeline = TextToSpeechPipeline.from_original("phonon-31m-en", tmp_path)
    result = check(pipeline, 24000)
    assert len(result.audio[0]) >= 7 * 1920 and result.settings["voice_tokens"] == 125


def test_kalle(tmp_path, monkeypatch):
    monkeypatch.setattr("photophone.pipelines.kalle_front.SPARE_FRAMES", 3)
    monkeypatch.setattr("photophone.pipelines.kalle_front.FRAMES_PER_ID", 1)
    (tmp_path / "ckpt").mkdir()
    write_kalle(tmp_path / "ckpt" / "model.pt")
    random_flow(tmp_path / "ckpt" / "flowvae.pt")
    llama_vocabulary().save_pretrained(tmp_path / "tokenizer_dir")
    pipeline = TextToSpeechPipeline.from_original("kalle", tmp_path)
    result = check(pipeline, 16000, voice=Voice(recording(16000), 16000, "ah"))
    assert len(result.audio[0]) == 6 * 1280
    assert result.settings["voice_tokens"] == 12  # of 13, the last of which may be no whole one


def write_kalle(path):
    """The file of the language model."""
    names = {"text_embedding.weight": "base_model.model.embed_tokens.weight", "latent_proj.": "audio_linear.",
             "distribution.": "distribution_linear."}
    state = official_llama(random_language_model("kalle"), "transformer.", "base_model.model.", 32, 8)
    for ours, theirs in names.items():
        state = {key.replace(ours, theirs): value for key, value in state.items()}
    torch.save(state, path)


def random_flow(path):
    """The file of the codec; weight normalisation was folded, as some copies have it."""
    state = {}
    for key, value in random_state("kalle-flowvae").items():
        kind, *rest = key.split(".")
        names = {"encoder": ["audio_encoder", "generator", *rest], "ups": ["ups", rest[0], "0", "layer", rest[-1]],
                 "flow": ["flow", "flows", str(2 * int(rest[1])), *rest[2:]] if kind == "flow" else []}
        state[".".join(names.get(kind, [kind, *rest]))] = value
    torch.save({"generator": state}, path)


def write_voxinstruct(folder):
    """The folder of the authors."""
    for name in ("voxinstruct-sft-checkpoint", "vocos-encodec-24khz", "encodec-checkpoint", "hubert-base-checkpoint"):
        (folder / name).mkdir()
    for name, prefix in (("ar", "model.model."), ("nar", "model.")):
        write_voxinstruct_model(name, prefix, folder / "voxinstruct-sft-checkpoint" / f"{name}_1800k.pyt")
    codec = random_state("vocos-encodec-24khz-6kbps")
    torch.save({"feature_extractor.codebook_weights" if key == "codebooks" else key: value
                for key, value in codec.items() if not key.startswith("model.")},
               folder / "vocos-encodec-24khz" / "pytorch_model.bin")
    save_file({key.removeprefix("model."): value.contiguous() for key, value in codec.items()
               if key.startswith("model.")}, folder / "encodec-checkpoint" / "model.safetensors")
    torch.manual_seed(0)
    state = fairseq_state(create_model("hubert-base-km500"))
    np.save(folder / "hubert-base-checkpoint" / "hubert_base_ls960_L9_km500.npy", state.pop("centres").numpy())
    torch.save({"model": state}, folder / "hubert-base-checkpoint" / "hubert_base_ls960.pt")
    mt5_vocabulary().save_pretrained(folder / "google-mt5-base-checkpoint")


def write_voxinstruct_model(name, prefix, path):
    names = {"text.proj.": "prompt_fc.", "text.mt5.": "t5_model.encoder.", "llama.segments.": "embed_segments.",
             "head.": "model.lm_head.", "tables.": "all_embed_tokens.", "table.": "embed_tokens.",
             "books.": "embed_res.", "heads.": "out_proj."}
    made = {}
    state = official_llama(random_language_model(f"voxinstruct-{name}"), "llama.stack.", prefix, 16, 16)
    for key, value in state.items():
        start = next((ours for ours in names if key.startswith(ours)), "")
        made[names.get(start, "") + key.removeprefix(start)] = value
    torch.save({"model": made}, path)


def test_voxinstruct(tmp_path, monkeypatch):
    monkeypatch.setattr("photophone.pipelines.voxinstruct_front.SPARE_IDS", 12)
    monkeypatch.setattr("photophone.pipelines.voxinstruct_front.IDS_PER_ID", 1)
    write_voxinstruct(tmp_path)
    pipeline = TextToSpeechPipeline.from_original("voxinstruct-ar", tmp_path)
    with torch.no_grad():  # random weights would take long to come to the end of their units
        pipeline.speech_generator.head.weight[pipeline.speech_generator.layout.semantic_end] *= 30
    monkeypatch.setattr(type(pipeline.book_generator), "sampler_settings", {"num_order_steps": 1})
    result = check(pipeline, 24000, voice=Voice(recording(24000), 24000), instruction="low")
    assert result.settings["instruction"] == "low" and result.settings["voice_tokens"] > 0
    assert find("voxinstruct-ar").parameters == sum(weight.numel() for weight in pipeline.speech_generator.parameters())
    assert len(result.audio[0]) or "made no speech" in result.faults[0][-1]
