"""Mixture-of-Mamba: the block with all ways of sharing projections."""

from __future__ import annotations

import torch
from golden import Golden, System
from torch import Tensor

from photophone.layers.mixture_of_mamba import MixtureOfMamba

system = System("mixture_of_mamba")


def load(golden: Golden, name: str) -> MixtureOfMamba:
    given = dict(golden.settings) | (golden.config["bias_rank"] if name == "bias_rank" else {})
    rank = given["dt_rank"]
    model = MixtureOfMamba(given["d_model"], given["d_state"], given["d_conv"], given["expand"],
                           None if rank == "auto" else rank, given["n_modalities"], golden.config["variants"][name],
                           bias=given["bias"], conv_bias=given["conv_bias"])
    model.load_state_dict(model.convert_state_dict(golden.state(name)))
    return model


def masks_of(modality: Tensor, count: int) -> list[Tensor]:
    return [modality.flatten() == index for index in range(count)]


@system.part("mid_*", "out_*")
def blocks(golden: Golden):
    made, x, count = {}, golden["in_x"], golden.settings["n_modalities"]
    masks = masks_of(golden["in_modality"], count)
    for name in golden.config["variants"]:
        model = load(golden, name)
        inner = model.project(model.in_proj, x, masks).chunk(2, dim=-1)[0]
        for part, value in zip(("conv", "dt", "B", "C"), model.scanned(inner, masks), strict=True):
            made[f"mid_{name}_{part}"] = value
        made[f"out_{name}"] = model(x, masks)
    model = load(golden, "full")
    return made | {"out_full_overlap": model(x, [mask.bool() for mask in golden["in_masks_overlap"]]),
                   "out_full_single": model(x, masks_of(torch.zeros_like(golden["in_modality"]), count))}
