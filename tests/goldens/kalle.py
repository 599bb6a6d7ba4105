"""KALL-E: the FlowVAE both ways with its flow, and the language model's distributions until it stops."""

from __future__ import annotations

import torch
from golden import Golden, System
from torch import Tensor

from photophone.codecs.flow_vae.model import FlowVAE
from photophone.core.tokens import Tokens
from photophone.generators.kalle.model import KallE, KallESampler, draw

system = System("kalle")


def load_codec(golden: Golden) -> FlowVAE:
    return golden.load(FlowVAE, "flowvae", **FlowVAE.convert_config(golden.settings["flowvae"]))


@system.part("out_latents", "out_decode_*", "out_forward_*", "mid_forward_logs", "out_flow*")
def flow_vae(golden: Golden):
    model = load_codec(golden)
    moments = model.moments(golden["in_wav"])
    noise = golden.noise(normal=[golden["in_noise_fwd_0"].transpose(1, 2), golden["in_noise_dec_0"].transpose(1, 2)])
    latents = draw(moments, noise)
    sampled = draw(golden["in_dist"].transpose(1, 2), noise)
    flow = model.flow(golden["in_z"])
    return {"out_latents": moments.transpose(1, 2), "mid_forward_logs": moments.chunk(2, dim=-1)[1].transpose(1, 2),
            "out_forward_wav": model.decode(Tokens(latents)), "out_forward_zp": model.flow(latents.transpose(1, 2)),
            "out_decode_sampled": model.decode(Tokens(sampled)),
            "out_decode_z": model.decode(Tokens(golden["in_z"].transpose(1, 2))),
            "out_flow": flow, "out_flow_reverse": model.flow(flow, back=True)}


def distributions(golden: Golden, model: KallE, name: str, prompt: Tensor | None, threshold: float) -> Tensor:
    """The official loop drops its last distribution, and has drawn of it by then: ours does not make that draw."""
    sequence = model.prepare([golden["in_text"].tolist()], [prompt])
    kept = golden[f"out_infer_{name}"].shape[-1]
    draws = [golden[draw] for draw in golden.names(f"in_noise_{name}_*")]
    stops = threshold >= 0 and kept < golden.settings["io"]["max_length"] - 1
    noise = golden.noise(normal=draws[:kept if stops else kept - 1])
    sampler = KallESampler(end_threshold=threshold, max_frames=golden.settings["io"]["max_length"] - 1)
    return torch.cat([moments for moments, _ in model.distributions(sequence, noise, sampler)], dim=1).transpose(1, 2)


@system.part("out_infer_*", "mid_first_dist", tolerance=1e-4)
def language_model(golden: Golden):
    settings = golden.settings["kalle"]
    model = golden.load(KallE, "kalle", token_dim=settings["latent_dim"], **KallE.convert_config(settings["llama"]))
    made = {}
    for kind, threshold in (("never_stop", -1), ("stop", golden.settings["io"]["thres"])):
        for name, prompt in (("text", None), ("prompt", golden["in_prompt"][0])):
            made[f"out_infer_{kind}_{name}"] = distributions(golden, model, f"{kind}_{name}", prompt, threshold)
    return made | {"mid_first_dist": made["out_infer_never_stop_text"][..., :1].transpose(1, 2)}
