"""An official ``config.json`` of TASTE as arguments of our classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BUILT = {"in_llm_module": "weighted_sum", "out_llm_module": "continue_latent_linear_last",
         "audio_embed_conv_mode": "fill_forward"}
"""Of the spoken language model: the only published values, and the only ones that are built here."""
MOST_POSITIONS = 8192
"""Of a sequence, where the official config allows more."""


def tower_config(official: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of :class:`photophone.generators.taste.tower.TasteTower`.

    Its aligner has two layers, whatever the recogniser has that the config names.

    Args:
        official: the whole config.
    """
    whisper, tower = official["asr_config"], official["audio_tower_config"]
    quantizer = tower["kwargs_for_quantizer"]
    return {"vocab_size": whisper["vocab_size"], "num_mels": whisper["num_mel_bins"],
            "max_frames": whisper["max_source_positions"], "max_text": whisper["max_target_positions"],
            "width": whisper["d_model"], "depth": whisper["encoder_layers"],
            "num_heads": whisper["encoder_attention_heads"], "hidden": whisper["encoder_ffn_dim"],
            "decoder_hidden": whisper["decoder_ffn_dim"], "value_layer": tower["encoder__target_hidden_layer"],
            "code_dim": quantizer["codebook_dim"], "codebook_size": quantizer["codebook_size"],
            "num_levels": quantizer["num_quantizers"], "decay": quantizer.get("decay", 0.99)}


def spoken_lm_config(official: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of :class:`photophone.generators.taste.spoken_lm.TasteSpokenLM`.

    Args:
        official: the whole config.

    Raises:
        ValueError: for ways of joining text and speech that no published model has and ours neither.
    """
    text, spoken = official["text_config"], official["spoken_lm_config"]
    quantizer = official["audio_tower_config"]["kwargs_for_quantizer"]
    for name, value in BUILT.items():
        if spoken.get(name, value) != value:
            raise ValueError(f"{name}={spoken[name]!r}: only {value!r} is built here")
    scaling = text.get("rope_scaling")
    named = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    return {"vocab_size": text["vocab_size"], "width": text["hidden_size"], "depth": text["num_hidden_layers"],
            "num_heads": text["num_attention_heads"], "num_kv_heads": text["num_key_value_heads"],
            "hidden": text["intermediate_size"], "eps": text["rms_norm_eps"], "rotary_base": text["rope_theta"],
            "rotary_scaling": None if scaling is None else {name: scaling[name] for name in named},
            "start": spoken["sos_id"], "end": text["eos_token_id"], "unit_dim": quantizer["dim"],
            "code_dim": quantizer["codebook_dim"], "codebook_size": quantizer["codebook_size"],
            "num_levels": quantizer["num_quantizers"], "delay": spoken["delay"],
            "by_word": spoken["delay_level"] == "word",
            "max_length": min(MOST_POSITIONS, text["max_position_embeddings"])}
