"""LlamaGen: the VQ tokenizer."""

from __future__ import annotations

import torch
from golden import Golden, System

from photophone.checkpoints import load_strict
from photophone.layers.vqgan import ResnetBlock
from photophone.layers.vqgan_keys import convert_vqgan_keys
from photophone.tokenizers.grid import to_grid, to_sequence
from photophone.tokenizers.llamagen_vq import LlamaGenVQ

system = System("llamagen")
VQ_NAMES = {"codebook_size": "num_codes", "codebook_embed_dim": "token_width", "z_channels": "z_channels",
            "codebook_l2_norm": "l2_norm", "commit_loss_beta": "commitment", "entropy_loss_ratio": "entropy_weight",
            "encoder_ch_mult": "multipliers", "decoder_ch_mult": "decoder_multipliers"}
"""Official arguments of the tokenizer and ours; the others are switches of displays and dropout."""


def vq_config(settings: dict) -> dict:
    """Our arguments of the official ``vq`` settings."""
    config = {VQ_NAMES[name]: value for name, value in settings["args"].items() if name in VQ_NAMES}
    given = {"channels": "ch", "blocks": "num_res_blocks"}
    return config | {ours: settings[theirs] for ours, theirs in given.items() if theirs in settings}


@system.part("mid_enc", "mid_quant_conv", "out_quant", "out_ids", "out_recon*", "out_vq_losses")
def vq(golden: Golden):
    model = golden.load(LlamaGenVQ, "vq", **vq_config(golden.settings["vq"]))
    features = model.encoder(golden["in_image"])
    latents = model.to_latent(features)
    size = latents.shape[2:]
    output = model.bottleneck(to_sequence(latents))
    quantized = to_grid(output.values, size)
    codes = to_grid(model.bottleneck.decode(output.indices), size)
    model.bottleneck.train()
    losses = []
    for weights in ((1.0, 0.0), (0.0, model.config.commitment)):
        model.bottleneck.codebook_weight, model.bottleneck.beta = weights
        losses.append(model.bottleneck(to_sequence(latents)).loss)
    return {"mid_enc": features, "mid_quant_conv": latents, "out_quant": quantized,
            "out_ids": output.indices.flatten(), "out_recon": model.reconstruct(quantized),
            "out_recon_from_code": model.reconstruct(codes), "out_vq_losses": torch.stack(losses)}


@system.part("out_resblock")
def resblock(golden: Golden):
    block = ResnetBlock(*golden.settings["resblock"])
    load_strict(block, convert_vqgan_keys(golden.state("resblock")))
    return {"out_resblock": block(golden["in_resblock_x"])}
