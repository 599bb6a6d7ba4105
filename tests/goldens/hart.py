"""HART: the hybrid tokenizer, the transformer, the diffusion head and the sampler."""

from __future__ import annotations

import math
from unittest import mock

import mar
import torch
import var
from golden import Golden, System
from torch import Tensor

from photophone.core.noise import ReplayNoise
from photophone.core.tokens import Tokens
from photophone.decoding import next_scale
from photophone.generators.conditions import CaptionFeatures
from photophone.generators.hart.keys import convert_config
from photophone.generators.hart.model import HART, LEAST_MASK_RATIO, MASK_RATIO_STD
from photophone.generators.hart.positions import cell_angles, cell_places, rotation
from photophone.kernels.sampling import draw
from photophone.kernels.solver import combine_guidance
from photophone.layers.gaussian_diffusion import (
    diffusion_tables,
    learned_range_log_variance,
    posterior_mean,
    predict_x0,
)
from photophone.tokenizers.grid import to_grid, to_sequence
from photophone.tokenizers.var_vq.hybrid import HARTTokenizer

system = System("hart")
TOP_P, HEAD_GUIDANCE = 0.96, 1.5
"""Of the recorded runs."""
EPS = 1e-6


def tokenizer_config(settings: dict) -> dict:
    """Our arguments of the official ``tokenizer`` settings."""
    own, backbone = settings["tokenizer"], settings.get("backbone_overrides", {})
    vqvae = {"vocab_size": own["vocab_size"], "z_channels": own["z_channels"], "ch": own["ch"],
             "v_patch_nums": own["v_patch_nums"], "quant_resi": own["quant_resi"],
             "share_quant_resi": own["share_quant_resi"], "beta": own.get("beta", 0.25),
             "using_znorm": own.get("using_znorm", False)}
    return var.tokenizer_config({"vqvae": vqvae, "backbone_overrides": {"ch_mult": own["ch_mult"], **backbone}})


def load_tokenizer(golden: Golden) -> HARTTokenizer:
    return golden.load(HARTTokenizer, "tokenizer", **tokenizer_config(golden.settings))


def load(golden: Golden) -> HART:
    own = golden.settings["tokenizer"]
    model = golden.load(HART, **convert_config(golden.settings["t2i"]), token_width=own["z_channels"],
                        num_codes=own["vocab_size"])
    model.connect(load_tokenizer(golden))
    return model


def prompts(golden: Golden, rows: int | None = None) -> CaptionFeatures:
    return CaptionFeatures(golden["in_context"][:rows], golden["in_context_mask"][:rows])


@system.part("mid_f", "out_hybrid_*", "out_discrete_*", "out_forward_idx", "out_idx*", "out_var_input")
def tokenizer(golden: Golden):
    model = load_tokenizer(golden)
    features = model.encode_grid(golden["in_image"])
    sequence, size = to_sequence(features), features.shape[2:]
    hybrid, discrete = model.bottleneck(sequence), model.bottleneck.codes(sequence)
    tokens = model.bottleneck.encode(sequence)
    codes, last = model.bottleneck.indices(tokens), size[0] * size[1]
    made = {"mid_f": features, "out_forward_idx": discrete.indices, "out_idx_and_frest_idx": codes,
            "out_idx_and_frest_continuous": tokens[:, -last:], "out_idxBl": discrete.indices,
            "out_var_input": model.bottleneck.codes.generator_inputs(model.bottleneck.codes.split(codes))}
    for name, output in (("hybrid", hybrid), ("discrete", discrete)):
        made |= {f"out_{name}_fhat": to_grid(output.values, size), f"out_{name}_vq_loss": output.loss,
                 f"out_{name}_image": model.reconstruct(output.values).clamp(-1, 1)}
    return made


@system.part("mid_lvl_embed", "mid_context_embed", "mid_pos_ids_*", "mid_rope_*", "out_rope_q")
def inputs(golden: Golden):
    model = load(golden)
    scales, head_dim = model.config.scales, model.config.width // model.config.num_heads
    places = cell_places(scales[1:2], scales[-1])
    angles = cell_angles(places + 5, head_dim)[None]
    return {"mid_lvl_embed": model.level_vectors()[None], "mid_context_embed": model.context(prompts(golden)),
            "mid_pos_ids_scale1": places[None], "mid_pos_ids_all": cell_places(scales[1:], scales[-1])[None],
            "mid_rope_cos": angles.cos(), "mid_rope_sin": angles.sin(),
            "out_rope_q": rotation(angles)(golden["in_rope_q"])}


@system.part("out_head", "out_head_cfg", "out_table_*")
def network(golden: Golden):
    net, x, t, c = load(golden).diffusion_head.net, *(golden[f"in_head_{name}"] for name in "xtc")
    half = len(x) // 2
    both = net(x[:half].repeat(2, 1), t, c)
    cond, uncond = both.chunk(2, dim=1)[0].chunk(2)
    eps = combine_guidance(cond, uncond, 1 + HEAD_GUIDANCE)
    steps = diffusion_tables(respacing=golden.settings["t2i"]["num_sampling_steps"]).timesteps
    return {"out_head": net(x, t, c), "out_table_gen_timestep_map": steps,
            "out_head_cfg": torch.cat([eps.repeat(2, 1), both.chunk(2, dim=1)[1]], dim=1)}


@system.part("out_head_sample_cfg", tolerance=1e-4)
def head_loop(golden: Golden):
    head, hidden = load(golden).diffusion_head, golden["in_head_c"]
    noise = mar.replay_head(golden, "head_sample", len(hidden) // 2)
    drawn = head.sample(hidden[:, None], noise=noise, guidance=1 + HEAD_GUIDANCE)[:, 0]
    # the second half of the official sampler is thrown away by its caller: own noise, the same predicted start
    return {"out_head_sample_cfg": next_scale.RESIDUAL_SCALE * torch.cat([drawn, unused_half(golden, head)])}


def unused_half(golden: Golden, head) -> Tensor:
    """What the official guided sampler makes of its second half."""
    tables, hidden = head.tables(head.respacing), golden["in_head_c"]
    half = len(hidden) // 2
    first, *draws = (drawn for _, drawn in golden.draws("head_sample"))
    x = first.repeat(2, 1)
    for step, noise in zip(range(len(tables) - 1, -1, -1), draws, strict=True):
        eps, v = head.net(x[:half].repeat(2, 1), tables.timesteps[step].expand(2 * half), hidden).chunk(2, dim=-1)
        eps = combine_guidance(*eps.chunk(2), 1 + HEAD_GUIDANCE).repeat(2, 1)
        mean = posterior_mean(tables, predict_x0(tables, x, eps, step).clamp(-1, 1), x, step)
        x = mean + (step > 0) * torch.exp(0.5 * learned_range_log_variance(tables, v, step)) * noise
    return x[half:]


def likeliest(codes: Tensor, rows: int, num_codes: int) -> Tensor:
    """Exponential draws (rows, n, V) that lead to recorded codes: 0 for the code that was drawn, 1 for the others."""
    return 1 - torch.nn.functional.one_hot(codes.view(rows, -1), num_codes).float()


@system.part("out_logits_*", "out_diff_loss", "out_keep_*")
def training(golden: Golden):
    model, condition = load(golden), prompts(golden)
    rows, mul = len(condition), model.config.diffusion_batch_mul
    codes, rest = golden["out_idx_and_frest_idx"], golden["out_idx_and_frest_continuous"]
    coarse = torch.nn.functional.embedding(codes[:, :-rest.shape[1]], model.quantizer.codes.codebook)
    draws = [drawn for _, drawn in golden.draws("forward")]
    ratio, _, drawn, steps, eps = draws[rows:]
    scale = MASK_RATIO_STD * math.sqrt(2)
    first, place = (math.erf((value - 1) / scale) for value in (LEAST_MASK_RATIO, ratio.item()))
    share = torch.tensor([(place - first) / (0 - first)], dtype=torch.float64)
    shown = len(drawn) // rows
    uniform = (steps.double() + 0.5) / model.diffusion_head.num_train_steps
    noise = golden.noise(
        permutation=[torch.stack(draws[:rows])], normal=[eps.view(mul, rows, shown, -1).transpose(0, 1)],
        exponential=[likeliest(drawn, rows, model.config.num_codes)],
        uniform=[share, uniform.view(mul, rows, shown).transpose(0, 1)])
    logits, loss, kept = model.teacher(torch.cat([coarse, rest], dim=1), condition, noise)
    return {"out_logits_first": logits[:, :4], "out_logits_last": logits[:, -4:], "out_logits_sum": logits.sum(-1),
            "out_logits_argmax": logits.argmax(-1), "out_diff_loss": loss, "out_keep_l": kept.flatten(),
            "out_keep_b": torch.arange(rows).repeat_interleave(shown)}


def replay(golden: Golden, scope: str, rows: int, num_codes: int) -> ReplayNoise:
    """Draws of a run; those of the head as in :func:`mar.replay_head`."""
    normal, exponential, orders, count = [], [], [], 0
    for function, drawn in golden.draws(scope):
        if function == "multinomial":
            exponential.append(likeliest(drawn, rows, num_codes))
        elif function == "Tensor.exponential_ result":
            exponential.append(drawn)
        elif function == "np.random.shuffle result":
            orders.append(drawn)
        else:
            count = len(drawn) if function == "randn" else count
            normal.append(drawn[:count].reshape(rows, count // rows, -1))
    return golden.noise(normal=normal, exponential=exponential, permutation=[torch.stack(orders)])


def generated(golden: Golden, name: str, rows: int | None = None, **options) -> dict[str, Tensor]:
    model, condition, logits, codes = load(golden), prompts(golden, rows), [], []

    def recording(given, *arguments, **more):
        logits.append(given)
        codes.append(draw(given, *arguments, **more))
        return codes[-1]

    noise = replay(golden, f"gen_{name}", len(condition), model.config.num_codes)
    with mock.patch.object(next_scale, "draw", recording):
        tokens = model.generate(condition, noise=noise, sampler=model.Sampler(**options))
    image = load_tokenizer(golden).decode(Tokens(tokens.values))
    return {f"mid_gen_{name}_logits_s1": logits[1][:, :2], f"mid_gen_{name}_logits_last": logits[-1][:, :2],
            f"out_gen_{name}_image": (image + 1) / 2, f"mid_gen_{name}_idx": torch.cat(codes, dim=1)}


@system.part("mid_gen_*", "out_gen_*", tolerance=1e-4)
def loops(golden: Golden):
    scale = 1 + golden.settings["cfg"]
    made = {**generated(golden, "plain", guidance_scale=scale, top_p=TOP_P),
            **generated(golden, "iters2", guidance_scale=scale, num_order_steps=2),
            **generated(golden, "final2", guidance_scale=2.0, residual=False)}
    return made | (generated(golden, "smooth", 1, guidance_scale=scale, smooth=True)
                   if golden.settings.get("smooth") else {})
