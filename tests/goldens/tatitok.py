"""TA-TiTok: both tokenizers, the discriminator, the losses and the clustering of the codebook."""

from __future__ import annotations

import math
import re

import titok
import torch
from golden import Golden, System
from torch import Tensor
from torch.nn import functional

from photophone.layers.normal import normal_kl
from photophone.loading.checkpoints import load_strict, rename_keys
from photophone.quantizers.gaussian import mean_and_logvar
from photophone.tokenizers.titok.text_aware import TATiTok
from photophone.training.losses.adversary import Adversary
from photophone.training.losses.discriminators import BlurDiscriminator

system = System("tatitok")
system.skip("mid_vq_soft_weights", reason="an input: shares of codes that are mixed")
RUNNING_SCORES = (0.3, -0.2)
"""Of real and of made images, before the recorded calls of the discriminator's loss."""
LECAM_TWICE = 2.0
"""The official hinge loss is half of ours, so LeCam weighs twice as much beside ours."""


def tokenizer_config(golden: Golden, name: str) -> dict:
    """Our arguments of the official config ``name``."""
    shared = titok.tokenizer_config(golden, name)
    names = ("image_size", "num_tokens", "token_width", "num_codes", "l2_norm", "commitment", "encoder_patch",
             "decoder_patch", "encoder_size", "decoder_size")
    model = golden.settings[name]["model"]["vq_model"]
    return {key: shared[key] for key in names} | {
        "text_dim": model.get("text_embed_dim", 768), "text_length": model.get("text_context_length", 77),
        "clustering": model.get("clustering_vq", False)}


def load(golden: Golden, name: str) -> TATiTok:
    return golden.load(TATiTok, name, **tokenizer_config(golden, name))


def discriminator(golden: Golden) -> BlurDiscriminator:
    settings = golden.settings["discriminator"]
    taps = settings.get("blur_kernel_size", 4) if settings.get("blur_resample", True) else None
    network = BlurDiscriminator(settings.get("hidden_channels", 128), settings.get("num_stages", 3), taps)
    state = {key: value for key, value in golden.state("discriminator").items() if not key.endswith(".kernel")}
    load_strict(network, rename_keys(state, [
        (r"^block_in\.0\.", "first."), (r"^blocks\.", "layers."), (r"^to_logits\.0\.", "last."),
        (r"^to_logits\.2\.", "score.")]))
    return network.eval()


@system.part("out_disc_*")
def scores(golden: Golden):
    network = discriminator(golden)
    return {"out_disc_image": network(golden["in_image"] * 2 - 1)[-1],
            "out_disc_big": network(golden["in_big_fake"] * 2 - 1)[-1]}


@system.part("mid_vq_z", "out_vq_*")
def vq(golden: Golden):
    model, text = load(golden, "tatitok_vq"), golden["in_text_guidance"]
    latents = model.latents(golden["in_image"] * 2 - 1)
    output = model.bottleneck(latents)
    terms = {f"out_vq_{name}": value for name, value in titok.losses(model, latents).items()}
    return {"mid_vq_z": titok.theirs(latents), "out_vq_indices": output.indices[:, None], **terms,
            "out_vq_recon": titok.pixels(model.reconstruct(output.values, text)),
            "out_vq_decode_tokens": titok.pixels(model.reconstruct(model.bottleneck.decode(output.indices), text)),
            "out_vq_soft_codebook_entry": golden["mid_vq_soft_weights"] @ model.bottleneck.codebook}


@system.part("mid_vae_*", "out_vae_*")
def vae(golden: Golden):
    model, text = load(golden, "tatitok_vae"), golden["in_text_guidance"]
    images = golden["in_image"] * 2 - 1
    moments = model.latents(images)
    mean, logvar = mean_and_logvar(moments)
    draw = golden["in_noise_vae_000_randn"][:, :, 0].transpose(1, 2)  # (B, D, 1, N) -> (B, N, D)
    sample = model.encode(images, golden.noise(normal=[draw])).values
    return {"mid_vae_parameters": titok.theirs(moments), "out_vae_mode": titok.theirs(mean),
            "out_vae_sample": titok.theirs(sample), "out_vae_kl": normal_kl(mean, logvar).sum(-1),
            "out_vae_recon_sample": titok.pixels(model.reconstruct(sample, text)),
            "out_vae_recon_mode": titok.pixels(model.reconstruct(mean, text))}


@system.part("out_loss_*")
def losses(golden: Golden):
    return {**losses_of(golden, "vq", "out_vq_recon"), **losses_of(golden, "vae", "out_vae_recon_sample")}


def losses_of(golden: Golden, kind: str, recon: str) -> dict[str, Tensor]:
    """All losses of a tokenizer; the perceptual network counts nothing, as in the recorded ones."""
    weights, made = golden.settings[f"tatitok_{kind}"]["losses"], {}
    images, drawn = golden["in_image"] * 2 - 1, golden[recon] * 2 - 1
    adversary = Adversary([discriminator(golden)], lecam=LECAM_TWICE * weights["lecam_regularization_weight"],
                          lecam_of_means=True).train()
    plain = Adversary([discriminator(golden)])(drawn, images)
    model = load(golden, f"tatitok_{kind}")
    moments = model.latents(images)
    own = model.bottleneck(moments).loss
    if kind == "vae":
        own = weights["kl_weight"] / model.config.kl_weight * own
    compare = {"l1": functional.l1_loss, "l2": functional.mse_loss}[weights["reconstruction_loss"]]
    reconstruction = compare(golden[recon], golden["in_image"]) * weights["reconstruction_weight"]
    if kind == "vae":
        reconstruction = reconstruction / math.exp(weights["logvar_init"])
    else:
        own = own * weights["quantizer_weight"]
    found = golden.names(f"out_loss_{kind}_g_step*_total_loss")
    for step in (int(re.search(r"step(\d+)", name)[1]) for name in found):
        acts = step >= weights["discriminator_start"]
        generator = plain["adversarial"] if acts else torch.zeros(())
        weighted = weights["discriminator_weight"] * weights["discriminator_factor"] * generator
        made |= {f"out_loss_{kind}_g_step{step}_{name}": value for name, value in {
            "gan_loss": generator, "weighted_gan_loss": weighted, "reconstruction_loss": reconstruction,
            "quantizer_loss" if kind == "vq" else "kl_loss": own,
            "total_loss": reconstruction + own + weighted}.items()}
    adversary.running_scores.copy_(torch.tensor([RUNNING_SCORES]))
    network = adversary.discriminators[0]
    real, fake = (network(media)[-1].mean() for media in (images, drawn))
    for call in (0, 1):
        loss = adversary(drawn, images)["discriminator"] / 2
        made |= {f"out_loss_{kind}_d_call{call}_{name}": value for name, value in {
            "discriminator_loss": loss, "lecam_loss": loss - plain["discriminator"] / 2, "logits_real": real,
            "logits_fake": fake}.items()}
    averages = adversary.running_scores[0]
    return made | {f"out_loss_{kind}_ema_real": averages[:1], f"out_loss_{kind}_ema_fake": averages[1:]}


@system.part("out_cvq_*")
def clustering(golden: Golden):
    bottleneck, made = load(golden, "tatitok_vq").bottleneck.train(), {}
    latents = golden["mid_vq_z"][:, :, 0].transpose(1, 2)
    for call in (0, 1):
        output = bottleneck(latents)
        made |= {f"out_cvq_call{call}_{name}": value.clone() for name, value in {
            "indices": output.indices[:, None], "quantizer_loss": output.loss, "codebook": bottleneck.codebook,
            "embed_prob": bottleneck.usage}.items()}
    return made
