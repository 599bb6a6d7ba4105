"""xAR: cells, rotary tables, single steps with cache, the sampler and the loss."""

from __future__ import annotations

import torch
from golden import Golden, System

from photophone.core.tokens import Tokens
from photophone.generators.conditions import ClassLabels
from photophone.generators.xar.model import XAR, time_ids
from photophone.kernels.rotary import rotate
from photophone.layers.flow import PATHS, euler, sde_time_grid, time_grid
from photophone.tokenizers.grid import to_grid, to_sequence

system = System("xar")


def load(golden: Golden) -> XAR:
    settings = golden.settings["xar"]
    cells = round(settings["clusters"] ** 0.5)
    return golden.load(
        XAR, grid_size=settings["img_size"] // settings["vae_stride"], token_dim=settings["vae_embed_dim"],
        cells_per_side=cells, num_classes=settings["class_num"], width=settings["encoder_embed_dim"],
        encoder_depth=settings["encoder_depth"], encoder_heads=settings["encoder_num_heads"],
        decoder_depth=settings["decoder_depth"], decoder_heads=settings["decoder_num_heads"],
        mlp_ratio=settings["mlp_ratio"], label_drop=settings["label_drop_prob"])


@system.part("out_clusterify", "out_unclusterify", "out_rope_*", "out_time_embed_int")
def parts(golden: Golden):
    model = load(golden)
    order, size = model.order(), golden["in_latent"].shape[2:]
    cells = to_sequence(golden["in_latent"])[:, order]
    made = {"out_clusterify": cells.unflatten(1, (model.num_cells, -1)),
            "out_unclusterify": to_grid(cells[:, order.argsort()], size),
            "out_time_embed_int": model.time_embed(time_ids(torch.tensor([0, 0.04, 0.5, 0.999, 1.0])))}
    x = golden["in_rope_x"]
    for scale, given in ((1, x), (3, x[:, :, : model.cell_size])):
        stop = (scale + 1) * model.cell_size
        table = model.rotary(model.config.encoder_heads)[stop - given.shape[2]:stop]
        made[f"out_rope_scale{scale}"] = rotate(given, table)
    return made


@system.part("out_v_*", "mid_cache_*")
def steps(golden: Golden):
    model, labels = load(golden), golden["in_labels"]
    cache, made = model.caches(len(labels)), {}
    first, later = (time_ids(golden[f"in_t_{name}"])[:, None] for name in ("first", "cont"))
    calls = [("cell0_update", golden["in_cell"], first, 0, 0), ("cell0_cont", golden["in_cell"] * 0.5, later, 0, 0),
             ("cell1_update", golden["in_cell2"], torch.cat([torch.zeros_like(first), first], dim=1), 0, 1),
             ("cell1_cont", golden["in_cell"], later, 1, 1)]
    for name, x, ids, start, keep in calls:
        out = model.velocity(x, model.condition(labels, ids), start, cache)
        for layer in cache:
            layer.truncate(keep * model.cell_size)
        made[f"out_v_{name}"] = out[:, -model.cell_size:]
        if name == "cell1_update":
            made["mid_cache_k_enc0_after_cell1"] = cache[0].buffer[0, :, :, : cache[0].length].clone()
    return made


@system.part("out_tgrid", "out_time_ids_*", "out_score")
def grids(golden: Golden):
    t = golden["in_t_first"].double()[:, None, None]
    velocity = golden["in_cell"].double()
    made = {name: time_ids(sde_time_grid(int(name.split("_")[-1]))[:-1]) for name in golden.names("out_time_ids_*")}
    return made | {"out_tgrid": sde_time_grid(golden.settings["num_steps"]),
                   "out_score": PATHS["linear"].score(velocity, velocity.flip(0), t)}


def sample(golden: Golden, model: XAR, scope: str, rows: int, **options) -> torch.Tensor:
    tokens = model.generate(ClassLabels(golden["in_labels"][:rows]), noise=golden.replay(scope),
                            sampler=model.Sampler(**options)).values
    return to_grid(tokens, (model.config.grid_size,) * 2)


@system.part("out_sample_*", "out_euler_*", tolerance=1e-4)
def sampling(golden: Golden):
    model, settings, labels = load(golden), golden.settings, golden["in_labels"]
    guided, plain = settings["sample_rows"]
    both = torch.cat([labels, torch.full_like(labels, model.config.num_classes)])
    velocity = model.cell_velocity(both, 0, settings["cfg"], model.caches(len(both)))
    draws = len(golden.config["draws"]["sample_nocfg"]) // model.num_cells
    return {"out_sample_cfg": sample(golden, model, "sample_cfg", guided, guidance_scale=settings["cfg"],
                                     num_inference_steps=settings["num_steps"]),
            "out_sample_nocfg": sample(golden, model, "sample_nocfg", plain, num_inference_steps=draws),
            "out_euler_cell0": euler(velocity, golden["in_cell"].double(), time_grid(settings["num_steps"]))}


@system.part("out_loss")
def loss(golden: Golden):
    model, labels = load(golden), golden["in_labels"]
    _, times, *noises = (draw for _, draw in golden.draws("forward"))  # the first would drop labels
    noise = golden.noise(normal=[times.view(model.num_cells, len(labels)).t(), torch.cat(noises, dim=1)])
    return {"out_loss": model.loss(Tokens(to_sequence(golden["in_latent"])), ClassLabels(labels), noise=noise).loss}
