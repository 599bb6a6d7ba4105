"""Official keys of a delayed-streams model to ours."""

from __future__ import annotations

import re

from photophone.loading.checkpoints import State, rename_keys

RULES = [(r"^depformer\.layers\.", "depth_blocks."), (r"^transformer\.layers\.", "blocks."),
         (r"^out_norm\.", "norm."), (r"\.alpha$", ".weight"), (r"^condition_provider\.conditioners\.", "conditioners."),
         (r"^(blocks\.\d+)\.self_attn\.in_projs\.0\.", r"\1.attention.to_qkv."),
         (r"^(blocks\.\d+)\.self_attn\.out_projs\.0\.", r"\1.attention.to_out."),
         (r"^(blocks\.\d+)\.cross_attention\.out_projs\.0\.", r"\1.cross.to_out."),
         (r"^(depth_blocks\.\d+)\.self_attn\.", r"\1."), (r"^(blocks\.\d+)\.gating\.", r"\1.feed_forward."),
         (r"^(depth_blocks\.\d+)\.gating\.(\d+)\.", r"\1.feed_forwards.\2."),
         (r"^(depth_blocks\.\d+)\.gating\.", r"\1.feed_forwards.0."), (r"\.linear_out\.", ".out.")]
PACKED = re.compile(r"\.(in|out)_proj(_|\.)weight$")


def unpack(state: State) -> State:
    """Older files hold the projections of all codebooks in one tensor; they are taken apart."""
    made: State = {}
    for key, value in state.items():
        match = PACKED.search(key)
        if match is None or ".self_attn." not in key and ".cross_attention." not in key:
            made[key] = value
            continue
        rows = value.shape[1] * (3 if match[1] == "in" else 1)
        for index, part in enumerate(value.split(rows)):
            made[f"{key[:match.start()]}.{match[1]}_projs.{index}.weight"] = part
    return made


def convert(state: State) -> State:
    """See :meth:`photophone.loading.checkpoints.OriginalCheckpoint.convert_state_dict`."""
    split: State = {}
    for key, value in unpack(state).items():
        if key.endswith(".low_rank.weight") and key.replace("low_rank", "out1") in state:
            continue  # an embedding of two texts has such a layer and never uses it
        if key.endswith(".alpha"):
            split[key] = value.flatten()
        elif key.endswith(".linear_in.weight"):
            for name, half in zip(("gate", "value"), value.chunk(2)):
                split[key.replace("linear_in", name)] = half
        elif key.endswith(".cross_attention.in_projs.0.weight"):
            place, width = key.replace("cross_attention.in_projs.0", "cross.{}"), value.shape[1]
            split[place.format("to_q")], split[place.format("to_kv")] = value[:width], value[width:]
        else:
            split[key] = value
    return rename_keys(split, RULES)
