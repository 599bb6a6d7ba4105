"""Official settings and keys as ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from photophone.loading.checkpoints import State, rename_keys

NAMES = {"hop": "stft_hop", "base_channels": "channels", "multipliers_list": "multipliers", "layers_list": "layers",
         "attention_list": "attention", "freq_downsample_list": "frequency_only",
         "layers_list_encoder": "encoder_layers", "attention_list_encoder": "encoder_attention",
         "bottleneck_base_channels": "hidden_dim", "num_bottleneck_layers": "hidden_layers",
         "bottleneck_channels": "latent_dim", "heads": "heads", "cond_channels": "condition_dim",
         "alpha_rescale": "exponent", "beta_rescale": "scale", "sigma_min": "sigma_min", "sigma_max": "sigma_max",
         "sigma_data": "sigma_data", "rho": "rho", "sigma_rescale": "latent_scale", "sample_rate": "sample_rate"}
FLAGS = ("attention", "frequency_only", "encoder_attention")
"""Lists of 0 and 1 in official settings, where 1 of ``freq_downsample_list`` leaves the frames alone."""
FIXED = {"use_fourier": False, "normalization": True, "frequency_scaling": True, "pre_normalize_2d_to_1d": True,
         "pre_normalize_downsampling_encoder": True, "data_channels": 2}
"""Settings that the published model has, and ours in no other way."""

MODULES = (
    (r"^(?!encoder\.|decoder\.)", "unet."),
    (r"^unet\.emb_proj\.", "unet.condition."), (r"^unet\.scale_inp\.", "unet.gain_in."),
    (r"^unet\.scale_out\.", "unet.gain_out."), (r"^unet\.conv_decoded\.", "unet.join_out."),
    (r"^encoder\.gain\.scale$", "encoder.gain"), (r"^encoder\.prenorm_1d_to_2d\.", "encoder.norm_features."),
    (r"^encoder\.bottleneck_layers\.0\.", "encoder.proj_in."),
    (r"^encoder\.bottleneck_layers\.(\d+)\.", lambda match: f"encoder.blocks.{int(match[1]) - 1}."),
    (r"^decoder\.bottleneck_layers\.", "decoder.blocks."), (r"^decoder\.conv_out_bottleneck\.", "decoder.proj_out."),
    (r"\.conv_inp\.", ".conv_in."), (r"\.proj_emb\.", ".condition_in."), (r"\.res_conv\.", ".shortcut."),
    (r"\.att\.norm\.", ".attention.norm."), (r"\.att\.mha\.in_proj_", ".attention.mix.to_qkv."),
    (r"\.att\.mha\.out_proj\.", ".attention.mix.to_out."))


def codec_config(official: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of :class:`photophone.codecs.music2latent.model.Music2Latent` for the names of official hparams; those
    of training are left out.

    Raises:
        ValueError: for settings that no published model has.
    """
    other = {name: official[name] for name, value in FIXED.items() if official.get(name, value) != value}
    if other:
        raise ValueError(f"no published Music2Latent has {other}, and ours cannot")
    config = {ours: official[theirs] for theirs, ours in NAMES.items() if theirs in official}
    return config | {name: [bool(value) for value in config[name]] for name in FLAGS if name in config}


def stage_rules(keys: Iterable[str], prefix: str, stages: str, joined: bool) -> list[tuple[str, Any]]:
    """Rules that turn a flat official list of layers into our stages.

    Args:
        keys: of the checkpoint.
        prefix: of the list; its layers that change the resolution hold a convolution "c".
        stages: its new prefix.
        joined: whether each block has a convolution of its own in front.
    """
    steps = sorted(int(match[1]) for key in keys if (match := re.fullmatch(prefix + r"(\d+)\.c\.weight", key)))

    def renamed(match: re.Match) -> str:
        index = int(match[1])
        stage = sum(step < index for step in steps)
        if index in steps:
            return f"{stages}{stage}.resample."
        place = index - (steps[stage - 1] + 1 if stage else 0)
        kind = "joins" if joined and place % 2 == 0 else "blocks"
        return f"{stages}{stage}.{kind}.{place // 2 if joined else place}."

    return [(rf"^{prefix}(\d+)\.", renamed), (rf"^({re.escape(stages)}\d+\.resample)\.c\.", r"\1.conv.")]


def codec_state(state: State) -> State:
    """Official keys to ours."""
    rules = [*stage_rules(state, r"encoder\.down_layers\.", "encoder.stages.", False),
             *stage_rules(state, r"decoder\.up_layers\.", "decoder.stages.", False),
             *stage_rules(state, r"down_layers\.", "down.", True), *stage_rules(state, r"up_layers\.", "up.", True)]
    return rename_keys(state, [*rules, *MODULES])
