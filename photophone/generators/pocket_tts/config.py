"""An official Pocket TTS config as arguments of our class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def generator_config(official: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of :class:`photophone.generators.pocket_tts.model.PocketTTS` from a whole official config.

    Raises:
        ValueError: for settings that no published model has and ours neither.
    """
    settings, codec = official["flow_lm"], official["mimi"]
    stack, table, flow = settings["transformer"], settings["lookup_table"], settings["flow"]
    width = stack["d_model"]
    if table["dim"] != width:
        raise ValueError(f"lookup_table: dim {table['dim']} must be the width {width} of the transformer")
    token_dim = codec["quantizer"]["dimension"]
    voice_dim = codec.get("inner_dim") or codec["seanet"]["dimension"]
    head_dim = (stack.get("attn_dim") or width) // stack["num_heads"]
    return {"vocab_size": table["n_bins"], "width": width, "depth": stack["num_layers"],
            "num_heads": stack["num_heads"],
            "hidden": stack.get("dim_feedforward") or int(width * stack["hidden_scale"]),
            "num_kv_heads": stack.get("num_kv_heads"), "head_dim": head_dim, "text_rank": table.get("rank"),
            "state_dim": settings.get("z_dim"), "token_dim": token_dim,
            "voice_dim": None if voice_dim == token_dim else voice_dim,
            "voice_start": settings.get("insert_bos_before_voice", False), "rotary_base": float(stack["max_period"]),
            "head": {"width": flow["dim"], "depth": flow["depth"], "kind": flow.get("type", "lsd")}}
