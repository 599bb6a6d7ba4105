"""Official names of HART's weights and settings, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEYS = [
    (r"^context_embed\.", "context_in."), (r"^word_embed\.", "token_in."),
    (r"^lvl_embed\.(?=mlp)", "level_embedding."), (r"^lvl_embed\.", "level_embedding."),
    (r"^pos_start$", "start_positions"), (r"^pos_1LC$", "positions"),
    (r"^head_nm\.ln_wo_grad\.", "head_norm."), (r"^head_nm\.ada_lin\.", "head_modulation."),
    (r"^head\.", "token_head.linear."), (r"^decoder_norm\.", "rest_norm."), (r"^diffloss\.", "diffusion_head."),
    (r"\.attn\.(qkv_proj|mat_qkv)\.", ".attention.to_qkv."), (r"\.attn\.([qv]_bias)$", r".attention.\1"),
    (r"\.attn\.scale_mul_1H11$", ".attention.log_scale"), (r"\.attn\.proj\.", ".attention.to_out."),
    (r"\.ffn\.gate_proj\.", ".feed_forward.gate."), (r"\.ffn\.up_proj\.", ".feed_forward.value."),
    (r"\.ffn\.down_proj\.", ".feed_forward.out."), (r"\.ffn\.fc1\.", ".feed_forward.0."),
    (r"\.ffn\.fc2\.", ".feed_forward.2."), (r"\.ln_wo_grad\.", ".norm."), (r"\.ada_lin\.", ".modulation."),
    (r"\.scale_shift_table$", ".offset"),
]
"""Patterns of official keys and what stands for them here."""
NAMES = {"scales": "patch_nums", "context_length": "context_token", "context_dim": "context_dim", "width": "embed_dim",
         "depth": "depth", "num_heads": "num_heads", "mlp_ratio": "mlp_ratio", "eps": "norm_eps",
         "cosine": "attn_l2_norm", "level_waves": "use_timestep_embed", "context_norm": "use_context_norm",
         "pooling": "sep_aln_pooling_mode", "head_width": "diff_width", "head_depth": "diff_depth",
         "respacing": "num_sampling_steps", "diffusion_batch_mul": "diffusion_batch_mul"}
"""Our settings and the official names of those that mean the same."""
OFFICIAL_DEFAULTS = {"mlp_type": "gpt2", "attn_type": "gpt2", "use_timestep_embed": False, "disable_aln": False,
                     "shared_aln": False, "use_context_norm": False, "attn_l2_norm": False}


def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of :class:`photophone.generators.hart.model.HART` from the official ``config.json``.

    Raises:
        ValueError: settings that no weights can have been made with: cross-attention is not in the official code.
    """
    given = {**OFFICIAL_DEFAULTS, **official}
    if given.get("use_cross_attn"):
        raise ValueError("use_cross_attn=true names a layer that the official code does not have")
    modulation = "blocks" if not given["disable_aln"] else "table" if given["shared_aln"] else "none"
    return {**{ours: given[theirs] for ours, theirs in NAMES.items() if theirs in given},
            "gated": given["mlp_type"] == "llama", "rotary": given["attn_type"] == "llama", "modulation": modulation,
            "condition_drop": min(max(float(given.get("cond_drop_rate", 0.1)), 0.0), 1.0)}
