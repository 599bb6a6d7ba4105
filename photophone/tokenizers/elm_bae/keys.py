"""Keys of ELM's autoencoder, whose layers lie in two flat lists, "encoder.blocks.N" and "generator.blocks.N"."""

from __future__ import annotations

import re

from photophone.layers.vqgan_keys import join_qkv
from photophone.loading.checkpoints import State

WRAPPER = "ae"
"""Beginning of the autoencoder's keys in files that hold its discriminator too."""
UNUSED = "generator.logsigma."
"""A head of the decoder that nothing reads."""
FLAT = re.compile(r"^(encoder|generator)\.blocks\.(\d+)\.(.*)$")
PARTS = {"encoder": "encoder", "generator": "decoder"}
KINDS = {"conv1.weight": "block", "q.weight": "attention", "conv.weight": "resample"}
"""Names that tell what a layer of a list is; convolutions and norms have a weight alone."""
MID = ("mid.0.", "mid.1.", "mid.2.")


def layer_kinds(state: State, part: str) -> list[str]:
    """What the layers of a list are, in their order: "conv", "norm", "block", "attention" or "resample"."""
    found: dict[int, str] = {}
    for key, value in state.items():
        match = FLAT.match(key)
        if match and match[1] == part:
            plain = {"weight": "norm" if value.ndim == 1 else "conv"}
            kind = {**KINDS, **plain}.get(match[3])
            if kind:
                found[int(match[2])] = kind
    return [found[number] for number in sorted(found)]


def level_names(kinds: list[str]) -> list[str]:
    """Our names of the layers of all levels."""
    names, level, block = [], 0, -1
    for kind in kinds:
        block += kind == "block"
        names.append({"block": f"levels.{level}.blocks.{block}.", "attention": f"levels.{level}.attentions.{block}.",
                      "resample": f"levels.{level}."}[kind])
        if kind == "resample":
            level, block = level + 1, -1
    return names


def layer_names(state: State, part: str) -> list[str]:
    """Our names of the layers of a list. The coarsest blocks end the encoder and begin the decoder."""
    kinds, inner = layer_kinds(state, part), f"{PARTS[part]}."
    ends = ["norm_out.", "conv_out."]
    if part == "encoder":
        names = ["conv_in.", *level_names(kinds[1:-5]), *MID, *ends]
        return [inner + name for name in names]
    first = ["from_latent."] if kinds[0] == "norm" else []
    start = len(first) + 1
    return first + [inner + name for name in ["conv_in.", *MID, *level_names(kinds[start + 3:-2]), *ends]]


def convert_flat_keys(state: State) -> State:
    """Official keys to ours. Left out are the other networks of a file of the training, the head that nothing reads,
    and shortcuts of blocks that change no width, which nothing reads either."""
    if any(key.startswith(WRAPPER) for key in state):
        state = {key.partition(".")[2]: value for key, value in state.items() if key.startswith(WRAPPER)}
    names = {part: layer_names(state, part) for part in PARTS}
    made: State = {}
    for key, value in state.items():
        match = FLAT.match(key)
        if match:
            rest = match[3].replace("conv_out.", "shortcut.")
            rest = "resample." + rest.removeprefix("conv.") if rest.startswith("conv.") else rest
            if rest.startswith("shortcut.") and same_width(state, f"{match[1]}.blocks.{match[2]}.conv1.weight"):
                continue
            made[names[match[1]][int(match[2])] + rest] = value
        elif not key.startswith(UNUSED):
            made[key] = value
    if "quantize.embed.weight" in made:
        made["bottleneck.project_in.weight"] = made.pop("quantize.proj.0.weight").flatten(1)
        made["bottleneck.project_in.bias"] = made.pop("quantize.proj.0.bias")
        made["bottleneck.project_out.weight"] = made.pop("quantize.embed.weight").T.contiguous()
    return join_qkv(made)


def same_width(state: State, convolution: str) -> bool:
    """Whether a block's first convolution keeps the number of channels."""
    outputs, inputs = state[convolution].shape[:2]
    return outputs == inputs
