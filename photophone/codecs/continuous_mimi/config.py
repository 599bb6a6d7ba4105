"""The ``mimi`` section of an official Pocket TTS config as arguments of our class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SEANET = {"width": "dimension", "filters": "n_filters", "ratios": "ratios", "residual_layers": "n_residual_layers",
          "kernel_size": "kernel_size", "residual_kernel_size": "residual_kernel_size",
          "last_kernel_size": "last_kernel_size", "dilation_base": "dilation_base", "compress": "compress"}
TRANSFORMER = {"num_heads": "num_heads", "depth": "num_layers", "hidden": "dim_feedforward", "window": "context",
               "layer_scale": "layer_scale", "rotary_base": "max_period"}


def codec_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of :class:`photophone.codecs.continuous_mimi.model.ContinuousMimi`.

    Args:
        settings: the ``mimi`` section.

    Raises:
        ValueError: for settings that no published model has and ours neither.
    """
    encoder = _part(settings["seanet"], settings["transformer"])
    decoder = _part(settings.get("decoder_seanet") or settings["seanet"],
                    settings.get("decoder_transformer") or settings["transformer"])
    latent, inner = settings["quantizer"]["dimension"], settings.get("inner_dim") or encoder["width"]
    outer = settings.get("outer_dim") or decoder["width"]
    if inner != latent:
        raise ValueError(f"inner_dim {inner}: the encoder makes other latents than the decoder reads ({latent}); "
                         "such an encoder, that of english_2026-01, is not built here")
    if outer != settings["quantizer"]["output_dimension"] or outer != decoder["width"]:
        raise ValueError(f"outer_dim {outer} must be the width {decoder['width']} of the decoder and the quantizer's "
                         f"output_dimension {settings['quantizer']['output_dimension']}")
    stride = settings["sample_rate"] / settings["frame_rate"] / math.prod(encoder["ratios"])
    if stride != int(stride) or math.prod(encoder["ratios"]) != math.prod(decoder["ratios"]):
        raise ValueError(f"frame_rate {settings['frame_rate']} does not divide {settings['sample_rate']} Hz over the "
                         f"ratios {encoder['ratios']} of the encoder and {decoder['ratios']} of the decoder")
    return {"sample_rate": settings["sample_rate"], "latent_dim": latent, "latent_stride": int(stride),
            "encoder": encoder, "decoder": decoder}


def _part(seanet: Mapping[str, Any], transformer: Mapping[str, Any]) -> dict[str, Any]:
    width = seanet["dimension"]
    if seanet.get("pad_mode", "constant") != "constant" or seanet.get("channels", 1) != 1:
        raise ValueError("seanet: only mono audio with zeros in front of the convolutions is built here")
    if {transformer["d_model"], transformer["input_dimension"], *transformer["output_dimensions"]} != {width}:
        raise ValueError(f"transformer: d_model, input and output dimensions must be the width {width} of seanet")
    return {ours: given[theirs] for names, given in ((SEANET, seanet), (TRANSFORMER, transformer))
            for ours, theirs in names.items() if theirs in given}
