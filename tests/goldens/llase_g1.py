"""LLaSE-G1: the network for one and two recordings, and the layers of WavLM in front of it."""

from __future__ import annotations

import torch
from golden import Golden, System
from torch import Tensor

from photophone.core.noise import GlobalNoise
from photophone.core.tokens import Tokens
from photophone.generators.llase_g1.model import LLaSEG1, LLaSESampler, RecordingFeatures
from photophone.generators.llase_g1.wavlm import WavLM, official_config

system = System("llase_g1")
INPUTS = {"y_only": None, "x_short": "in_x_short", "x_long": "in_x_long", "x_same": None, "x_2d": "in_x_2d"}


def load_network(golden: Golden) -> LLaSEG1:
    settings = golden.config["modules"]["llm_ar"]
    sizes = settings["args"]
    return golden.load(LLaSEG1, settings["weights"].removesuffix(".safetensors"), width=sizes["d_model"],
                       depth=sizes["num_layers"], num_heads=sizes["nhead"], num_codes=settings["NUM_AUDIO_TOKENS"],
                       feature_dim=golden["in_y"].shape[-1])


def second_input(golden: Golden, name: str) -> Tensor | None:
    """The official network repeats a 2-D input over the features."""
    if name == "x_same":
        return golden["in_y"].flip(1)
    other = None if INPUTS[name] is None else golden[INPUTS[name]]
    return other[..., None].expand_as(golden["in_y"]) if other is not None and other.ndim == 2 else other


@system.part("mid_before_final_norm__*", "mid_last_hidden__*", "out_logits_*", "out_tokens_*", "out_ce_*")
def network(golden: Golden):
    model, features, made = load_network(golden), golden["in_y"], {}
    before: list[Tensor] = []
    model.transformer.norm.register_forward_pre_hook(lambda _, inputs: before.append(inputs[0]))
    for name in INPUTS:
        hidden = model.hidden(features, second_input(golden, name))
        made |= {f"mid_before_final_norm__{name}": before[-1], f"mid_last_hidden__{name}": hidden,
                 f"out_logits_y__{name}": model.main_head.logits(hidden).transpose(1, 2),
                 f"out_logits_x__{name}": model.other_head.logits(hidden).transpose(1, 2)}
    target, absent = golden["in_target"], torch.full_like(golden["in_target"], -1)
    for channel, outputs in {"y": [target, absent], "x": [absent, target]}.items():
        loss = model.loss(Tokens(torch.stack(outputs, dim=1)), RecordingFeatures(features)).loss
        made[f"out_ce_head_{channel}"] = loss.reshape(golden[f"out_ce_head_{channel}"].shape)
    for name, other, output in (("se", None, "other"), ("tse", golden["in_x_short"], "main")):
        tokens = model.generate(RecordingFeatures(features, other), noise=GlobalNoise(),
                                sampler=LLaSESampler(output=output))
        made[f"out_tokens_{name}"] = tokens.values
    return made


@system.part("*_wavlm_*")
def wavlm(golden: Golden):
    settings = golden.config["modules"]["wavlm"]
    config, stem = official_config(settings["cfg"]), settings["weights"].removesuffix(".safetensors")
    whole = golden.load(WavLM, stem, **config)
    made = {"mid_wavlm_conv": whole.network.feature_extractor(golden["in_wav"]),
            "out_wavlm_full": whole(golden["in_wav"])}
    layer = golden.config["output_layer"]
    part = golden.load(WavLM, stem, **config | {"depth": layer, "final_norm": False})
    part.network.encoder.layers[0].register_forward_pre_hook(
        lambda _, inputs: made.update(mid_wavlm_layer0=inputs[0]))
    for index, block in enumerate(part.network.encoder.layers):
        block.register_forward_hook(lambda _, __, outputs, index=index: made.update(
            {f"mid_wavlm_layer{index + 1}": outputs[0]}))
    made["out_wavlm_feat"] = part(golden["in_wav"])  # the hooks add theirs
    return made
