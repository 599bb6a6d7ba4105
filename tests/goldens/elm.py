"""ELM: the binary autoencoder, the autoregressive models and the masked one."""

from __future__ import annotations

import math

import torch
from golden import Golden, System

from photophone.core.tokens import Tokens
from photophone.generators.conditions import ClassLabels
from photophone.generators.elm.mlm import ELMMLM
from photophone.generators.elm.model import ELMAR
from photophone.layers.vqgan import ResnetBlock
from photophone.loading.checkpoints import load_strict, rename_keys
from photophone.quantizers.bits import bits_of, indices_of
from photophone.tokenizers.elm_bae.model import BinaryAutoencoder
from photophone.tokenizers.grid import to_grid, to_sequence

system = System("elm")
SCHEDULES = {"constant": "constant", "linear": "linear", "cos": "sine", "log": "log", "square": "square",
             "square_root": "square-root"}
"""Official names of the curves of guidance, and ours."""


def bae_config(settings: dict, num_codebooks: int = 1) -> dict:
    """Our arguments of the official ``bae`` settings."""
    levels = len(settings["ch_mult"])
    return {"image_size": settings["img_size"], "channels": settings["nf"], "multipliers": settings["ch_mult"],
            "blocks": settings["res_blocks"], "decoder_blocks": int(settings["res_blocks"] * settings["gen_mul"]),
            "latent_width": settings["emb_dim"], "bits": settings["codebook_size"], "num_codebooks": num_codebooks,
            "attention_levels": [level for level in range(levels)
                                 if settings["img_size"] // 2**level in settings["attn_resolutions"]],
            "norm_first": settings["norm_first"], "deterministic": settings["deterministic"]}


def load_bae(golden: Golden, **changes) -> BinaryAutoencoder:
    config = bae_config(golden.settings["bae"], golden.settings["ar"]["token_each"])
    return golden.load(BinaryAutoencoder, "bae", **{**config, **changes})


@system.part("mid_bae_*", "out_bae_*")
def bae(golden: Golden):
    model = load_bae(golden, code_weight=1.0)
    grid = model.encode_grid(golden["in_image"] * 2 - 1)
    size, books = grid.shape[2:], model.num_codebooks
    bottleneck, sequence = model.bottleneck, to_sequence(grid)
    output = bottleneck(sequence)
    bits = bits_of(output.indices, bottleneck.bits)  # (B, N, C)
    drawing = load_bae(golden, deterministic=False).bottleneck.train()
    draws = golden.noise(uniform=[to_sequence(golden["in_noise_bernoulli_u"])])
    drawn = bits_of(drawing(sequence, noise=draws).indices, bottleneck.bits)
    indices = indices_of(to_sequence(golden["out_bae_binary"]) > 0, books)
    return {"mid_bae_encoder": grid, "mid_bae_prob": to_grid(bottleneck.project_in(sequence).sigmoid(), size),
            "out_bae_quant": to_grid(output.values, size), "out_bae_binary": to_grid(bits.float(), size),
            "out_bae_code_loss": output.loss[None], "out_bae_binary_bernoulli": to_grid(drawn.float(), size),
            "out_bae_recon": (model.decode_grid(to_grid(bottleneck.decode(output.indices), size)) + 1) / 2,
            "out_bae_indices": indices[..., None] if books == 1 else indices.transpose(1, 2),
            "out_bae_codes_from_indices": to_grid(bits_of(indices, bottleneck.bits).float(), size)}


@system.part("out_resblock")
def resblock(golden: Golden):
    block = ResnetBlock(*golden.settings["resblock"])
    load_strict(block, rename_keys(golden.state("resblock"), [(r"^conv_out\.", "shortcut.")]))
    return {"out_resblock": block(golden["in_resblock_x"])}


def gpt_config(settings: dict) -> dict:
    """Our arguments of the official ModelArgs."""
    given = {"width": "dim", "depth": "n_layer", "num_heads": "n_head", "hidden_multiple": "multiple_of",
             "num_classes": "num_classes", "num_codebooks": "token_each", "code_bits": "code_dim",
             "num_kv_heads": "n_kv_head", "eps": "norm_eps", "rotary_base": "rope_base",
             "hidden_factor": "ffn_dim_multiplier"}
    return {"grid_size": math.isqrt(settings["block_size"]),
            **{ours: settings[theirs] for ours, theirs in given.items() if theirs in settings}}


def load_ar(golden: Golden, name: str) -> ELMAR:
    return golden.load(ELMAR, name, **gpt_config(golden.settings[name]))


@system.part("mid_ar_freqs_cis", "out_ar_logits*", "out_ar_loss", "out_ar1_*")
def teacher(golden: Golden):
    made = {"mid_ar_freqs_cis": load_ar(golden, "ar").rotary()}
    for name, prefix in (("ar", "ar"), ("ar_single", "ar1")):
        model, cells = load_ar(golden, name), golden[f"in_{prefix}_idx"]
        labels = golden["in_ar_cond"] % (model.config.num_classes + 1)
        made |= {f"out_{prefix}_logits": model.teacher_logits(cells[:, :-1], labels).flatten(1, 2),
                 f"out_{prefix}_loss": model.loss(Tokens(model.in_books(cells)), ClassLabels(labels)).loss[None]}
    model = load_ar(golden, "ar")
    nothing = golden["in_ar_idx"][:, :0]
    return made | {"out_ar_logits_prefix": model.teacher_logits(nothing, golden["in_ar_cond"]).flatten(1, 2)}


@system.part("out_ar_gen_*")
def ar_sampling(golden: Golden):
    model, settings, made = load_ar(golden, "ar"), golden.settings["gen"], {}
    books = model.config.num_codebooks
    draws = golden["in_noise_argen"].unflatten(0, (-1, books)).transpose(1, 2)[..., None, :]  # (N, B, Q, 1, V)
    draws = draws[:, :, 0] if books == 1 else draws
    for theirs, ours in SCHEDULES.items():
        sampler = model.Sampler(guidance_scale=settings["cfg_scale"], guidance_schedule=ours,
                                temperature=settings["temperature"], top_k=settings["top_k"])
        tokens = model.generate(ClassLabels(golden["in_gen_cond"]), noise=golden.noise(exponential=draws.unbind()),
                                sampler=sampler)
        made[f"out_ar_gen_{theirs}"] = model.in_cells(tokens.values)
    return made


@system.part("out_mlm_*")
def mlm(golden: Golden):
    model = golden.load(ELMMLM, "mlm", **gpt_config(golden.settings["mlm"]))
    cells, masked = golden["in_mlm_idx"], golden["in_mlm_mask"].bool()
    codes, hidden = cells.flatten(1), masked[..., None].expand_as(cells).flatten(1)
    logits = model.logits(codes.masked_fill(hidden, model.mask_id), golden["in_mlm_cond"])
    settings, rows = golden.settings["mlm_gen"], len(golden["in_gen_cond"])
    drawn = golden["in_noise_mlmgen"].unflatten(1, (rows, -1))  # (S, B, N Q, V)
    draws = [draw for pair in zip(drawn, torch.exp(-golden["in_noise_mlmgumbel"])) for draw in pair]
    sampler = model.Sampler(guidance_scale=settings["cfg_scale"], num_order_steps=settings["num_iter"],
                            temperature=settings["temperature"],
                            guidance_schedule=settings.get("cfg_schedule", "constant"))
    tokens = model.generate(ClassLabels(golden["in_gen_cond"]), noise=golden.noise(exponential=draws), sampler=sampler)
    return {"out_mlm_logits": logits, "out_mlm_loss": model.masked_loss(cells, masked, golden["in_mlm_cond"])[None],
            "out_mlm_gen": model.in_cells(tokens.values)}
