"""Folders of tiny delayed-streams models as Kyutai publishes them: config.json, weights under official keys, Mimi under
those of its own code, a vocabulary of SentencePiece."""

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from photophone.codecs.mimi.model import Mimi
from photophone.generators.delayed_streams.config import model_config
from photophone.generators.delayed_streams.model import DelayedStreams
from photophone.generators.delayed_streams.speech import DelayedSpeech
from photophone.text.sentencepiece import load_sentencepiece

PIECES = Path(__file__).parent / "goldens" / "data" / "sentencepiece"
RATE, HOP, BOOKS, CARD, TEXT_CARD = 4000, 320, 4, 32, 600
MIMI = {"num_codebooks": BOOKS, "sample_rate": RATE, "settings": {
    "num_filters": 4, "hidden_size": 16, "upsampling_ratios": [8, 5, 4], "num_hidden_layers": 2,
    "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 2, "upsample_groups": 16,
    "num_quantizers": BOOKS, "codebook_size": CARD, "codebook_dim": 8, "sliding_window": 10,
    "vector_quantization_hidden_dimension": 8}}
"""12.5 frames a second, as the published codec has."""
COMMON = {"card": CARD, "n_q": BOOKS, "dim": 32, "text_card": TEXT_CARD, "existing_text_padding_id": 3, "num_heads": 2,
          "num_layers": 2, "hidden_scale": 4.125, "causal": True, "layer_scale": None, "gating": "silu",
          "norm": "rms_norm_f32", "positional_embedding": "rope", "depformer_dim": 16, "depformer_num_heads": 2,
          "depformer_num_layers": 2, "depformer_multi_linear": True, "depformer_pos_emb": "none",
          "depformer_weights_per_step": True, "tokenizer_name": "pieces.model",
          "mimi_name": "tokenizer-tiny.safetensors"}
STT = {**COMMON, "dep_q": 0, "delays": [0] * (BOOKS + 1), "context": 20, "max_period": 100000.0,
       "depformer_dim_feedforward": None, "conditioners": {}, "cross_attention": False,
       "stt_config": {"audio_delay_seconds": 0.5, "audio_silence_prefix_seconds": 0.2}, "model_type": "stt",
       "model_id": {"sig": "abc", "epoch": 3}}
TTS = {**COMMON, "dep_q": BOOKS, "delays": [0, 0, 2, 2, 2], "context": 20, "max_period": 10000,
       "depformer_dim_feedforward": 48, "depformer_low_rank_embeddings": 8, "demux_second_stream": True,
       "text_card_out": None, "cross_attention": True, "depformer_weights_per_step_schedule": [0, 1, 2, 2],
       "conditioners": {"speaker_wavs": {"type": "tensor", "tensor": {"dim": 6}},
                        "control": {"type": "lut", "lut": {"dim": 32, "n_bins": 1, "tokenizer": "noop",
                                                           "possible_values": ["ok"]}},
                        "cfg": {"type": "lut", "lut": {"dim": 16, "n_bins": 2, "tokenizer": "noop",
                                                       "possible_values": ["1.0", "2.0"]}}},
       "fuser": {"cross_attention_pos_emb": True, "cross_attention_pos_emb_scale": 1, "sum": ["control", "cfg"],
                 "prepend": [], "cross": ["speaker_wavs"]},
       "tts_config": {"audio_delay": 0.4, "second_stream_ahead": 2}, "model_id": {"sig": "abc", "epoch": 3},
       "model_type": "tts", "moshi_name": "dsm_tts_abc@3.safetensors"}
GOING_ON = {**{key: value for key, value in TTS.items() if key != "fuser"}, "conditioners": {},
            "cross_attention": False, "demux_second_stream": False, "text_card_out": 5,
            "tts_config": {"audio_delay": 0.4}}
"""A model that knows voices by a recording in front of the speech."""
LM_NAMES = [(r"^depth_blocks\.(\d+)\.norm", r"depformer.layers.\1.norm"),
            (r"^depth_blocks\.(\d+)\.(in|out)_projs\.", r"depformer.layers.\1.self_attn.\2_projs."),
            (r"^depth_blocks\.(\d+)\.feed_forwards\.", r"depformer.layers.\1.gating."),
            (r"^blocks\.", "transformer.layers."),
            (r"\.attention\.to_qkv\.", ".self_attn.in_projs.0."), (r"\.attention\.to_out\.", ".self_attn.out_projs.0."),
            (r"\.cross\.to_out\.", ".cross_attention.out_projs.0."), (r"\.feed_forward\.", ".gating."),
            (r"(gating\.(?:\d+\.)?)out\.", r"\1linear_out."), (r"^norm\.", "out_norm."),
            (r"((?:norm[12]|out_norm))\.weight$", r"\1.alpha"),
            (r"^conditioners\.", "condition_provider.conditioners.")]
MIMI_NAMES = [(r"^quantizer\.semantic_residual_vector_quantizer\.layers", "quantizer.rvq_first.vq.layers"),
              (r"^quantizer\.acoustic_residual_vector_quantizer\.layers", "quantizer.rvq_rest.vq.layers"),
              (r"^quantizer\.semantic_residual_vector_quantizer", "quantizer.rvq_first"),
              (r"^quantizer\.acoustic_residual_vector_quantizer", "quantizer.rvq_rest"),
              (r"\.codebook\.", "._codebook."), (r"\.initialized$", "._initialized"),
              (r"\.embed_sum$", ".embedding_sum"),
              (r"^downsample\.conv\.", "downsample.conv.conv.conv."),
              (r"^upsample\.conv\.", "upsample.convtr.convtr.convtr."),
              (r"^(encoder|decoder)\.layers\.", r"\1.model."), (r"(\.model\..*)conv\.", r"\1conv.conv."),
              (r"^((?:en|de)coder_transformer)\.", r"\1.transformer."), (r"\.mlp\.fc(\d)\.", r".linear\1."),
              (r"\.self_attn\.o_proj\.", ".self_attn.out_proj."), (r"\.input_layernorm\.", ".norm1."),
              (r"\.post_attention_layernorm\.", ".norm2."), (r"\.self_attn_layer_scale\.", ".layer_scale_1."),
              (r"\.mlp_layer_scale\.", ".layer_scale_2.")]


def renamed(key, rules):
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def official_lm(model):
    """Our tensors under the official keys, projections of all codebooks in one tensor, as the published files have."""
    state = dict(model.state_dict())
    for key in [key for key in state if key.endswith(("gate.weight", "to_q.weight"))]:
        second = key.replace("gate.", "value.").replace("to_q.", "to_kv.")
        name = re.sub(r"gate\.weight$", "linear_in.weight", key).replace("cross.to_q", "cross_attention.in_projs.0")
        state[name] = torch.cat([state.pop(key), state.pop(second)])
    made = {}
    for key, value in state.items():
        name = renamed(key, LM_NAMES)
        made[name] = value[None, None] if name.endswith(".alpha") else value
    for part, packed in (("in_projs", "in_proj_weight"), ("out_projs", "out_proj.weight")):
        for index in range(len(model.depth_blocks)):
            stem = f"depformer.layers.{index}.self_attn."
            keys = [f"{stem}{part}.{number}.weight" for number in range(max(model.depth_blocks[index].sets) + 1)]
            made[stem + packed] = torch.cat([made.pop(key) for key in keys])
    if model.config.two_texts and model.config.depth_rank:
        made["depformer_text_emb.low_rank.weight"] = torch.zeros(model.config.depth_width, model.config.depth_rank)
    return made


def pairs_first(weight, heads):
    """The order of rotary channels in Kyutai's code, for that of transformers."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def official_mimi(codec):
    """Mimi's tensors under Kyutai's own keys."""
    heads, state = codec.mimi_config.num_attention_heads, dict(codec.state_dict())
    for key in [key for key in state if key.endswith("q_proj.weight")]:
        parts = [state.pop(key.replace("q_proj", f"{name}_proj")) for name in "qkv"]
        parts = [pairs_first(parts[0], heads), pairs_first(parts[1], heads), parts[2]]
        state[key.replace("q_proj.weight", "in_proj_weight")] = torch.cat(parts)
    return {renamed(key, MIMI_NAMES): value.contiguous() for key, value in state.items()}


def tiny_mimi(seed=5):
    torch.manual_seed(seed)
    codec = Mimi(**MIMI)
    with torch.no_grad():
        for name, value in codec.named_parameters():
            value.copy_(torch.randn_like(value) if "layer_scale" in name else value + 0.1 * torch.randn_like(value))
    return codec.eval()


def tiny_lm(settings, seed=6):
    torch.manual_seed(seed)
    family = DelayedSpeech if settings["model_type"] == "tts" else DelayedStreams
    model = family(**model_config(settings))
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return model.eval()


def tiny_vocabulary():
    return load_sentencepiece(PIECES / "unigram.model")


def write_release(folder, settings, model=None, codec=None):
    """A published folder of tiny parts, and the parts."""
    model, codec = model or tiny_lm(settings), codec or tiny_mimi()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    save_file(official_lm(model), folder / settings.get("moshi_name", "model.safetensors"))
    save_file(official_mimi(codec), folder / settings["mimi_name"])
    shutil.copy(PIECES / "unigram.model", folder / settings["tokenizer_name"])
    return model, codec


def write_voice(path, dim=6, frames=7, seed=8, **facts):
    """A published voice."""
    values = torch.randn(1, dim, frames, generator=torch.Generator().manual_seed(seed))
    save_file({"speaker_wavs": values}, path, metadata={key: str(value) for key, value in facts.items()})
    return values
