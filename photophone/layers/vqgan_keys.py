"""Official names of VQGAN weights to those of :mod:`photophone.layers.vqgan`.

Three layouts are in use and none contradicts another, so one table serves all: latent diffusion's ("down.0.block.1",
"up.4" runs first, "mid.attn_1"), MaskGIT-VQGAN's ("mid.0", "upsample_conv") and LlamaGen's ("conv_blocks.0.res.1").
"""

from __future__ import annotations

import re

import torch

from photophone.loading.checkpoints import State, rename_keys

UP = re.compile(r"^(.*?)\bup\.(\d+)\.")


def convert_vqgan_keys(state: State) -> State:
    """Rename the keys of encoders and decoders, under any prefix, and join q, k and v into qkv; the rest stays."""
    highest: dict[str, int] = {}
    for match in filter(None, map(UP.match, state)):
        highest[match[1]] = max(int(match[2]), highest.get(match[1], 0))
    return join_qkv(rename_keys(state, [
        (UP.pattern, lambda match: f"{match[1]}levels.{highest[match[1]] - int(match[2])}."),  # ours run in order
        (r"\b(down|conv_blocks)\.(?=\d)", "levels."),
        (r"(\blevels\.\d+\.)(block|res)\.", r"\1blocks."),
        (r"(\blevels\.\d+\.)attn\.", r"\1attentions."),
        (r"(\blevels\.\d+\.)(downsample|upsample)[._]conv\.", r"\1resample."),
        (r"\bmid\.block_1\.", "mid.0."), (r"\bmid\.attn_1\.", "mid.1."), (r"\bmid\.block_2\.", "mid.2."),
        (r"\bnin_shortcut\.", "shortcut."),
    ]))


def join_qkv(state: State) -> State:
    """Separate 1x1 convolutions ``q``, ``k`` and ``v`` of one module as its ``qkv``, stacked along the outputs."""
    joined: State = {}
    for key, value in state.items():
        match = re.fullmatch(r"(.*\.)([qkv])\.(weight|bias)", key)
        parts = [f"{match[1]}{letter}.{match[3]}" for letter in "qkv"] if match else []
        if not parts or not all(part in state for part in parts):
            joined[key] = value
        elif match[2] == "q":
            joined[f"{match[1]}qkv.{match[3]}"] = torch.cat([state[part] for part in parts])
    return joined
