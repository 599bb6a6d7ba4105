"""CSpD: the head with given noise, the acceptance rule, and the decoding loop of two MARs."""

from __future__ import annotations

import torch
from golden import Golden, System
from mar import mar_config
from torch import Tensor
from torch.nn.functional import fold

from photophone.core.noise import ReplayNoise
from photophone.generators.conditions import ClassLabels
from photophone.generators.cspd.model import (
    LastStep,
    SpeculativeMAR,
    _Denoising,
    acceptance_ratio,
    closeness,
    density,
    factor,
    residual_sample,
    residual_share,
    speculative_sample,
)
from photophone.generators.mar.model import MAR
from photophone.kernels.solver import combine_guidance
from photophone.layers.gaussian_diffusion import learned_range_log_variance, posterior_mean, predict_x0

system = System("cspd")
CLASSES = 1000  # rows of the class table, whatever the settings say
HEAD_CFG = {"guidance": 2.0, "temperature": 0.97}  # as config["io"] states them


def model_config(settings: dict) -> dict:
    return {**mar_config(settings), "num_classes": CLASSES}


def steps(golden: Golden) -> tuple[LastStep, LastStep]:
    """Draft and target of the acceptance tensors."""
    return tuple(LastStep(*(golden[f"in_x{part}_{name}"] for name in ("mean", "std", "log_var"))) for part in (1, 2))


def rows_of(golden: Golden, scope: str) -> ReplayNoise:
    """The draws of a scope over N tokens as draws of one row of N tokens."""
    records = golden.replay(scope).records
    golden.replays.pop()
    return golden.noise(**{kind: [draw[None] for draw in records[kind]] for kind in ("normal", "uniform")})


@system.part("out_t*_q_unnorm", "out_t*_p_unnorm", "out_t*_accept_ratio", "out_fixed_term", "out_q_pdf", "out_p_pdf",
             "out_residual_ratio")
def densities(golden: Golden):
    (draft, target), x = steps(golden), golden["in_x"]
    made = {"out_fixed_term": factor(draft, target), "out_q_pdf": density(x, draft), "out_p_pdf": density(x, target),
            "out_residual_ratio": residual_share(x, draft, target)}
    for name in golden.names("out_t*_accept_ratio"):
        widening = float(name.removeprefix("out_t").removesuffix("_accept_ratio"))
        made |= {name: acceptance_ratio(x, draft, target, widening),
                 name.replace("accept_ratio", "q_unnorm"): closeness(x, draft, widening),
                 name.replace("accept_ratio", "p_unnorm"): closeness(x, target, widening)}
    return made


def with_row(step: LastStep) -> LastStep:
    return LastStep(*(part[None] for part in vars(step).values()))


@system.part("out_residual_sample", "out_speculative_sample", tolerance=1e-4)
def residual(golden: Golden):
    draft, target = (with_row(step) for step in steps(golden))
    redrawn = residual_sample(draft, target, rows_of(golden, "residual"), joint=True)
    widening = golden.settings["inner_temperature"]
    kept, *_ = speculative_sample(golden["in_x"][None], draft, target, rows_of(golden, "speculative"), widening,
                                  joint=True)
    return {"out_residual_sample": redrawn[0], "out_speculative_sample": kept[0]}


def second_half(head, z: Tensor, first: Tensor, later: Tensor, guidance: float, temperature: float) -> tuple:
    """The second half of the official guided sampler, which no caller uses: own variance, shared noise and eps."""
    tables, rows, x, spread = head.tables(head.respacing), len(z) // 2, first.repeat(2, 1), 0
    for step in range(len(tables) - 1, -1, -1):
        eps, v = head.net(x[:rows].repeat(2, 1), tables.timesteps[step].expand(2 * rows), z).chunk(2, dim=-1)
        eps = combine_guidance(*eps.chunk(2), guidance).repeat(2, 1)
        mean, log_std = (posterior_mean(tables, predict_x0(tables, x, eps, step), x, step),
                         0.5 * learned_range_log_variance(tables, v, step))
        spread = spread + (step > 0) * log_std
        x = mean + (step > 0) * temperature * log_std.exp() * later[step].repeat(2, 1)
    return x[rows:], temperature * log_std.exp()[rows:], spread[rows:]


@system.part("out_head_*", tolerance=1e-4)
def heads(golden: Golden):
    model = golden.load(MAR, **model_config(golden.settings["target"]))
    head, z, first = model.diffusion_head, golden["in_z"], golden["in_eps"]
    later = golden["in_inter"][: len(head.tables(head.respacing))]
    denoise = _Denoising(first[:, None], later.transpose(0, 1)[:, None])  # N tokens as N rows of one
    places = torch.zeros(len(z), 1, dtype=torch.long)
    sample, last = denoise(model, z[:, None], places, 1.0)
    made = {"out_head_sample": sample, "out_head_mean": last.mean, "out_head_std": last.std,
            "out_head_log_var": last.log_spread}
    both = torch.cat([z, z.flip(0)])
    guided, step = denoise(model, both[:, None], places, **HEAD_CFG)
    made = {name: value[:, 0] for name, value in made.items()}
    unused = second_half(head, both, first, later, **HEAD_CFG)
    for name, ours, other in zip(("sample", "std", "log_var"), (guided, step.std, step.log_spread), unused):
        made[f"out_head_cfg_{name}"] = torch.cat([ours[:, 0], other])
    return made


def run(golden: Golden, scope: str, **options) -> dict[str, Tensor]:
    settings = golden.settings
    model = SpeculativeMAR.from_original({"target": golden.path(), "draft": golden.path("draft")}, **{
        f"{part}_config": model_config(settings[part]) for part in ("target", "draft")})
    records = golden.replay(scope).records
    golden.replays.pop()
    rows = len(golden["in_labels"])
    first, later, *normal = records["normal"]
    noise = golden.noise(normal=[first, later, *(draw.view(rows, -1, draw.shape[-1]) for draw in normal)],
                         uniform=[draw.view(rows, -1) for draw in records["uniform"]],
                         permutation=records["permutation"])
    ratios = []
    sampler = model.Sampler(num_order_steps=settings["num_iter"], num_draft_steps=settings["num_draft"],
                            prefill=settings["ratio"], joint_residual=True, widening=settings["inner_temperature"],
                            **options)
    tokens = model.generate_observed(ClassLabels(golden["in_labels"]), noise=noise, sampler=sampler,
                                     observe=lambda ratio, _: ratios.append(ratio)).values
    sizes = settings["draft"]
    side = sizes["img_size"] // sizes["vae_stride"]
    patch = sizes.get("patch_size", 1)
    made = fold(tokens.transpose(1, 2), (side, side), patch, stride=patch)
    return {f"out_{scope}": made, f"out_{scope}_nverify": torch.tensor(len(ratios)),
            f"out_{scope}_ratios": torch.cat([ratio.flatten() for ratio in ratios]).clamp(max=1e6)}


@system.part("out_run_*_ratios", "out_run_*_nverify", tolerance=1e-4)
def ratios(golden: Golden):
    return runs(golden)


@system.part("out_run_*", tolerance=1e-4, relative=True)  # untrained heads make values of several tens
def runs(golden: Golden):
    scale = golden.settings["cfg"]
    return {**run(golden, "run_nocfg"), **run(golden, "run_linear", guidance_scale=scale),
            **run(golden, "run_cfg", guidance_scale=scale, guidance_schedule="constant")}
