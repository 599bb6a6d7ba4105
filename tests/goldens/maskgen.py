"""MaskGen: the text tower, both generators, their losses and their samplers."""

from __future__ import annotations

import re

import torch
from golden import Golden, System
from torch import Tensor

from photophone.core.noise import ReplayNoise
from photophone.core.tokens import Tokens
from photophone.decoding.masked import MASK_SCHEDULES, masked_share
from photophone.generators.conditions import CaptionStates
from photophone.generators.maskgen.continuous import MaskGenKL
from photophone.generators.maskgen.model import MaskGenVQ
from photophone.generators.masking import mask_tokens, masked_token_loss
from photophone.heads.diffusion import DiffusionHead
from photophone.kernels.solver import combine_guidance
from photophone.layers.gaussian_diffusion import diffusion_tables, posterior_mean, predict_x0
from photophone.layers.gaussian_diffusion import learned_range_log_variance as learned_range
from photophone.text.clip import TowerStates, tower_of_open_clip, tower_states

system = System("maskgen")
PROGRESS = (0, 0.2, 0.5, 0.9, 1)
"""Of the recorded shares of masked tokens."""


def load_vq(golden: Golden) -> MaskGenVQ:
    settings = MaskGenVQ.convert_config(golden.settings["maskgen_vq"])
    return golden.load(MaskGenVQ, "maskgen_vq", **{**settings, "text_length": length_of(golden)})


def load_kl(golden: Golden, **config) -> MaskGenKL:
    settings = MaskGenKL.convert_config(golden.settings["maskgen_kl"])
    return golden.load(MaskGenKL, "maskgen_kl", **{**settings, "text_length": length_of(golden), **config})


def length_of(golden: Golden) -> int:
    return golden.settings["clip"]["text_cfg"]["context_length"]


def states(golden: Golden) -> TowerStates:
    """Of the captions "a", "b" and ""."""
    clip = golden.settings["clip"]
    activation = "quick_gelu" if clip["quick_gelu"] else "gelu"
    tower = tower_of_open_clip(golden.state("clip_text"), clip["text_cfg"]["heads"], activation)
    return tower_states(tower, golden["in_caption_ids"])


def captions(golden: Golden, scores: Tensor | None = None) -> CaptionStates:
    made = states(golden)
    return CaptionStates(made.states[:-1], made.pooled[:-1], made.states[-1], made.pooled[-1], scores=scores)


@system.part("out_clip_*")
def tower(golden: Golden):
    made = states(golden)
    return {"out_clip_penultimate": made.states, "out_clip_pooled": made.pooled[:, None],
            "out_clip_text_guidance": made.final}


@system.part("mid_vq_micro_cond", "out_vq_logits", "out_vq_mlm_loss", "out_vq_correct_tokens", "out_vq_train_*")
def vq(golden: Golden):
    model, condition, scores = load_vq(golden), captions(golden), golden["in_aesthetic_score"]
    losses = golden.settings["maskgen_vq"]["losses"]
    smoothing, visible = losses["label_smoothing"], losses["loss_weight_unmasked_token"]
    tokens, pooled = golden["in_target_tokens"], model.pooled(condition.pooled, scores)
    logits = model.logits(golden["in_masked_tokens"], condition.states, pooled)
    loss, right = masked_token_loss(logits, tokens, golden["in_mask"], smoothing, visible)
    draws = [golden["in_noise_vq_train_000_uniform"], golden["in_noise_vq_train_001_rand"]]
    ids, masked = mask_tokens(tokens, model.mask_id, golden.noise(uniform=draws), model.config.mask_schedule)
    trained = model.loss(Tokens(tokens), captions(golden, scores), noise=golden.noise(uniform=draws)).loss
    dim = model.config.aesthetic_dim
    told = condition.pooled if dim is None else torch.cat([condition.pooled, model.score_waves(100 * scores, dim)], -1)
    return {"mid_vq_micro_cond": told[:, None], "out_vq_logits": logits,
            "out_vq_mlm_loss": loss, "out_vq_correct_tokens": right, "out_vq_train_masks": masked,
            "out_vq_train_logits": model.logits(ids, condition.states, pooled), "out_vq_train_loss": trained}


def noted(golden: Golden, name: str, setting: str, default: float) -> float:
    """A number that the notes of a golden give for a recorded run as ``setting=number``."""
    found = re.search(rf"\b{setting}=(-?\d+(\.\d+)?)", golden.config["io"].get(name, ""))
    return float(found[1]) if found else default


def generate(golden: Golden, path: str, **options) -> Tensor:
    """Codes from the recorded draws; scales are the official ones plus 1."""
    model, run = load_vq(golden), f"out_vq_generate_{path}"
    draws = [golden[name] for name in golden.names(f"in_noise_vq_gen_{path}_*_uniform")]
    score = golden.settings["maskgen_vq"]["model"]["maskgen"].get("sample_aesthetic_score", 6.0)
    sampler = model.Sampler(
        guidance_scale=1 + noted(golden, run, "guidance_scale", 12.0), aesthetic_score=score,
        temperature=noted(golden, run, "randomize_temperature", 1.5),
        num_order_steps=int(noted(golden, run, "num_sample_steps", 16)),
        guidance_power=noted(golden, run, "guidance_decay_scale_pow", 1.0), **options)
    return model.generate(captions(golden), noise=golden.noise(uniform=draws), sampler=sampler).values


@system.part("out_vq_generate_*")
def vq_sampling(golden: Golden):
    return {"out_vq_generate_default": generate(golden, "default"),
            "out_vq_generate_linear": generate(golden, "linear", guidance_schedule="linear", noisy_order=False),
            "out_vq_generate_flipped": generate(golden, "flipped", guidance_schedule="flipped-cosine"),
            "out_vq_generate_greedy": generate(golden, "greedy", guidance_schedule="constant")}


@system.part("mid_kl_aes_embed", "out_kl_decoder", "out_kl_diffnet*", "out_kl_diffloss")
def kl(golden: Golden):
    model, condition, scores = load_kl(golden), captions(golden), golden["in_aesthetic_score"]
    hidden = model.hidden(golden["in_kl_tokens"], golden["in_kl_mask"].bool(), condition.states,
                          model.pooled(condition.pooled, scores))
    head = model.diffusion_head
    x, t, c = (golden[f"in_diff_{name}"] for name in "xtc")
    half = len(x) // 2
    both = head.net(x[:half].repeat(2, 1), t, c)
    eps = combine_guidance(*both.chunk(2, dim=1)[0].chunk(2), 2.5).repeat(2, 1)
    mask = torch.tensor([[True, False, True, True, False, True]])
    uniform = (golden["in_noise_kl_diffloss_000_randint"].double() + 0.5) / head.num_train_steps
    noise = golden.noise(uniform=[uniform[None, None]], normal=[golden["in_noise_kl_diffloss_001_randn"][None, None]])
    loss = head.loss(c[None], x[None], mask, noise=noise, diffusion_batch_mul=1)
    dim = model.config.aesthetic_dim
    waves = {} if dim is None else {"mid_kl_aes_embed": model.score_waves(100 * scores, dim)}
    return {**waves, "out_kl_decoder": hidden,
            "out_kl_diffnet": head.net(x, t, c), "out_kl_diffloss": loss,
            "out_kl_diffnet_cfg": torch.cat([eps, both.chunk(2, dim=1)[1]], dim=1)}


def replay_head(golden: Golden, path: str, rows: int, steps: int, *, orders: bool = True) -> ReplayNoise:
    """Draws of a sampler whose head takes ``steps`` steps: one at first, one a step. Draws of (rows or twice as many
    tokens, D) become (rows, tokens / rows, D): the second half is unused."""
    draws, shaped = [golden[name] for name in golden.names(f"in_noise_kl_{path}_*_randn")], []
    for start in range(0, len(draws), steps + 1):
        count = len(draws[start])
        shaped += [draw[:count].reshape(rows, count // rows, -1) for draw in draws[start:start + steps + 1]]
    orders = [torch.stack([golden[name] for name in golden.names(f"in_noise_kl_{path}_*_perm")])] if orders else []
    return golden.noise(normal=shaped, permutation=orders)


@system.part("out_kl_diffloss_sample", tolerance=1e-4)
def head_sampling(golden: Golden):
    head, hidden = load_kl(golden).diffusion_head, golden["in_diff_c"]
    half, steps = len(hidden) // 2, len(head.tables(head.respacing))
    noise = replay_head(golden, "diffsample", half, steps, orders=False)
    drawn = head.sample(hidden[:, None], noise=noise, temperature=0.9, guidance=2.0)[:, 0]
    return {"out_kl_diffloss_sample": torch.cat([drawn, unused_half(golden, head, half, steps)])}


def unused_half(golden: Golden, head: DiffusionHead, half: int, steps: int) -> Tensor:
    """The second half of the official guided sampler, which is thrown away: own noise and variance, shared eps."""
    tables, hidden = head.tables(head.respacing), golden["in_diff_c"]
    first, *draws = (golden[name] for name in golden.names("in_noise_kl_diffsample_*_randn"))
    x = first.repeat(2, 1)
    for step, draw in zip(range(steps - 1, -1, -1), draws, strict=True):
        eps, v = head.net(x[:half].repeat(2, 1), tables.timesteps[step].expand(2 * half), hidden).chunk(2, dim=-1)
        eps = combine_guidance(*eps.chunk(2), 2.0).repeat(2, 1)
        mean = posterior_mean(tables, predict_x0(tables, x, eps, step), x, step)
        x = mean + (step > 0) * 0.9 * torch.exp(0.5 * learned_range(tables, v, step)) * draw
    return x[half:]


@system.part("out_kl_diffloss_sample10", tolerance=1e-4, relative=True)
def head_from_pure_noise(golden: Golden):
    head, hidden = load_kl(golden).diffusion_head, golden["in_diff_c"][:2]
    noise = replay_head(golden, "diffsample10", len(hidden), 10, orders=False)
    return {"out_kl_diffloss_sample10": head.sample(hidden[:, None], noise=noise, respacing="10")[:, 0]}


@system.part("out_sched_*")
def tables(golden: Golden):
    made = {}
    fields = {"timestep_map": "timesteps", "betas": "betas", "alphas_cumprod": "alphas_cumprod",
              "post_logvar": "log_variance"}
    own = golden.settings["maskgen_kl"]["losses"].get("num_sampling_steps", "100")
    for name in golden.names("out_sched_*"):
        key, _, field = name.removeprefix("out_sched_").partition("_")
        made[name] = getattr(diffusion_tables(respacing=own if key == "cfg" else key), fields[field])
    return made


@system.part("out_kl_train_loss")
def kl_training(golden: Golden):
    model, (rows, _, _, length) = load_kl(golden), golden["in_moments"].shape
    mean, logvar = golden["in_moments"].chunk(2, dim=1)
    drawn = mean + torch.exp(0.5 * logvar.clamp(-30, 20)) * golden["in_noise_kl_train_000_randn"]
    tokens = drawn[:, :, 0].transpose(1, 2)  # (B, D, 1, N) -> (B, N, D)
    mul, steps = model.config.diffusion_batch_mul, golden["in_noise_kl_train_004_randint"]
    uniform = (steps.double() + 0.5) / model.diffusion_head.num_train_steps
    eps = golden["in_noise_kl_train_005_randn"].view(mul, rows, length, -1).transpose(0, 1)
    orders = torch.stack([golden[name] for name in golden.names("in_noise_kl_train_*_perm")])
    noise = golden.noise(permutation=[orders], normal=[eps], uniform=[
        golden["in_noise_kl_train_003_uniform"], uniform.view(mul, rows, length).transpose(0, 1)])
    condition = captions(golden, golden["in_aesthetic_score"])
    return {"out_kl_train_loss": model.loss(Tokens(tokens), condition, noise=noise).loss}


def kl_samples(golden: Golden, path: str, **options) -> Tensor:
    model, run = load_kl(golden), f"out_kl_sample_{path}"
    condition = captions(golden, golden["in_aesthetic_score"])
    noise = replay_head(golden, f"gen_{path}", len(condition), len(model.diffusion_head.tables(model.config.respacing)))
    sampler = model.Sampler(num_order_steps=int(noted(golden, run, "num_iter", 32)),
                            guidance_scale=noted(golden, run, "cfg", 3.0),
                            temperature=noted(golden, run, "temperature", 1.0), **options)
    tokens = model.generate(condition, noise=noise, sampler=sampler)
    return tokens.values.transpose(1, 2)[:, :, None]


@system.part("out_kl_sample_*", tolerance=1e-4, relative=True)
def kl_sampling(golden: Golden):
    return {"out_kl_sample_cfg": kl_samples(golden, "cfg"), "out_kl_sample_nocfg": kl_samples(golden, "nocfg"),
            "out_kl_sample_const": kl_samples(golden, "const", guidance_schedule="constant")}


@system.part("out_masking_ratio_*")
def masking(golden: Golden):
    return {f"out_masking_ratio_{name}": masked_share(torch.tensor(PROGRESS), name) for name in MASK_SCHEDULES}
