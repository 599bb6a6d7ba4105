"""ALIT on a VQGAN: passes, halting, the choice of a length, and the losses of both stages."""

from __future__ import annotations

from golden import Golden, System
from torch import Tensor

from photophone.core.noise import ReplayNoise
from photophone.tokenizers.alit.model import ALIT

system = System("alit")


def shared_config(settings: dict) -> dict:
    """Our arguments of the official ``alit`` settings."""
    return {"image_size": settings["img_size"], "patch": settings["patch_size"],
            **{f"{part}_size": [settings[f"{part}_{size}"] for size in ("width", "num_layers", "num_heads")]
               for part in ("encoder", "decoder")},
            "pass_tokens": settings["num_init_latent_tokens"], "iterations": settings["max_rollout_iters"],
            "token_width": settings["vq_token_dim"] if settings["factorize_latent"] else None,
            "num_codes": settings["vq_codebook_size"] if settings["quantize_latent"] else None,
            "l2_norm": settings["vq_use_l2_norm"], "commitment": settings["vq_commitment_cost"],
            "halting_threshold": settings["dynamic_halting_threshold"] if settings["dynamic_halting"] else None}


def load(golden: Golden) -> ALIT:
    vqgan = golden.settings["vqgan_yaml"]
    base = {"channels": vqgan["ch"], "multipliers": vqgan["ch_mult"], "blocks": vqgan["num_res_blocks"],
            "token_width": vqgan["z_channels"], "num_codes": vqgan["n_embed"]}
    return golden.load(ALIT, base="vqgan", base_config=base, **shared_config(golden.settings["alit"]))


def replay(golden: Golden, scope: str) -> ReplayNoise | None:
    """Uniform draws that lead to the recorded cells. The last draw has no effect, and ours has none there."""
    if not golden.settings["alit"]["dynamic_halting"]:
        return None
    drawn = [golden[name] for name in golden.names(f"in_noise_{scope}_*_bernoulli")]
    return golden.noise(uniform=[1 - mask for mask in drawn[:-1]])


def images_of(golden: Golden) -> Tensor:
    return golden["in_image"] * 2 - 1


def pixels(images: Tensor) -> Tensor:
    return (images + 1) / 2


@system.part("mid_vqgan_tokens", "out_gt_indices", "out_vqgan_recon_of_gt")
def base(golden: Golden):
    model, images = load(golden), images_of(golden)
    grid = model.base.encode_grid(images)
    _, truth = model.cells(images, None)
    return {"mid_vqgan_tokens": grid, "out_gt_indices": truth,
            "out_vqgan_recon_of_gt": pixels(model.cell_pixels(model.base.bottleneck.decode(truth)))}


@system.part("out_recon_*", tolerance=1e-4, relative=True)
def pictures(golden: Golden):
    """The decoder normalises nearly constant maps, the mean codes of untrained logits: the official output itself is
    5e-5 off what the same weights make in float64."""
    model, made = load(golden), {}
    for step, found in enumerate(model.passes(images_of(golden), replay(golden, "fwd"))):
        made[f"out_recon_{step}"] = pixels(model.reconstruct(model.bottleneck(found.hidden).values))
    return made


@system.part("mid_encoder_iter0", "mid_quantized_*", "out_latent_tokens_*", "out_quant_indices_*", "out_logits_*",
             "out_quantizer_loss_*")
def passes(golden: Golden):
    model, images = load(golden), images_of(golden)
    cells, _ = model.cells(images, None)
    made = {"mid_encoder_iter0": model.encoder.advance(model.encoder.begin(cells))}
    for step, found in enumerate(model.passes(images, replay(golden, "fwd"))):
        output = model.bottleneck(found.hidden)
        made |= {f"mid_quantized_{step}": output.values, f"out_latent_tokens_{step}": found.states,
                 f"out_quant_indices_{step}": output.indices, f"out_quantizer_loss_{step}": output.loss,
                 f"out_logits_{step}": model.draw_cells(output.values)}
    return made


def chosen(golden: Golden, model: ALIT, scope: str, threshold: float) -> dict[str, Tensor]:
    """States of the pass that a threshold chooses, and their picture."""
    tokens = model.shortest(images_of(golden), threshold, replay(golden, f"enc_{scope}"))
    found = list(model.passes(images_of(golden), replay(golden, f"enc_{scope}")))
    step = model.steps_of(int(tokens.lengths[0])) - 1
    return {f"out_encode_{scope}_embed": found[step].states,
            f"out_encode_{scope}_recon": pixels(model.reconstruct(model.bottleneck.decode(tokens.values)))}


@system.part("out_encode_*", tolerance=1e-4, relative=True)
def lengths(golden: Golden):
    """See :func:`pictures` for the tolerance."""
    model, made = load(golden), {}
    for scope, threshold in (("best", 0.0), ("first", 100.0)):
        made |= chosen(golden, model, scope, threshold)
    return made


@system.part("out_pretrain_*")
def distillation(golden: Golden):
    model, images = load(golden), images_of(golden)
    total, parts = model.distillation(images, replay(golden, "pre_train"))
    made = {"out_pretrain_total_loss": total}
    for step, part in enumerate(parts):
        made |= {f"out_pretrain_{name}_{step}": part[name] for name in ("nll", "code")}
    (name,) = golden.names("in_noise_pre_eval_*_multinomial")
    codes = golden[name].view(len(images), -1)  # drawn from the logits of the last pass
    return made | {"out_pretrain_recon_last": pixels(model.cell_pixels(model.base.bottleneck.decode(codes)))}
