"""BitDance: the tokenizer, the binary diffusion head, and the transformer for classes, one or many tokens a step."""

from __future__ import annotations

import torch
from golden import Golden, System
from torch import Tensor

from photophone.core.tokens import Tokens
from photophone.generators.bitdance.model import BitDance
from photophone.generators.conditions import ClassLabels
from photophone.layers.vqgan import BlockStyle, ResnetBlock
from photophone.layers.vqgan_keys import convert_vqgan_keys
from photophone.quantizers.binary import GFQ
from photophone.tokenizers.bitdance.model import BitDanceTokenizer
from photophone.tokenizers.grid import to_grid, to_sequence

system = System("bitdance")
NAMES = {"dim": "width", "n_layer": "depth", "n_head": "num_heads", "diff_layers": "head_depth",
         "diff_dim": "head_width", "diff_adanln_layers": "head_modulations", "cls_token_num": "class_tokens",
         "num_classes": "num_classes", "latent_dim": "token_dim", "perturb_rate": "bit_flip",
         "class_dropout_prob": "label_drop", "diff_batch_mul": "batch_mul", "P_mean": "time_mean", "P_std": "time_std",
         "time_schedule": "time_distribution", "time_shift": "time_shift"}


def tokenizer(golden: Golden, **config) -> BitDanceTokenizer:
    given = golden.settings.get("vae") or golden.settings
    sizes = given["ddconfig"]
    state = {key.removeprefix("vae."): value for key, value in golden.state().items()
             if key.startswith("vae.") or "vae" not in golden.settings}
    return BitDanceTokenizer.from_original(
        state, channels=sizes["ch"], multipliers=sizes["ch_mult"], blocks=sizes["num_res_blocks"],
        token_dim=sizes["z_channels"], num_codebooks=given.get("num_codebooks", 1), **config)


def load(golden: Golden, **changes) -> BitDance:
    given = golden.settings["model"]
    config = {ours: given[theirs] for theirs, ours in NAMES.items()}
    return golden.load(BitDance, grid_size=given["resolution"] // given["down_size"],
                       num_codebooks=(golden.settings["vae"] or {}).get("num_codebooks", 1),
                       step_side=round(given.get("parallel_num", 1) ** 0.5), **config | changes)


@system.part("mid_vae_*", "out_vae_*", "out_quantizer_*", "out_resblock")
def images(golden: Golden):
    model = tokenizer(golden)
    latents = model.encode_grid(golden["in_image"])
    size, codes = latents.shape[2:], model.bottleneck.encode(to_sequence(latents))
    values = model.bottleneck.decode(codes)
    losses = GFQ(model.config.token_dim, model.config.num_codebooks)(to_sequence(golden["in_quantizer_z"])).metrics
    widths = golden.settings["resblock"]
    block = ResnetBlock(*widths, BlockStyle(conv_bias=False))
    block.load_state_dict(convert_vqgan_keys(golden.state("resblock")))
    return {"mid_vae_encoder": latents, "out_vae_quant": to_grid(values, size),
            "out_vae_indices": codes.transpose(1, 2).flatten(0, 1), "out_vae_bits_of_indices": values.flatten(0, 1),
            "out_vae_decode": model.decode_grid(to_grid(values, size)),
            "out_quantizer_sample_entropy": losses["row_entropy"],
            "out_quantizer_codebook_entropy": losses["batch_entropy"],
            "out_quantizer_entropy_loss": losses["row_entropy"] - losses["batch_entropy"],
            "out_resblock": block(golden["in_resblock_x"])}


def blocks(golden: Golden, name: str) -> Tensor:
    """A recorded tensor of the head, (B, P, C)."""
    return golden[name] if golden[name].ndim == 3 else golden[name][:, None]


def head_draws(golden: Golden, scope: str, draws: list[Tensor] | None = None) -> dict[str, list[Tensor]]:
    """Draws of the head's loss: rows of their own, one time a block."""
    first, second = draws or [draw for _, draw in golden.draws(scope)]
    block = second.unflatten(0, (len(first), -1)).shape[1:] if second.ndim == 2 else second.shape[1:]
    return {"time": first, "eps": second.reshape(len(first), 1, 1, *block)}


def head_losses(golden: Golden):
    """(name, head, noise) of each recorded loss of the head."""
    for name in ("", "_shift", "_uniform"):
        scope = f"head_loss{name}"
        changes = {"_shift": {"time_shift": golden.settings["time_shift"]},
                   "_uniform": {"time_distribution": "uniform"}}.get(name, {})
        draws = head_draws(golden, scope)
        kind = "uniform" if name == "_uniform" else "normal"
        records = {"normal": [draws["eps"]]}
        records[kind] = [draws["time"][:, None, None], *records.get(kind, [])]
        yield scope, load(golden, batch_mul=1, **changes).token_head, golden.noise(**records)


@system.part("out_head", "out_head_loss*", "mid_head_time")
def head(golden: Golden):
    model = load(golden)
    net, target = model.token_head.net, blocks(golden, "in_head_target")
    cond = blocks(golden, "in_head_cond")
    made = {"out_head": net(blocks(golden, "in_head_x"), golden["in_head_t"], cond).view_as(golden["out_head"]),
            "mid_head_time": net.time_embed(golden["in_head_t"])}
    for name, one, noise in head_losses(golden):
        made[f"out_{name}"] = one.loss(cond, target, noise=noise)
    return made


def solved(golden: Golden, scope: str, hidden: Tensor, shift: float = 1.0, **options) -> Tensor:
    head = load(golden, time_shift=shift).token_head
    rows = len(hidden) // (2 if options else 1)
    draws = [draw if draw.ndim == 3 else draw[:, None] for _, draw in golden.draws(scope)]
    assert len(draws[0]) == rows
    return head.solve(hidden, noise=golden.noise(normal=draws), num_steps=golden.settings["steps"], **options)


@system.part("out_head_sample*", tolerance=1e-4)
def head_samples(golden: Golden):
    cond = blocks(golden, "in_head_cond")
    made = {"out_head_sample": solved(golden, "head_sample", cond),
            "out_head_sample_shift": solved(golden, "head_sample_shift", cond, golden.settings["time_shift"]),
            "out_head_sample_cfg": solved(golden, "head_sample_cfg", blocks(golden, "in_head_cond_cfg"),
                                          guidance=golden.settings["head_cfg"]).repeat(2, 1, 1)}
    return {name: value.view_as(golden[name]) for name, value in made.items()}


def codes_of(model: BitDance, golden: Golden) -> Tensor:
    return model.packing.encode(to_sequence(golden["in_bits"]))


@system.part("mid_freqs_cis", "mid_hidden", "out_patchify", "out_cached_hidden")
def states(golden: Golden):
    model, labels = load(golden), golden["in_labels"]
    bits = model.bits(codes_of(model, golden))
    model_cache = cached_states(model, bits, labels)
    return {"mid_freqs_cis": model.rotary(), "out_patchify": bits, "mid_hidden": model.teacher_states(bits, labels),
            "out_cached_hidden": model_cache}


def cached_states(model: BitDance, bits: Tensor, labels: Tensor) -> Tensor:
    """States of all tokens, block by block with a cache."""
    from photophone.decoding.loop import KVCache

    config = model.config
    cache = KVCache(config.depth, len(labels), config.num_heads, len(model.rotary()), config.width // config.num_heads)
    parts = [model.states(model.prefix(labels), 0, cache)[:, -model.block:]]
    for known in bits[:, :-model.block].split(model.block, dim=1):
        parts.append(model.states(model.token_in(known), cache.length, cache))
    return torch.cat(parts, dim=1)


@system.part("out_loss_*")
def losses(golden: Golden):
    made = {}
    for mode in ("eval", "train"):
        model, labels = load(golden), ClassLabels(golden["in_labels"])
        *others, time, eps = (draw for _, draw in golden.draws(f"loss_{mode}"))
        shape = (model.config.batch_mul, len(labels), -1)  # the whole batch again and again
        time = time.view(*shape).transpose(0, 1)
        eps = eps.reshape(*shape, model.block, eps.shape[-1]).transpose(0, 1)
        noise = golden.noise(normal=[time, eps], uniform=others)
        made[f"out_loss_{mode}"] = model.train(mode == "train").loss(
            Tokens(codes_of(model, golden)), labels, noise=noise).loss
    return made


@system.part("out_sample_*_image", tolerance=1e-4)  # theirs is 3.4e-5 away from the same decoder in float64
def sample_images(golden: Golden):
    model = tokenizer(golden)
    return {name: model.decode_grid(golden[name.replace("_image", "_bits")])
            for name in golden.names("out_sample_*_image")}


@system.part("out_sample_*_bits")
def samples(golden: Golden):
    model, made = load(golden), {}
    settings, labels = golden.settings, ClassLabels(golden["in_labels"])
    for name, options in (("plain", {}), ("linear", {"guidance_scale": settings["cfg"]}),
                          ("constant", {"guidance_scale": settings["cfg"], "guidance_schedule": "constant"})):
        draws = [draw.reshape(len(draw), model.block, -1) for _, draw in golden.draws(f"sample_{name}")]
        # both branches of guidance draw for themselves at first: ours lie side by side
        draws = [draw if len(draw) == len(labels) else draw.unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1)
                 for draw in draws]
        tokens = model.generate(labels, noise=golden.noise(normal=draws),
                                sampler=model.Sampler(num_inference_steps=settings["steps"], **options))
        side = model.config.grid_size
        made[f"out_sample_{name}_bits"] = to_grid(model.packing.decode(tokens.values), (side, side))
    return made
