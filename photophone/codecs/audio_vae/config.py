"""The ``audio_vae_config`` of a published VoxCPM as arguments of our class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CODEC = {"sample_rate": "sample_rate", "output_sample_rate": "out_sample_rate", "latent_dim": "latent_dim",
         "encoder_channels": "encoder_dim", "encoder_strides": "encoder_rates", "decoder_channels": "decoder_dim",
         "decoder_strides": "decoder_rates", "depthwise": "depthwise", "rate_boundaries": "sr_bin_boundaries",
         "rate_condition": "cond_type", "rate_dim": "cond_dim", "rate_mix": "cond_out_layer"}
CODEC_2 = {"output_sample_rate": 48000, "decoder_channels": 2048, "decoder_strides": [8, 6, 5, 2, 2, 2],
           "rate_boundaries": [20000, 30000, 40000]}
"""What the official classes take where a config of version 2 is silent."""


def codec_config(settings: Mapping[str, Any], second: bool) -> dict[str, Any]:
    """Arguments of :class:`photophone.codecs.audio_vae.model.AudioVAE` from ``audio_vae_config``.

    Args:
        settings: the official settings.
        second: whether the model is VoxCPM 2.

    Raises:
        ValueError: for settings of no published model.
    """
    if settings.get("use_noise_block"):
        raise ValueError("use_noise_block: no published AudioVAE has noise blocks, and ours neither")
    config = {"delay_odd": not second, **(CODEC_2 if second else {})}
    config |= {ours: settings[theirs] for ours, theirs in CODEC.items() if theirs in settings}
    if config.get("rate_condition") == "scale_bias_init":  # differs in its first weights only
        config["rate_condition"] = "scale_bias"
    return config
