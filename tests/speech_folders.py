"""Folders of tiny VoxCPMs and a tiny Spark-TTS as their authors publish them."""

import json
from pathlib import Path

import torch
from cosyvoice_folders import built, byte_vocabulary
from safetensors.torch import load_file, save_file
from speech import word_tokenizer
from tiny import arguments

from photophone.loading.registry import find

VOXCPM = Path(__file__).parent / "goldens" / "data" / "voxcpm"


def spark_words(codec):
    """The added tokens of a tiny Spark-TTS."""
    frames = ["content", "global_token", "semantic_token", "style_label"]
    words = ["<|im_end|>", "<|task_tts|>", "<|task_controllable_tts|>"]
    words += [f"<|{side}_{name}|>" for name in frames for side in ("start", "end")]
    words += [f"<|gender_{place}|>" for place in range(2)]
    words += [f"<|{name}_label_{place}|>" for name in ("pitch", "speed") for place in range(5)]
    words += [f"<|bicodec_global_{code}|>" for code in range(codec.speaker_encoder.quantizer.codebook_size)]
    return words + [f"<|bicodec_semantic_{code}|>" for code in range(codec.config.num_codes)]


def write_spark(folder):
    """The language model and its vocabulary as published, and in ``codec`` a saved BiCodec."""
    codec = built("bicodec-spark-tts-0.5b", 5)
    codec.save_pretrained(folder / "codec")
    vocabulary = byte_vocabulary(spark_words(codec))
    sizes = {**arguments(find("spark-tts-0.5b")), "vocab_size": len(vocabulary), "max_length": 2000,
             "end": vocabulary.convert_tokens_to_ids("<|im_end|>")}
    lm = built("spark-tts-0.5b", 6, **sizes)
    codes = vocabulary.convert_tokens_to_ids("<|bicodec_global_0|>")
    with torch.no_grad():
        lm.embedding.weight[:codes] *= 0.1  # so that answers hold codes
        lm.embedding.weight[codes:] *= 2.0
    lm.save_original(folder)
    vocabulary.save_pretrained(folder / "LLM")
    names = {"vocab_size": "vocab_size", "hidden_size": "width", "num_hidden_layers": "depth",
             "num_attention_heads": "num_heads", "num_key_value_heads": "num_kv_heads", "intermediate_size": "hidden",
             "rms_norm_eps": "eps", "rope_theta": "rotary_base", "max_position_embeddings": "max_length"}
    config = {theirs: lm.config[ours] for theirs, ours in names.items()}
    (folder / "LLM" / "config.json").write_text(json.dumps({**config, "eos_token_id": sizes["end"]}))
    return folder


def write_voxcpm(folder, version):
    """The folder of a tiny VoxCPM as its authors publish it: the recorded weights, with room for 128 text ids."""
    settings = json.loads((VOXCPM / "config.json").read_text())["config"][version]
    state = load_file(VOXCPM / {"v1": "voxcpm.safetensors", "v2": "voxcpm2.safetensors"}[version])
    known = state["base_lm.embed_tokens.weight"]
    rows = torch.randn(128 - len(known), known.shape[1], generator=torch.Generator().manual_seed(0))
    state["base_lm.embed_tokens.weight"] = torch.cat([known, rows])
    settings |= {"lm_config": {**settings["lm_config"], "vocab_size": 128}, "max_length": 400,
                 "architecture": "voxcpm2" if version == "v2" else "voxcpm"}
    (folder / "config.json").write_text(json.dumps(settings))
    vae = {key.removeprefix("audio_vae."): value for key, value in state.items() if key.startswith("audio_vae.")}
    own = {key: value for key, value in state.items() if not key.startswith("audio_vae.")}
    torch.save({"state_dict": vae}, folder / "audiovae.pth")
    if version == "v1":
        torch.save({"state_dict": own}, folder / "pytorch_model.bin")
    else:
        save_file(own, folder / "model.safetensors")
    word_tokenizer().save_pretrained(folder)
    return folder
