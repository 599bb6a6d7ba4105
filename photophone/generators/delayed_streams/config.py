"""An official ``config.json`` of a delayed-streams model as arguments of our class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLAIN = {"layer_scale": None, "gating": "silu", "norm": "rms_norm_f32", "positional_embedding": "rope",
         "norm_emb": False, "bias_proj": False, "depformer_pos_emb": "none", "depformer_norm": None, "causal": True,
         "depformer_layer_scale": None, "depformer_gating": "silu"}
"""Settings of which all published models have one value, ours too; a missing one counts as it."""
FRAME_RATE = 12.5
"""Frames of Mimi a second."""


def gated_width(width: int, hidden: int) -> int:
    """The width between the layers of an official gated feed-forward."""
    return 21 * width // 8 if hidden == 4 * width else 2 * hidden // 3


def model_config(official: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of :class:`photophone.generators.delayed_streams.model.DelayedStreams`.

    Args:
        official: keyword arguments of the official model; what else a ``config.json`` holds is not read.

    Raises:
        ValueError: for settings that no published model has and ours neither.
    """
    for name, value in PLAIN.items():
        if official.get(name, value) != value:
            raise ValueError(f"{name}={official[name]!r}: only {value!r} is built here")
    width, books, spoken = official["dim"], official["n_q"], official["dep_q"]
    ratio, depth_width = official["hidden_scale"], official["depformer_dim"]
    hidden = official.get("depformer_dim_feedforward")
    hidden = int(ratio * depth_width) if hidden is None else hidden
    if not isinstance(hidden, int):
        raise ValueError("depformer_dim_feedforward: one width for all codebooks is built here")
    sets = official.get("depformer_weights_per_step_schedule") or list(range(spoken))
    per_step, per_input = official.get("depformer_weights_per_step"), official.get("depformer_multi_linear")
    fuser = official.get("fuser") or {}
    repeat = official.get("kv_repeat", 1)
    return {"card": official["card"], "text_card": official["text_card"], "text_out": official.get("text_card_out"),
            "books": books, "spoken_books": spoken, "delays": official["delays"], "width": width,
            "depth": official["num_layers"], "num_heads": official["num_heads"],
            "num_kv_heads": official["num_heads"] // repeat if repeat > 1 else None,
            "hidden": gated_width(width, int(ratio * width)), "window": official.get("context"),
            "rotary_base": float(official.get("max_period", 10_000)),
            "two_texts": official.get("demux_second_stream", official.get("demux_second_text_stream", False)),
            "depth_width": depth_width, "depth_layers": official["depformer_num_layers"],
            "depth_heads": official["depformer_num_heads"], "depth_hidden": gated_width(depth_width, hidden),
            "depth_rank": official.get("depformer_low_rank_embeddings"),
            "depth_sets": sets if per_step else [0] * spoken, "input_sets": sets if per_input else [0] * spoken,
            "cross_attention": official.get("cross_attention", False),
            "conditioners": {name: _conditioner(given) for name, given in (official.get("conditioners") or {}).items()},
            "sums": list(fuser.get("sum", [])), "crosses": list(fuser.get("cross", [])),
            "cross_positions": float(fuser.get("cross_attention_pos_emb_scale", 1.0))
            if fuser.get("cross_attention_pos_emb") else 0.0,
            "extra_heads": official.get("extra_heads_num_heads") or None,
            "extra_dim": official.get("extra_heads_dim", 6), **_roles(official)}


def _roles(official: Mapping[str, Any]) -> dict[str, Any]:
    """How text and speech follow each other, and the name of the weights."""
    speaks, writes = official.get("tts_config") or {}, official.get("stt_config") or {}
    if speaks.get("multistream"):
        raise ValueError("tts_config: multistream, two speakers in codebooks of their own, is not built here")
    name = official.get("model_id") or {}
    return {"speech_delay": int(speaks.get("audio_delay", 0) * FRAME_RATE) or None,
            "words_ahead": speaks.get("second_stream_ahead") or None,
            "text_delay": float(writes.get("audio_delay_seconds", 0)),
            "silent_start": float(writes.get("audio_silence_prefix_seconds", 0)),
            "signature": f"{name['sig']}@{name['epoch']}" if isinstance(name, dict) and {"sig", "epoch"} <= set(name)
            else None}


def _conditioner(given: Mapping[str, Any]) -> dict[str, Any]:
    kind = given["type"]
    if kind == "tensor":
        return {"dim": given["tensor"]["dim"]}
    if kind != "lut" or given["lut"].get("tokenizer") != "noop" or not given["lut"].get("possible_values"):
        raise ValueError(f"a conditioner of type {kind!r} without a list of words is not built here")
    return {"dim": given["lut"]["dim"], "words": list(given["lut"]["possible_values"]),
            "num_words": given["lut"]["n_bins"]}
