"""BAR: its quantizer, the masked bit head and the transformer, in raster and random orders, with its loop."""

from __future__ import annotations

import torch
from golden import Golden, System
from torch import Tensor

from photophone.decoding.loop import KVCache
from photophone.generators.bar.head import MASK
from photophone.generators.bar.model import BAR
from photophone.generators.conditions import ClassLabels
from photophone.kernels.pack import bound, pack_levels
from photophone.quantizers.fsq import FSQ, unpack_levels

system = System("bar")


def load(golden: Golden, **changes) -> BAR:
    given, bits = golden.settings["generator"], golden.settings["vq_model"]["token_size"]
    return golden.load(BAR, grid_size=round(given["image_seq_len"] ** 0.5), token_bits=bits,
                       step_side=given.get("patch_size", 1), num_classes=given["condition_num_classes"],
                       class_repeats=given["repeat_class_condition"], width=given["hidden_size"],
                       depth=given["num_hidden_layers"], num_heads=given["num_attention_heads"],
                       head_width=given["mbm_head"]["width"], head_depth=given["mbm_head"]["num_layers"],
                       label_drop=given["class_label_dropout"], **changes)


@system.part("mid_fsq_*", "out_fsq*")
def quantizer(golden: Golden):
    bits, sizes = golden.settings["vq_model"]["token_size"], golden.settings["quantizer"]
    book = FSQ([2] * bits, sizes["in_channel"], out_dim=sizes["out_channel"], signs=True)
    book.load_state_dict({key.replace("in_proj", "project_in").replace("out_proj", "project_out"): value
                          for key, value in golden.state("quantizer").items()})
    projected = book.project_in(golden["in_fsq_z"])
    output = book(golden["in_fsq_z"])
    raw = bound(golden["in_fsq_raw"], torch.tensor([2] * bits)).round() * 2 + 1
    return {"mid_fsq_projected": projected, "mid_fsq_bound": book._bounded(golden["in_fsq_z"]),
            "out_fsq": output.values, "out_fsq_bits": unpack_levels(output.indices, [2] * bits), "out_fsq_raw": raw,
            "out_fsq_entry": book.decode(output.indices)}


@system.part("out_head", "out_head_mask*", "out_head_loss", "mid_head_time")
def head(golden: Golden):
    model = load(golden)
    head, target = model.token_head, golden["in_head_target"]
    masked, ratio = head.mask(len(target), golden.replay("head_mask"))
    losses, weights = head.bit_loss(golden["in_head_cond"][:, 0], target, golden.replay("head_loss"))
    return {"out_head": head.logits(golden["in_head_ids"], golden["in_head_cond"][:, 0], golden["in_head_ratio"]),
            "out_head_masked": target.masked_fill(masked, MASK), "out_head_mask_ratio": ratio,
            "mid_head_time": head.ratio_embed(golden["in_head_ratio"]),
            "out_head_loss": (losses * weights).sum() / weights.sum()}


@system.part("out_head_sample*")
def head_samples(golden: Golden):
    head, given = load(golden).token_head, golden.settings["sample"]
    options = {"temperature": given["temperature"], "allocation": given["allocation"]}
    return {"out_head_sample": head.sample_bits(golden["in_head_cond"][:, 0], noise=golden.replay("head_sample"),
                                                **options),
            "out_head_sample_cfg": head.sample_bits(golden["in_head_cond_cfg"][:, 0], guidance=given["head_scale"],
                                                    noise=golden.replay("head_sample_cfg"), **options)}


@system.part("out_condition*", "out_none_condition", "mid_rope_*", "out_sampled_orders")
def conditions(golden: Golden):
    model, labels = load(golden), golden["in_labels"]
    model.register_to_config(label_drop=0.5)  # the recorded call was given this share
    drops = golden.replay("condition_drop")
    cos, sin = model.rotary().repeat_interleave(2, dim=1).unbind(-1)
    return {"out_condition": labels + MASK + 1, "out_none_condition": model.null_labels(labels) + MASK + 1,
            "out_condition_drop": model.train().drop_labels(labels, drops) + MASK + 1,
            "mid_rope_cos": cos, "mid_rope_sin": sin,
            "out_sampled_orders": model.draw_orders(len(labels), 0.5, golden.replay("orders"))}


def bits_of(golden: Golden, model: BAR) -> Tensor:
    return model.bits(codes_of(golden, model))


def codes_of(golden: Golden, model: BAR) -> Tensor:
    bits = model.config.token_bits
    return pack_levels(golden["in_ids"].unflatten(1, (-1, bits)), [2] * bits)


@system.part("out_tokens*", "mid_input_embed", "out_latent_*")
def states(golden: Golden):
    model, labels = load(golden), golden["in_labels"]
    bits, rows = bits_of(golden, model), len(labels)
    back = unpack_levels(model.codes(bits), [2] * model.config.token_bits)
    made = {"out_tokens": bits, "out_tokens_back": back, "mid_input_embed": model.embed_bits(bits)}
    for name, orders in (("raster", model.raster(rows)), ("random", golden["in_orders"])):
        read = bits.gather(1, orders[..., None].expand_as(bits))
        made[f"out_latent_{name}"] = model.token_head.condition_in(model.teacher_states(read, labels, orders))
    config, classes, orders = model.config, model.embed_labels(labels), model.raster(rows)
    cache = KVCache(config.depth, rows, config.num_heads, len(model.rotary()), config.width // config.num_heads)
    parts = [model.states(model.prefix(classes), classes, orders, cache)[:, -1:]]
    for index in range(golden["out_latent_cached"].shape[1] - 1):
        parts.append(model.states(model.embed_bits(bits[:, index:index + 1]), classes, orders, cache))
    return made | {"out_latent_cached": model.token_head.condition_in(torch.cat(parts, dim=1))}


@system.part("out_loss_*")
def losses(golden: Golden):
    model, labels = load(golden), golden["in_labels"]
    noise = golden.replay("loss_raster")
    orders = model.draw_orders(len(labels), 0.0, noise)
    bits = bits_of(golden, model)
    return {"out_loss_raster": model.order_loss(bits, labels, orders, noise),
            "out_loss_orders": model.order_loss(bits, labels, golden["in_orders"], golden.replay("loss_orders"))}


@system.part("out_generate_*")
def samples(golden: Golden):
    model, given, made = load(golden), golden.settings["sample"], {}
    options = {"temperature": given["temperature"], "bit_steps": ",".join(map(str, given["allocation"]))}
    for name, more in (("plain", {}), ("cfg", {"guidance_scale": given["scale"]}),
                       ("random_order", {"guidance_scale": given["scale"], "random_order": True})):
        draws = [draw for _, draw in golden.draws(f"generate_{name}")][1:]  # the first would drop labels
        tokens = model.generate(ClassLabels(golden["in_labels"]), noise=golden.noise(uniform=draws),
                                sampler=model.Sampler(**options, **more))
        bits = unpack_levels(tokens.values, [2] * model.config.token_bits)
        made[f"out_generate_{name}"] = bits.flatten(1)
    return made
