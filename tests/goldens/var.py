"""VAR: the multi-scale tokenizer."""

from __future__ import annotations

import torch
from golden import Golden, System

from photophone.quantizers.multi_scale import phi_index
from photophone.tokenizers.grid import to_grid, to_sequence
from photophone.tokenizers.var_vq import VARTokenizer

system = System("var")
PUBLISHED_SCALES = 10


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
    features = model.latents(golden["in_image"])
    size = features.shape[2:]
    maps, totals = quantizer.encode_scales(features)
    output = quantizer(to_sequence(features))
    decoded = quantizer.decode(torch.cat(given, dim=1))
    return {"mid_f": features, "mid_fhat_first": totals[0], "mid_fhat_last": totals[-1],
            **{f"mid_fhat_{scale}": total for scale, total in enumerate(totals)},
            **{f"out_idx_{scale}": indices for scale, indices in enumerate(maps)},
            "out_recon": model.reconstruct(totals[-1]).clamp(-1, 1),
            "out_idx_to_img": model.reconstruct(to_grid(decoded, size)).clamp(-1, 1),
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
