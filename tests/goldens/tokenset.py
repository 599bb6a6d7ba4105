"""TokenSet: the tokenizer of sets, the DiT and fixed-sum discrete diffusion."""

from __future__ import annotations

from unittest import mock

import torch
from golden import Golden, System
from torch import Tensor

from photophone.core.tokens import Tokens
from photophone.decoding import fixed_sum
from photophone.decoding.fixed_sum import (
    CountDraw,
    adjust_sum,
    codes_of,
    count_codes,
    count_densities,
    decode_fixed_sum,
    spread_units,
)
from photophone.generators.conditions import ClassLabels
from photophone.generators.tokenset.model import TokenSetDiT, TokenSetSampler
from photophone.tokenizers.tokenset.model import SetTokenizer

system = System("tokenset")
TOP_K, ADJUST_FROM = 2, 1.0
"""Of the recorded sharp run."""
CFG = 3.0


def tokenizer_config(settings: dict) -> dict:
    """Our arguments of the official ``tokenizer`` settings and of what replaces its fixed sizes."""
    own, sizes = settings["tokenizer"], settings["tok_sizes"]
    size = [sizes["width"], sizes["layers"], sizes["heads"]]
    return {"image_size": own["crop_size"], "num_tokens": own["num_latent_tokens"], "token_width": own["token_size"],
            "num_codes": own["codebook_size"], "encoder_size": size, "decoder_size": size,
            "encoder_patch": own["vit_enc_patch_size"], "decoder_patch": own["vit_dec_patch_size"],
            "pixel_decoder": {"channels": sizes["hidden_channels"], "multipliers": sizes["channel_mult"],
                              "blocks": sizes["num_res_blocks"], "token_width": sizes["z_channels"]}}


def load_dit(golden: Golden) -> TokenSetDiT:
    own = golden.settings["dit"]
    return golden.load(TokenSetDiT, "dit", num_codes=own["token_len"], num_tokens=own["output_channels"] - 1,
                       num_classes=own["num_classes"], width=own["hidden_size"], depth=own["depth"],
                       num_heads=own["num_heads"], mlp_ratio=own.get("mlp_ratio", 4.0))


@system.part("mid_tok_*", "out_tok_*", "out_pixels_uint8")
def tokenizer(golden: Golden):
    model = golden.load(SetTokenizer, "tokenizer", **tokenizer_config(golden.settings))
    latents = model.latents(golden["in_image"])
    output = model.bottleneck(latents)
    recon = model.reconstruct(output.values)
    again = model.reconstruct(model.bottleneck.decode(output.indices))
    pixels = (127.5 * golden["out_tok_recon_from_codes"] + 128).clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8)
    return {"mid_tok_encoder": latents.transpose(1, 2)[:, :, None],
            "out_tok_zq": output.values.transpose(1, 2)[:, :, None], "out_tok_codes": output.indices[:, None],
            "mid_tok_decoder": model.cells(output.values), "out_tok_recon": recon, "out_tok_recon_from_codes": again,
            "out_pixels_uint8": pixels}


@system.part("out_dit_*")
def dit(golden: Golden):
    model, counts = load_dit(golden), golden["in_dit_x"]
    logits = model.logits(counts, golden["in_dit_t"], golden["in_dit_y"])
    guided = model.probabilities(counts, golden["in_dit_t"][0].item(), torch.tensor([2, 1]), CFG)
    return {"out_dit_logits": logits, "out_dit_softmax": logits.softmax(-1), "out_dit_cfg": guided.repeat(2, 1, 1)}


@system.part("out_quantize_tensor", "out_greedy_adjust", "mid_z_init")
def helpers(golden: Golden):
    total = golden.settings["fsdd"]["fixed_sum"]
    return {"out_quantize_tensor": spread_units(golden["in_frac"], total),
            "out_greedy_adjust": adjust_sum(golden["in_z0"], golden["in_probs"], total),
            "mid_z_init": spread_units(golden["in_noise_z_u"], total)[..., None]}


def states(golden: Golden, sampler: TokenSetSampler, prediction: CountDraw, transition: CountDraw) -> Tensor:
    """All states of a run with those of its second half of rows, which the official sampler carries and throws away."""
    model, settings = load_dit(golden), golden.settings["fsdd"]
    labels, total = golden["in_gen_y"], settings["fixed_sum"]
    start = spread_units(golden["in_noise_z_u"], total).repeat(2, 1)
    draws = [draw.unflatten(0, (len(start), -1)) for step in range(settings["N"])
             for draw in (golden["in_noise_x0"][step], golden["in_noise_xt"][step])]

    def predict(counts: Tensor, time: float) -> Tensor:
        return model.probabilities(counts[:len(labels)], time, labels, sampler.guidance_at(time)).repeat(2, 1, 1)

    made = decode_fixed_sum(predict, start, total, settings["N"], noise=golden.noise(exponential=draws),
                            prediction=prediction, transition=transition, sharpness=sampler.sharpness)
    return torch.stack([start, *(part for pair in made for part in pair)])[..., None]


@system.part("out_traj*", "out_counts", "out_sampled_tokens", "out_sum_counts", "mid_n_fallback_steps")
def sampling(golden: Golden):
    settings = golden.settings["fsdd"]
    schedule = settings["sigma_schedule"]
    steepness, middle = schedule.removeprefix("sigmoid").split("_") if "sigmoid" in schedule else (0, 0)
    sampler = TokenSetSampler(guidance_scale=settings["cfg_scale"], spread_steepness=float(steepness),
                              guidance_stages=settings.get("cfg_threshold", "").replace("_", ","),
                              spread_until=float(middle))
    lost = []

    def recording(*arguments):
        shares = count_densities(*arguments)
        lost.append(bool(shares.isnan().any()))
        return shares

    with mock.patch.object(fixed_sum, "count_densities", recording):
        usual = states(golden, sampler, CountDraw(0, settings["top_p"], settings["adjust_step"]), CountDraw())
    sharp = CountDraw(TOP_K, adjust_from=ADJUST_FROM)
    last = usual[-1, :len(golden["in_gen_y"])]
    return {"out_traj": usual, "out_traj_topk2": states(golden, sampler, sharp, sharp), "out_counts": last.float(),
            "out_sampled_tokens": codes_of(last[..., 0], settings["fixed_sum"]),
            "out_sum_counts": last[..., 0].sum(dim=1),
            "mid_n_fallback_steps": torch.tensor([sum(lost)])}


@system.part("mid_train_*", "out_train_*")
def training(golden: Golden):
    model, labels = load_dit(golden), golden["in_train_y"]
    counts = count_codes(golden["in_train_tokens"], model.config.num_codes)
    draws = {"uniform": [golden["in_noise_train_z_u"], golden["in_noise_train_t_u"]],
             "exponential": [golden["in_noise_train_zt"][0].unflatten(0, (len(labels), -1))]}
    ztq, times = model.noised(counts, golden.noise(**draws))
    start = spread_units(golden["in_noise_train_z_u"], model.config.num_tokens)
    loss = model.loss(Tokens(golden["in_train_tokens"]), ClassLabels(labels), noise=golden.noise(**draws)).loss
    time = times[:, None]
    return {"out_train_counts": counts, "out_train_ztq": ztq, "mid_train_t": times[:, None, None],
            "mid_train_zt": (time * counts + (1 - time) * start)[..., None], "out_train_loss": loss[None]}
