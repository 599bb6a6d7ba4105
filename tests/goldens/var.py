"""VAR: the multi-scale tokenizer and the generator."""

from __future__ import annotations

import torch
from golden import Golden, System

from photophone.core.noise import ReplayNoise
from photophone.core.tokens import Tokens
from photophone.generators.conditions import ClassLabels
from photophone.generators.var.model import VAR
from photophone.kernels.sampling import filter_logits
from photophone.quantizers.multi_scale import phi_index
from photophone.tokenizers.grid import to_grid, to_sequence
from photophone.tokenizers.var_vq.model import VARTokenizer

system = System("var")
PUBLISHED_SCALES = 10
MINUS_INFINITY = -1e30
"""How the recorded tensors write minus infinity."""
TOPK_TOPP_SCALE = 1 + 1.5
"""Guidance of the recorded run with top-k and top-p, whatever the config says of the others."""


def tokenizer_config(settings: dict) -> dict:
    """Our arguments of the official ``vqvae`` settings and what replaces its fixed backbone."""
    vqvae, backbone = settings["vqvae"], settings.get("backbone_overrides", {})
    multipliers = backbone.get("ch_mult", [1, 1, 2, 2, 4])
    scales = vqvae["v_patch_nums"]
    return {"image_size": scales[-1] * 2 ** (len(multipliers) - 1), "channels": backbone.get("ch", vqvae["ch"]),
            "multipliers": multipliers, "blocks": backbone.get("num_res_blocks", 2),
            "token_width": vqvae["z_channels"], "num_codes": vqvae["vocab_size"], "scales": scales,
            "latent_kernel": vqvae.get("quant_conv_ks", 3),
            "num_phis": vqvae["share_quant_resi"] or vqvae.get("default_qresi_counts", 0),
            "phi_ratio": abs(vqvae["quant_resi"]), "beta": vqvae["beta"],
            "cosine_search": vqvae["using_znorm"], "attention": backbone.get("using_sa", True),
            "mid_attention": backbone.get("using_mid_sa", True)}


@system.part("mid_f", "mid_fhat_*", "out_idx_*", "out_recon", "out_var_input", "out_vq_*")
def tokenizer(golden: Golden):
    model = golden.load(VARTokenizer, "vqvae", **tokenizer_config(golden.settings))
    quantizer, given = model.bottleneck, [golden[name] for name in golden.names("in_idx_*")]
    features = model.encode_grid(golden["in_image"])
    size = features.shape[2:]
    maps, totals = quantizer.encode_scales(features)
    output = quantizer(to_sequence(features))
    decoded = quantizer.decode(torch.cat(given, dim=1))
    return {"mid_f": features, "mid_fhat_first": totals[0], "mid_fhat_last": totals[-1],
            **{f"mid_fhat_{scale}": total for scale, total in enumerate(totals)},
            **{f"out_idx_{scale}": indices for scale, indices in enumerate(maps)},
            "out_recon": model.decode_grid(totals[-1]).clamp(-1, 1),
            "out_idx_to_img": model.decode_grid(to_grid(decoded, size)).clamp(-1, 1),
            "out_var_input": quantizer.generator_inputs(given), "out_vq_fhat": to_grid(output.values, size),
            "out_vq_loss": output.loss,
            "out_vq_usages": 100 * quantizer.used_shares(to_sequence(features).shape[:2].numel())}


@system.part("out_phi_index*")
def phis(golden: Golden):
    own = len(golden.settings["vqvae"]["v_patch_nums"])
    made = {}
    for name in golden.names("out_phi_index*"):
        suffix = name.removeprefix("out_phi_index").removeprefix("_")
        scales = {"": own, "published": PUBLISHED_SCALES}.get(suffix) or int(suffix)
        num_phis = tokenizer_config(golden.settings)["num_phis"] or scales
        made[name] = torch.tensor([phi_index(scale, scales, num_phis) for scale in range(scales)])
    return made


def generator_config(settings: dict, name: str) -> dict:
    """Our arguments of the official settings of ``var`` or ``var_shared``."""
    given, vqvae = settings[name], settings["vqvae"]
    names = {"scales": "patch_nums", "num_classes": "num_classes", "width": "embed_dim", "depth": "depth",
             "num_heads": "num_heads", "mlp_ratio": "mlp_ratio", "eps": "norm_eps", "cosine": "attn_l2_norm",
             "shared_adaln": "shared_aln", "label_drop": "cond_drop_rate"}
    config = {ours: given[theirs] for ours, theirs in names.items() if theirs in given}
    return config | {"token_width": vqvae["z_channels"], "num_codes": vqvae["vocab_size"]}


def load_generator(golden: Golden, name: str = "var") -> VAR:
    return golden.load(VAR, "weights" if name == "var" else name, **generator_config(golden.settings, name))


def load_tokenizer(golden: Golden) -> VARTokenizer:
    return golden.load(VARTokenizer, "vqvae", **tokenizer_config(golden.settings))


@system.part("out_logits*", "out_loss*", "out_attn_bias", "out_lvl_1L")
def teacher(golden: Golden):
    tokenizer, labels, made = load_tokenizer(golden), golden["in_labels"], {}
    maps = [golden[name] for name in golden.names("out_idx_[0-9]*")]
    for name, suffix in (("var", ""), ("var_shared", "_shared")):
        model = load_generator(golden, name)
        model.connect(tokenizer)
        made[f"out_logits{suffix}"] = model.teacher_logits(tokenizer.bottleneck.generator_inputs(maps), labels)
        made[f"out_loss{suffix}"] = model.loss(Tokens(torch.cat(maps, dim=1)), ClassLabels(labels)).loss
    bias = torch.where(model.attention_mask(), 0.0, MINUS_INFINITY)
    return made | {"out_attn_bias": bias, "out_lvl_1L": model.levels()[None]}


@system.part("out_filter_*")
def filters(golden: Golden):
    logits = golden["in_logits"]
    settings = {"topk": {"top_k": 7}, "topk_topp": {"top_k": 20, "top_p": 0.8}}
    return {f"out_filter_{name}": filter_logits(logits, **given).clamp(min=MINUS_INFINITY)
            for name, given in settings.items()}


def replay_codes(golden: Golden, scope: str, rows: int, num_codes: int) -> ReplayNoise:
    """Uniform draws that lead to the recorded codes: 1 for the code that was drawn, 0 for the others."""
    draws = (draw.view(rows, -1) for _, draw in golden.draws(scope))
    return golden.noise(uniform=[torch.nn.functional.one_hot(codes, num_codes).float() for codes in draws])


def generated(golden: Golden, name: str, noise: ReplayNoise, model: str = "var", **options) -> dict:
    tokenizer, generator = load_tokenizer(golden), load_generator(golden, model)
    generator.connect(tokenizer)
    logits, codes = zip(*generator.sample_scales(golden["in_labels"], noise, generator.Sampler(**options)))
    image = tokenizer.decode(Tokens(torch.cat(codes, dim=1)))
    return {f"mid_gen_{name}_logits": torch.cat(logits, dim=1), f"out_gen_{name}_idx": torch.cat(codes, dim=1),
            f"out_gen_{name}_image": (image + 1) / 2}


@system.part("mid_gen_*", "out_gen_*", tolerance=1e-4)
def sampling(golden: Golden):
    scale, nothing = 1 + golden.settings["cfg"], ReplayNoise()
    num_codes = golden.settings["vqvae"]["vocab_size"]
    drawn = replay_codes(golden, "sample_topk_topp", len(golden["in_labels"]), num_codes)
    return {**generated(golden, "greedy", nothing, guidance_scale=scale, temperature=0),
            **generated(golden, "greedy_shared", nothing, "var_shared", guidance_scale=scale, temperature=0),
            **generated(golden, "greedy_nocfg", nothing, temperature=0),
            **generated(golden, "topk_topp", drawn, guidance_scale=TOPK_TOPP_SCALE, top_k=num_codes // 4, top_p=0.96)}
