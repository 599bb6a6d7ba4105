"""NAR: the transformer for classes and captions, and the VQ tokenizer, which is LlamaGen's."""

from __future__ import annotations

import re
from unittest import mock

import torch
from golden import Golden, System
from llamagen import VQ_NAMES, gpt_config
from torch import Tensor

from photophone.core.tokens import Tokens
from photophone.generators.conditions import CaptionFeatures, ClassLabels
from photophone.generators.nar import model as nar
from photophone.kernels.sampling import draw, filter_logits
from photophone.kernels.solver import combine_guidance
from photophone.tokenizers.grid import to_grid, to_sequence
from photophone.tokenizers.llamagen_vq.model import LlamaGenVQ

system = System("nar")


@system.part("mid_vq_*", "out_vq_*")
def vq(golden: Golden):
    settings = golden.settings
    config = {ours: settings["vq"][theirs] for theirs, ours in VQ_NAMES.items() if theirs in settings["vq"]}
    given = settings.get("vq_encoder_kwargs", {})
    config |= {ours: given[theirs] for theirs, ours in (("ch", "channels"), ("num_res_blocks", "blocks"))
               if theirs in given}
    model = golden.load(LlamaGenVQ, "vq", **config)
    latents = model.encode_grid(golden["in_image"])
    size = latents.shape[2:]
    output = model.bottleneck(to_sequence(latents))
    quantized = to_grid(output.values, size)
    codes = to_grid(model.bottleneck.decode(output.indices), size)
    return {"mid_vq_pre": latents, "out_vq_quant": quantized, "out_vq_indices": output.indices.flatten(),
            "out_vq_decode": model.decode_grid(quantized), "out_vq_decode_code": model.decode_grid(codes),
            "out_vq_loss_terms": loss_terms(model, latents)}


def loss_terms(model: LlamaGenVQ, latents: Tensor) -> Tensor:
    """The losses of codebook, commitment and entropy, each with its weight."""
    bottleneck = model.bottleneck.train()
    terms = []
    for weights in ((1.0, 0.0, 0.0), (0.0, model.config.commitment, 0.0), (0.0, 0.0, model.config.entropy_weight)):
        bottleneck.codebook_weight, bottleneck.beta, bottleneck.entropy_weight = weights
        terms.append(bottleneck(to_sequence(latents)).loss)
    return torch.stack(terms)


def load(golden: Golden, kind: str) -> nar.NAR:
    """The transformer for classes ("c2i") or captions ("t2i")."""
    settings = golden.settings[kind]
    config = gpt_config(settings) | {"below_depth": settings.get("medusa_attention_num", 1)}
    return golden.load(nar.NAR, "t2i" if kind == "t2i" else "weights", **config)


def captions(golden: Golden) -> CaptionFeatures:
    return CaptionFeatures(golden["in_caption"], golden["in_emb_masks"].bool())


@system.part("out_mask_*", "mid_freqs_cis")
def tables(golden: Golden):
    model = load(golden, "c2i")
    mask = model.attention_mask(ClassLabels(golden["in_labels"]))[0, 0]
    # the official cache is longer by what is missing to a multiple of 8; nothing ever looks there or from there
    padded = torch.ones_like(golden["out_mask_infer"]).tril()
    padded[:len(mask), :len(mask)] = mask
    return {"out_mask_train": mask, "out_mask_infer": padded, "mid_freqs_cis": model.rotary()}


@system.part("out_logits", "out_loss")
def classes(golden: Golden):
    model, labels = load(golden, "c2i"), ClassLabels(golden["in_labels"])
    return {"out_logits": model.teacher_logits(golden["in_idx"], labels),
            "out_loss": model.loss(Tokens(golden["in_idx"]), labels).loss}


@system.part("mid_t2i_*", "out_t2i_*")
def texts(golden: Golden):
    model, condition, valid = load(golden, "t2i"), captions(golden), golden["in_valid"].bool()
    return {"mid_t2i_mask": model.attention_mask(condition)[:, 0],
            "out_t2i_logits": model.teacher_logits(golden["in_idx_t2i"], condition),
            "out_t2i_loss_valid": model.loss(Tokens(golden["in_idx_t2i"][valid]), condition[valid]).loss}


def noted(golden: Golden, note: str, name: str) -> float:
    """A number that the notes of a golden give as ``name=number``."""
    return float(re.search(rf"\b{name}=(-?\d+(\.\d+)?)", golden.config["io"][note])[1])


@system.part("out_filter_*")
def filters(golden: Golden):
    note = "out_filter_topk/topp"
    settings = {"topk": {"top_k": int(noted(golden, note, "top_k"))}, "topp": {"top_p": noted(golden, note, "top_p")}}
    return {f"out_filter_{name}": filter_logits(golden["in_logits"][:, 0], **given).clamp(min=-1e30)
            for name, given in settings.items()}


@system.part("out_gen_*", "mid_gen_*", tolerance=1e-4)
def sampling(golden: Golden):
    scale, labels = golden.settings["cfg"], ClassLabels(golden["in_labels"])
    last = int(noted(golden, "interval", "cfg_interval"))
    interval = {"guidance_scale": scale, "guidance_interval": None if last < 0 else last}
    made = {}
    for name, condition, options in (("c2i_nocfg", labels, {}), ("c2i_cfg", labels, {"guidance_scale": scale}),
                                     ("c2i_interval", labels, interval),
                                     ("t2i_cfg", captions(golden), {"guidance_scale": scale})):
        if f"out_gen_{name}" in golden:
            made[f"out_gen_{name}"], made[f"mid_gen_{name}_logits"] = greedy(golden, name[:3], condition, options)
    return made


def greedy(golden: Golden, kind: str, condition, options: dict) -> tuple[Tensor, Tensor]:
    """The likeliest codes, and the guided logits that each step drew from."""
    model, logits = load(golden, kind), []

    def recording(cond, uncond, guidance, noise, **given):
        logits.append(combine_guidance(cond, uncond, guidance))
        return draw(cond, uncond, guidance, noise, **given)

    with mock.patch.object(nar, "draw", recording):
        tokens = model.generate(condition, noise=golden.noise(), sampler=nar.NARSampler(temperature=0.0, **options))
    return tokens.values, torch.cat(logits, dim=1)
