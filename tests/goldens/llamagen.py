"""LlamaGen: the VQ tokenizer and the generator."""

from __future__ import annotations

import torch
from golden import Golden, System

from photophone.core.tokens import Tokens
from photophone.generators.conditions import CaptionFeatures, ClassLabels, Condition
from photophone.generators.llamagen.model import LlamaGenGPT
from photophone.kernels.sampling import filter_logits
from photophone.layers.vqgan import ResnetBlock
from photophone.layers.vqgan_keys import convert_vqgan_keys
from photophone.loading.checkpoints import load_strict
from photophone.tokenizers.grid import to_grid, to_sequence
from photophone.tokenizers.llamagen_vq.model import LlamaGenVQ

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
            "out_ids": output.indices.flatten(), "out_recon": model.decode_grid(quantized),
            "out_recon_from_code": model.decode_grid(codes), "out_vq_losses": torch.stack(losses)}


@system.part("out_resblock")
def resblock(golden: Golden):
    block = ResnetBlock(*golden.settings["resblock"])
    load_strict(block, convert_vqgan_keys(golden.state("resblock")))
    return {"out_resblock": block(golden["in_resblock_x"])}


def gpt_config(settings: dict) -> dict:
    """Our arguments of the official ``c2i`` or ``t2i`` settings; the defaults are those of the official class."""
    names = {"width": "dim", "depth": "n_layer", "num_heads": "n_head", "hidden_multiple": "multiple_of",
             "num_classes": "num_classes", "num_codes": "vocab_size", "eps": "norm_eps", "rotary_base": "rope_base",
             "num_kv_heads": "n_kv_head", "hidden_factor": "ffn_dim_multiplier"}
    config = {ours: settings[theirs] for ours, theirs in names.items() if theirs in settings}
    config["grid_size"] = round(settings["block_size"] ** 0.5)
    if settings["model_type"] == "t2i":
        config |= {"caption_dim": settings.get("caption_dim", 2048), "caption_length": settings["cls_token_num"]}
    return config


def load_gpt(golden: Golden, kind: str) -> LlamaGenGPT:
    return golden.load(LlamaGenGPT, f"gpt_{kind}", **gpt_config(golden.settings[kind]))


def captions(golden: Golden) -> torch.Tensor:
    return golden["in_t2i_emb"] * golden["in_t2i_mask"][:, :, None]


@system.part("out_c2i_lo*", "out_t2i_lo*", "mid_t2i_*", "mid_freqs_*")
def teacher(golden: Golden):
    classes, texts = load_gpt(golden, "c2i"), load_gpt(golden, "t2i")
    made = {"mid_freqs_c2i": classes.rotary(), "mid_freqs_t2i": texts.rotary(), "mid_t2i_cond": captions(golden),
            "mid_t2i_cls_embed": texts.prefix(CaptionFeatures(captions(golden)))}
    for kind, model, tokens, condition in (
            ("c2i", classes, golden["in_idx"], ClassLabels(golden["in_cls"])),
            ("t2i", texts, golden["in_t2i_idx"], CaptionFeatures(captions(golden)))):
        made[f"out_{kind}_logits"] = model.teacher_logits(tokens, condition)
        made[f"out_{kind}_loss"] = model.loss(Tokens(tokens), condition).loss.view(golden[f"out_{kind}_loss"].shape)
    return made


@system.part("out_filter_*")
def filters(golden: Golden):
    settings = {"k5": {"top_k": 5}, "p07": {"top_p": 0.7}, "k9p08": {"top_k": 9, "top_p": 0.8}}
    return {f"out_filter_{name}": filter_logits(golden["in_filter_logits"], **given).isfinite().float()
            for name, given in settings.items()}


def sampled(golden: Golden, kind: str, condition: Condition, settings: dict) -> torch.Tensor:
    """The official draw is argmax(p / e) with exponential e; the Gumbel-max trick with uniform exp(-e) is the same."""
    interval = settings.get("cfg_interval", -1)
    noise = golden.noise(uniform=[torch.exp(-draw.double())[:, None] for draw in golden[f"in_noise_{kind}"]])
    model = load_gpt(golden, kind)
    sampler = model.Sampler(guidance_scale=settings["cfg_scale"], guidance_interval=None if interval < 0 else interval,
                            temperature=settings["temperature"], top_k=settings["top_k"], top_p=settings["top_p"])
    return model.generate(condition, noise=noise, sampler=sampler).values


@system.part("out_c2i_g*", "out_t2i_gen")
def sampling(golden: Golden):
    labels, model = ClassLabels(golden["in_gen_cls"]), load_gpt(golden, "c2i")
    greedy = model.generate(labels, noise=golden.noise(), sampler=model.Sampler(temperature=0)).values
    texts = CaptionFeatures(captions(golden), golden["in_t2i_mask"].bool())
    return {"out_c2i_gen": sampled(golden, "c2i", labels, golden.settings["gen"]), "out_c2i_greedy_nocfg": greedy,
            "out_t2i_gen": sampled(golden, "t2i", texts, golden.settings["gen_t2i"])}
