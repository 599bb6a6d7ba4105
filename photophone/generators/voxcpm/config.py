"""The ``config.json`` of a published VoxCPM as arguments of our classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from photophone.layers.rotary import longrope_scale

TIMES = {"log-norm": "logit_normal", "uniform": "uniform"}
STACK = {"width": "hidden_dim", "hidden": "ffn_dim", "num_heads": "num_heads", "depth": "num_layers",
         "head_dim": "kv_channels"}


def generator_config(settings: Mapping[str, Any], second: bool | None = None) -> dict[str, Any]:
    """Arguments of :class:`photophone.generators.voxcpm.model.VoxCPM` from a whole ``config.json``.

    Args:
        settings: the official settings.
        second: whether the model is VoxCPM 2; None: as its ``architecture`` says.

    Raises:
        ValueError: for settings of no published model.
    """
    second = settings.get("architecture") == "voxcpm2" if second is None else second
    lm, flow = settings["lm_config"], settings["dit_config"].get("cfm_config", {})
    if settings.get("dit_mean_mode") or settings["dit_config"].get("dit_mean_mode"):
        raise ValueError("dit_mean_mode: no published VoxCPM predicts mean velocities, and ours neither")
    scaling = lm["rope_scaling"]
    longest, trained = lm["max_position_embeddings"], scaling["original_max_position_embeddings"]
    defaults = {"patch_size": 4, "residual_depth": 8, "code_dim": 512, "max_length": 8192} if second else \
        {"patch_size": 2, "residual_depth": 6, "code_dim": 256, "max_length": 4096}
    names = {"patch_size": "patch_size", "token_dim": "feat_dim", "residual_depth": "residual_lm_num_layers",
             "code_dim": "scalar_quantization_latent_dim", "code_scale": "scalar_quantization_scale",
             "max_length": "max_length"}
    mup = lm.get("use_mup", True)
    return defaults | {ours: settings[theirs] for ours, theirs in names.items() if theirs in settings} | {
        "vocab_size": lm["vocab_size"], "width": lm["hidden_size"], "depth": lm["num_hidden_layers"],
        "num_heads": lm["num_attention_heads"], "hidden": lm["intermediate_size"],
        "num_kv_heads": lm["num_key_value_heads"], "head_dim": lm.get("kv_channels"), "eps": lm["rms_norm_eps"],
        "rotary_base": lm["rope_theta"], "rotary_scale": longrope_scale(longest, trained),
        "rotary_factors": list(scaling["long_factor" if longest > trained else "short_factor"]),
        "embedding_scale": lm["scale_emb"] if mup else 1.0, "depth_scale": lm["scale_depth"] if mup else None,
        "residual_rotary": not (second and settings.get("residual_lm_no_rope")),
        "local_encoder": _stack(settings["encoder_config"]), "local_dit": _stack(settings["dit_config"]),
        "concatenate": second, "context_patches": 3 if second else 2,
        "condition_drop": flow.get("training_cfg_rate", 0.1),
        "time_distribution": TIMES[flow.get("t_scheduler", "log-norm")]}


def _stack(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {ours: settings[theirs] for ours, theirs in STACK.items() if settings.get(theirs) is not None}
