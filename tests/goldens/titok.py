"""TiTok: the tokenizers and the masked generators."""

from __future__ import annotations

import torch
from golden import Golden, System
from torch import Tensor

from photophone.generators.conditions import ClassLabels
from photophone.generators.masking import mask_tokens, masked_token_loss
from photophone.generators.titok.model import ImageBert, MaskedImageGenerator, UViTBert
from photophone.layers.normal import normal_kl
from photophone.quantizers.gaussian import mean_and_logvar
from photophone.tokenizers.titok.model import TiTok

system = System("titok")


def tokenizer_config(golden: Golden, name: str) -> dict:
    """Our arguments of the official config ``name`` and of the sizes that replace its fixed ones."""
    settings = golden.settings[name]
    model, constants = settings["model"]["vq_model"], golden.settings["patched_constants"]
    sizes = {size: tuple(constants["size_table"][model[f"vit_{part}_model_size"]][key] for key in
                         ("width", "num_layers", "num_heads"))
             for size, part in (("encoder_size", "enc"), ("decoder_size", "dec"))}
    pixel, legacy = constants["pixel_vqgan"], model.get("is_legacy", True)
    decoder = {"channels": pixel["hidden_channels"], "multipliers": pixel["channel_mult"],
               "blocks": pixel["num_res_blocks"], "token_width": pixel["z_channels"]}
    vae = model.get("quantize_mode", "vq") == "vae"
    return {"image_size": settings["dataset"]["preprocessing"]["crop_size"], "token_width": model["token_size"],
            "num_tokens": model["num_latent_tokens"], "num_codes": None if vae else model["codebook_size"],
            "l2_norm": model.get("use_l2_norm", False), "commitment": model.get("commitment_cost", 0.25),
            "encoder_patch": model["vit_enc_patch_size"], "decoder_patch": model["vit_dec_patch_size"],
            "scrambles_latents": legacy, "proxy_codes": pixel["num_embeddings"] if legacy else None,
            "proxy_decoder": decoder if model.get("finetune_decoder", True) and legacy else None, **sizes}


def theirs(sequence: Tensor) -> Tensor:
    """(B, N, D) as the official (B, D, 1, N)."""
    return sequence.transpose(1, 2)[:, :, None]


def pixels(images: Tensor) -> Tensor:
    """[-1, 1] to [0, 1]."""
    return (images + 1) / 2


def losses(model: TiTok, latents: Tensor) -> dict[str, Tensor]:
    """The two terms of the quantizer's loss, and their sum."""
    terms = {"quantizer_loss": model.bottleneck(latents).loss}
    for name, weights in (("codebook_loss", (1.0, 0.0)), ("commitment_loss", (0.0, model.config.commitment))):
        model.bottleneck.codebook_weight, model.bottleneck.beta = weights
        terms[name] = model.bottleneck(latents).loss
    model.bottleneck.codebook_weight, model.bottleneck.beta = 1.0, model.config.commitment
    return terms


def stage1_state(golden: Golden) -> dict[str, Tensor]:
    """Stage 1 has no file of its own: stage 2 without the pixel decoder."""
    return {key: value for key, value in golden.state("titok_stage2").items() if not key.startswith("pixel_")}


@system.part("out_stage2_decode_tokens", tolerance=1e-4, relative=True)
def stage2_pixels(golden: Golden):
    """The pixel decoder normalises nearly constant maps: the official output itself is 8e-5 off its own in float64."""
    model = golden.load(TiTok, "titok_stage2", **tokenizer_config(golden, "titok_stage2"))
    values = model.bottleneck.decode(golden["out_stage2_indices"].squeeze(1))
    return {"out_stage2_decode_tokens": pixels(model.reconstruct(values))}


@system.part("mid_stage2_*", "out_stage2_*")
def stage2(golden: Golden):
    """The image comes from the recorded logits; see :func:`stage2_pixels` for the reason."""
    model = golden.load(TiTok, "titok_stage2", **tokenizer_config(golden, "titok_stage2"))
    latents = model.latents(golden["in_image"] * 2 - 1)
    output = model.bottleneck(latents)
    grid = (len(latents), -1, model.decoder.grid, model.decoder.grid)
    logits = model.proxy_logits(output.values).transpose(1, 2).reshape(grid)
    recorded = golden["mid_stage2_proxy_logits"].flatten(2).transpose(1, 2)
    return {"mid_stage2_z": theirs(latents), "mid_stage2_zq": theirs(output.values), "mid_stage2_proxy_logits": logits,
            "out_stage2_indices": output.indices[:, None],
            "out_stage2_recon": pixels(model.proxy_pixels(recorded))}


@system.part("out_stage1_*")
def stage1(golden: Golden):
    model = TiTok.from_original(stage1_state(golden), **tokenizer_config(golden, "titok_stage1"))
    images = golden["in_image"] * 2 - 1
    logits, total, _ = model.proxy_loss(images, golden["in_proxy_codes"])
    logits = logits.transpose(1, 2).unflatten(2, (model.decoder.grid, -1))
    terms = {f"out_stage1_{name}": value for name, value in losses(model, model.latents(images)).items()}
    return {"out_stage1_logits": logits, "out_stage1_total_loss": total, **terms}


@system.part("mid_vq_z", "out_vq_*")
def vq(golden: Golden):
    model = golden.load(TiTok, "titok_vq", **tokenizer_config(golden, "titok_vq"))
    latents = model.latents(golden["in_image"] * 2 - 1)
    output = model.bottleneck(latents)
    terms = {f"out_vq_{name}": value for name, value in losses(model, latents).items()}
    return {"mid_vq_z": theirs(latents), "out_vq_indices": output.indices[:, None],
            "out_vq_recon": pixels(model.reconstruct(output.values)), **terms,
            "out_vq_decode_tokens": pixels(model.reconstruct(model.bottleneck.decode(output.indices)))}


@system.part("mid_vae_*", "out_vae_*")
def vae(golden: Golden):
    model = golden.load(TiTok, "titok_vae", **tokenizer_config(golden, "titok_vae"))
    images = golden["in_image"] * 2 - 1
    moments = model.latents(images)
    mean, logvar = mean_and_logvar(moments)
    draw = golden["in_noise_vae_000_randn"][:, :, 0].transpose(1, 2)  # (B, D, 1, N) -> (B, N, D)
    sample = model.encode(images, golden.noise(normal=[draw])).values
    return {"mid_vae_parameters": theirs(moments), "out_vae_mode": theirs(mean), "out_vae_sample": theirs(sample),
            "out_vae_kl": normal_kl(mean, logvar).sum(-1), "out_vae_recon_sample": pixels(model.reconstruct(sample)),
            "out_vae_recon_mode": pixels(model.reconstruct(model.encode(images).values))}


def generator(golden: Golden, name: str) -> MaskedImageGenerator:
    """The generator ``name`` with its official weights."""
    model = golden.settings[name]["model"]
    ours = model["generator"]
    family = {"ViT": ImageBert, "UViT": UViTBert}[ours["model_type"]]
    return golden.load(family, name, num_tokens=ours["image_seq_len"], num_codes=model["vq_model"]["codebook_size"],
                       num_classes=ours["condition_num_classes"], width=ours["hidden_size"],
                       depth=ours["num_hidden_layers"], num_heads=ours["num_attention_heads"],
                       hidden=ours["intermediate_size"])


def generate(golden: Golden, name: str, path: str, **options) -> Tensor:
    """Tokens from the recorded draws ``in_noise_gen_<path>_*``; scales of "linear" and "constant" are the official ones
    plus 1."""
    draws = [golden[key] for key in golden.names(f"in_noise_gen_{path}_*_uniform")]
    model = generator(golden, name)
    sampler = model.Sampler(num_order_steps=golden.settings["num_sample_steps"], **options)
    return model.generate(ClassLabels(golden["in_condition"]), noise=golden.noise(uniform=draws),
                          sampler=sampler).values


@system.part("out_image_bert_*", "out_uvit_bert_*")
def forward_passes(golden: Golden):
    weights, made = golden.settings["losses"], {}
    for name in ("image_bert", "uvit_bert"):
        model = generator(golden, name)
        labels, ids = golden["in_condition"], golden["in_masked_ids"]
        cond = model.logits(ids, labels)
        uncond = model.logits(ids, torch.full_like(labels, model.config.num_classes))
        loss, right = masked_token_loss(cond, golden["in_target_ids"], golden["in_mask"], weights["label_smoothing"],
                                        weights["loss_weight_unmasked_token"])
        made |= {f"out_{name}_logits_cond": cond, f"out_{name}_logits_uncond": uncond, f"out_{name}_mlm_loss": loss,
                 f"out_{name}_correct_tokens": right}
    return made


@system.part("out_masking_*")
def masking(golden: Golden):
    mask_id = golden.settings["image_bert"]["model"]["vq_model"]["codebook_size"]
    noise = golden.noise(uniform=[golden["in_noise_masking_000_uniform"], golden["in_noise_masking_001_rand"]])
    ids, masked = mask_tokens(golden["in_target_ids"], mask_id, noise)
    return {"out_masking_tokens": ids, "out_masking_masks": masked}


@system.part("out_generate_bert_linear_image", tolerance=1e-4, relative=True)
def generated_image(golden: Golden):
    """See :func:`stage2_pixels` for the tolerance."""
    model = golden.load(TiTok, "titok_stage2", **tokenizer_config(golden, "titok_stage2"))
    values = model.bottleneck.decode(golden["out_generate_bert_linear_ids"])
    return {"out_generate_bert_linear_image": pixels(model.reconstruct(values))}


@system.part("out_generate_*")
def sampling(golden: Golden):
    return {
        "out_generate_bert_linear_ids": generate(golden, "image_bert", "bert_linear", guidance_scale=1 + 4.5,
                                                 guidance_schedule="linear", temperature=9.5),
        "out_generate_bert_constant_ids": generate(golden, "image_bert", "bert_constant", guidance_scale=1 + 4.5,
                                                   guidance_schedule="constant", temperature=1.0, annealed=True),
        "out_generate_uvit_powercos_ids": generate(golden, "uvit_bert", "uvit_powercos", guidance_scale=6.9,
                                                   guidance_schedule="power-cosine", guidance_power=3.0,
                                                   temperature=2.8),
        "out_generate_uvit_greedy_ids": generate(golden, "uvit_bert", "uvit_greedy", guidance_scale=1 + 3.0,
                                                 guidance_schedule="linear", temperature=0.0)}
