"""Vocos: mel frames, backbone and synthesis."""

from __future__ import annotations

import torch
from golden import Golden, System

from photophone.codecs.vocos.model import Vocos

system = System("vocos")


def config_of(settings: dict) -> dict:
    """Our arguments of the official settings."""
    mel, backbone, head = (settings[name] for name in ("feature_extractor", "backbone", "head"))
    return {"sample_rate": mel["sample_rate"], "n_fft": mel["n_fft"], "hop_length": mel["hop_length"],
            "num_mels": mel["n_mels"], "padding": mel["padding"], "width": backbone["dim"],
            "hidden": backbone["intermediate_dim"], "depth": backbone["num_layers"],
            "num_conditions": backbone.get("adanorm_num_embeddings"), "synthesis_n_fft": head["n_fft"]}


@system.part("mid_mel", "mid_backbone", "out_wav*")
def vocoder(golden: Golden):
    model = golden.load(Vocos, **config_of(golden.settings))
    condition = golden.config.get("bandwidth_id")
    mels = model.mel(golden["in_wav"])
    told = None if condition is None else torch.tensor([condition])
    made = {"mid_mel": mels, "mid_backbone": model.backbone(mels, told)}
    for name, given in (("out_wav", mels), ("out_wav_mel", golden["in_mel"])):
        made[name] = model.synthesize(given.transpose(1, 2), condition=condition)[:, 0]
    return made
