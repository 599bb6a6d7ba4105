"""MingTok and the flow head of Ming-UniVision."""

from __future__ import annotations

import torch
from golden import Golden, System

from photophone.heads.branched import BranchedFlowHead
from photophone.tokenizers.mingtok.model import MingTok

system = System("mingtok")


def load(golden: Golden) -> MingTok:
    given = golden.settings["mingtok"]
    low, semantic, pixel = (given[name] for name in ("low_level_encoder", "semantic_decoder", "pixel_decoder"))
    return golden.load(MingTok, "mingtok", image_size=low["img_size"], patch=low["patch_size"],
                       token_dim=low["out_dim"],
                       encoder_width=low["embed_dim"], encoder_depth=low["depth"], semantic_width=semantic["embed_dim"],
                       semantic_depth=semantic["decoder_depth"], pixel_width=pixel["embed_dim"],
                       pixel_depth=pixel["decoder_depth"], pixel_patch=pixel["patch_size"],
                       token_mean=given["mean"], token_scale=given["scaling_factor"])


@system.part("mid_*", "out_latent", "out_sem*", "out_recon", "out_pixel_l1")
def tokenizer(golden: Golden):
    model, image = load(golden), golden["in_image"]
    raw, latents = model.encoder(image), model.latents(image)
    features = model.semantics(latents)
    # the official attention without flash-attn forgets its cache: what was recorded are tokens by themselves
    steps = [model.semantics(token) for token in latents.split(1, dim=1)]
    made = model.reconstruct(latents).clamp(-1, 1)
    patches = model.decoder.patchify(made)
    return {"mid_latent_raw": raw, "out_latent": latents, "out_sem": features[:, :-1], "mid_sem_cls": features[:, -1],
            "mid_sem_prenorm": model.semantic.embed(raw), "mid_sem_to_pix": model.sem_to_pix(features[:, :-1]),
            "out_sem_stepwise": torch.cat(steps, dim=1), "out_recon": made, "mid_patchify": patches,
            "out_pixel_l1": (patches - model.decoder.patchify(image)).abs().mean()[None]}


@system.part("out_rf_*")
def head(golden: Golden):
    given = golden.settings["rf"]
    model = BranchedFlowHead(given["z_channels"], given["target_channels"], given["width"], given["depth"],
                             given["mlp_mult"])
    model.load_state_dict(model.convert_state_dict(golden.state("rf_head")))
    cond, steps = golden["in_rf_z"][:, None], int(given["num_sampling_steps"])
    made = {"out_rf_net": -model.net(golden["in_rf_x"][:, None], golden["in_rf_t"], golden["in_rf_c"][:, None])[:, 0]}
    for name, branches, options in (("b1", 1, {"temperature": 0.9}), ("b2", 2, {}), ("b3", 3, {}),
                                    ("b2_renorm", 2, {"renorm": "channel"}), ("b1_shift", 1, {"time_shift": 2.0})):
        noise = golden.noise(normal=[golden["in_noise_rf"]])
        token = model.sample_branches(cond[:branches], branches, noise=noise, num_steps=steps, **options)
        made[f"out_rf_sample_{name}"] = token[:, 0].expand(branches, -1)
    return made
