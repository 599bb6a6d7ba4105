"""MAR: the KL autoencoder, the backbone, the diffusion head and the sampler."""

from __future__ import annotations

import math

import torch
from golden import Golden, System
from torch.nn.functional import fold, unfold

from photophone.core.noise import ReplayNoise
from photophone.core.tokens import Tokens
from photophone.decoding.continuous import guidance_progress
from photophone.decoding.guidance import scheduled_guidance
from photophone.decoding.loop import cosine_reveal_counts
from photophone.generators.conditions import ClassLabels
from photophone.generators.mar.model import MAR, MASK_RATIO_STD
from photophone.kernels.solver import combine_guidance
from photophone.layers.gaussian_diffusion import (
    add_noise,
    diffusion_losses,
    diffusion_tables,
    learned_range_log_variance,
    posterior_mean,
    predict_x0,
)
from photophone.layers.normal import normal_kl
from photophone.layers.vqgan import ResnetBlock
from photophone.layers.vqgan_keys import convert_vqgan_keys
from photophone.loading.checkpoints import load_strict
from photophone.quantizers.gaussian import mean_and_logvar
from photophone.tokenizers.grid import to_grid, to_sequence
from photophone.tokenizers.kl_vae.model import KLVAE

system = System("mar")


def attention_levels(levels: int, resolution: int, resolutions: list[int]) -> list[int]:
    """Levels whose nominal resolution is in the list."""
    return [level for level in range(levels) if resolution // 2**level in resolutions]


def vae_config(settings: dict) -> dict:
    """Our arguments of the official ``vae`` settings; the defaults are those of the official classes."""
    encoder, decoder = settings.get("encoder_kwargs", {}), settings.get("decoder_kwargs", {})
    multipliers = settings["autoencoder_kwargs"]["ch_mult"]
    levels = len(multipliers)
    return {"multipliers": multipliers, "latent_width": settings["autoencoder_kwargs"]["embed_dim"],
            "channels": encoder.get("ch", 128), "blocks": encoder.get("num_res_blocks", 2),
            "decoder_channels": decoder.get("ch", 128), "decoder_blocks": decoder.get("num_res_blocks", 2) + 1,
            "encoder_attention_levels": attention_levels(levels, encoder.get("resolution", 256),
                                                         encoder.get("attn_resolutions", [16])),
            "decoder_attention_levels": attention_levels(levels, decoder.get("resolution", 256),
                                                         decoder.get("attn_resolutions", []))}


@system.part("mid_vae_encoder", "out_vae_*")
def vae(golden: Golden):
    model = golden.load(KLVAE, "vae", **vae_config(golden.settings["vae"]))
    features = model.encoder(golden["in_image"])
    moments = model.to_latent(features)
    size = moments.shape[2:]
    mean, logvar = mean_and_logvar(to_sequence(moments))
    (_, draw), = golden.draws("vae_sample")
    draws = golden.noise(normal=[to_sequence(draw)])
    sample = model.bottleneck(to_sequence(moments), noise=draws).values * model.config.scaling
    return {"mid_vae_encoder": features, "out_vae_moments": moments, "out_vae_mean": to_grid(mean, size),
            "out_vae_logvar": to_grid(logvar, size), "out_vae_kl": normal_kl(mean, logvar).sum(dim=(1, 2)),
            "out_vae_sample_scaled": to_grid(sample, size),
            "out_vae_decode": model.decode_grid(golden["in_latent"] / model.config.scaling * 0.2)}


@system.part("out_resblock")
def resblock(golden: Golden):
    settings = golden.settings["resblock"]
    block = ResnetBlock(settings["in_channels"], settings["out_channels"])
    load_strict(block, convert_vqgan_keys(golden.state("resblock")))
    return {"out_resblock": block(golden["in_resblock_x"])}


def mar_config(settings: dict) -> dict:
    """Our arguments of the official MAR settings."""
    patch = settings.get("patch_size", 1)
    given = {"encoder_width": "encoder_embed_dim", "encoder_depth": "encoder_depth",
             "encoder_heads": "encoder_num_heads", "decoder_width": "decoder_embed_dim",
             "decoder_depth": "decoder_depth", "decoder_heads": "decoder_num_heads", "mlp_ratio": "mlp_ratio",
             "num_classes": "class_num", "buffer_size": "buffer_size", "head_width": "diffloss_w",
             "head_depth": "diffloss_d", "respacing": "num_sampling_steps", "diffusion_batch_mul":
             "diffusion_batch_mul", "mask_ratio_min": "mask_ratio_min", "label_drop": "label_drop_prob",
             "eps": "norm_layer_eps"}
    config = {ours: settings[theirs] for ours, theirs in given.items() if theirs in settings}
    side = settings["img_size"] // settings["vae_stride"] // patch
    return config | {"num_tokens": side**2, "token_dim": settings["vae_embed_dim"] * patch**2}


def load_mar(golden: Golden) -> MAR:
    return golden.load(MAR, **mar_config(golden.settings["mar"]))


def tokens_of(golden: Golden) -> torch.Tensor:
    """(B, D, h*p, w*p) to tokens (B, h*w, D*p*p): channels first, then rows and columns of the patch."""
    patch = golden.settings["mar"].get("patch_size", 1)
    return unfold(golden["in_latent"], patch, stride=patch).transpose(1, 2)


def grid_of(golden: Golden, tokens: torch.Tensor) -> torch.Tensor:
    """Tokens of :func:`tokens_of` to (B, D, h*p, w*p)."""
    patch = golden.settings["mar"].get("patch_size", 1)
    return fold(tokens.transpose(1, 2), golden["in_latent"].shape[2:], patch, stride=patch)


@system.part("mid_encoder", "out_z*", "out_patchify", "out_unpatchify")
def backbone(golden: Golden):
    model, tokens, masked = load_mar(golden), tokens_of(golden), golden["in_mask"].bool()
    classes, null = model.class_vectors(golden["in_labels"], with_null=True).chunk(2)
    everything = torch.ones_like(masked)
    encoded = model.encode(tokens, masked, classes)
    return {"out_patchify": tokens, "out_unpatchify": grid_of(golden, tokens), "mid_encoder": encoded,
            "out_z": model.decode(encoded, masked), "out_z_uncond": model.hidden(tokens, masked, null),
            "out_z_allmasked": model.hidden(tokens, everything, classes)}


@system.part("mid_time_embed", "out_head", "out_head_cfg")
def network(golden: Golden):
    net, x, t, c = load_mar(golden).diffusion_head.net, *(golden[f"in_head_{name}"] for name in "xtc")
    half = len(x) // 2
    guided = net(x[:half].repeat(2, 1), t, c)
    cond, uncond = guided.chunk(2, dim=1)[0].chunk(2)
    eps = combine_guidance(cond, uncond, golden.settings["head_cfg"])
    return {"mid_time_embed": net.time_embed(t), "out_head": net(x, t, c),
            "out_head_cfg": torch.cat([eps.repeat(2, 1), guided.chunk(2, dim=1)[1]], dim=1)}


@system.part("mid_q_sample", "mid_pmv_*", "out_loss_terms_*")
def diffusion(golden: Golden):
    head = load_mar(golden).diffusion_head
    tables, c, t, noise = head.tables(), *(golden[f"in_{name}"] for name in ("head_c", "loss_t", "loss_noise"))
    made = {"mid_q_sample": add_noise(tables, golden["in_loss_target"], noise, t)}
    for edge in ("", "_edge"):
        target = golden["in_loss_target" + edge]
        output = head.net(add_noise(tables, target, noise, t), t, c)
        mse, bound = diffusion_losses(tables, output, target, noise, t)
        made |= {f"out_loss_terms{edge}_{name}": value
                 for name, value in (("mse", mse), ("vb", bound), ("loss", mse + bound))}
    x = golden["in_head_x"]
    eps, v = head.net(x, t, c).chunk(2, dim=-1)
    x0, log_variance = predict_x0(tables, x, eps, t), learned_range_log_variance(tables, v, t)
    return made | {"mid_pmv_pred_xstart": x0, "mid_pmv_mean": posterior_mean(tables, x0, x, t),
                   "mid_pmv_log_variance": log_variance, "mid_pmv_variance": log_variance.exp()}


@system.part("out_table_*")
def tables(golden: Golden):
    made = {}
    fields = {"betas": "betas", "posterior_log_variance_clipped": "log_variance", "alphas_cumprod": "alphas_cumprod",
              "posterior_mean_coef1": "posterior_coef_x0", "posterior_mean_coef2": "posterior_coef_xt",
              "timestep_map": "timesteps"}
    for name in golden.names("out_table_*"):
        key, field = next((name.removeprefix("out_table_").removesuffix(f"_{theirs}"), ours)
                          for theirs, ours in fields.items() if name.endswith(f"_{theirs}"))
        respacing = "" if key == "train" else key.replace("_", ",")
        made[name] = getattr(diffusion_tables(respacing=respacing), field)
    return made


def replay_head(golden: Golden, scope: str, rows: int, *, orders: bool = False) -> ReplayNoise:
    """Draws of the head: (tokens or twice as many, D) to (rows, tokens / rows, D); the second half is unused."""
    recorded = golden.replay(scope)
    shapes, count = [], 0
    for function, draw in golden.draws(scope):
        if function in ("randn", "randn_like"):
            count = len(draw) if function == "randn" else count
            shapes.append(draw[:count].reshape(rows, count // rows, -1))
    golden.replays.remove(recorded)
    return golden.noise(normal=shapes, permutation=recorded.records["permutation"] if orders else ())


def head_samples(golden: Golden, name: str, **options) -> torch.Tensor:
    guided = "guidance" in options
    head, hidden = load_mar(golden).diffusion_head, golden["in_head_c"]
    rows = len(hidden) // (2 if guided else 1)
    drawn = head.sample(hidden[:, None], noise=replay_head(golden, name, rows), **options)[:, 0]
    return torch.cat([drawn, unused_half(golden, name, drawn, **options)]) if guided else drawn


def unused_half(golden: Golden, name: str, drawn: torch.Tensor, guidance: float,
                respacing: str | None = None) -> torch.Tensor:
    """The second half of the official guided sampler, which MAR throws away: own noise and variance, shared eps."""
    head, hidden, rows = load_mar(golden).diffusion_head, golden["in_head_c"], len(drawn)
    tables = head.tables(head.respacing if respacing is None else respacing)
    first, *draws = (draw for _, draw in golden.draws(name))
    x = first.repeat(2, 1)
    for step, draw in zip(range(len(tables) - 1, -1, -1), draws, strict=True):
        eps, v = head.net(x[:rows].repeat(2, 1), tables.timesteps[step].expand(2 * rows), hidden).chunk(2, dim=-1)
        eps = combine_guidance(*eps.chunk(2), guidance).repeat(2, 1)
        mean = posterior_mean(tables, predict_x0(tables, x, eps, step), x, step)
        x = mean + (step > 0) * torch.exp(0.5 * learned_range_log_variance(tables, v, step)) * draw
    return x[rows:]


@system.part("out_diffloss_sample_*", tolerance=1e-4)
def head_loops(golden: Golden):
    scale = golden.settings["head_cfg"]
    return {"out_diffloss_sample_nocfg": head_samples(golden, "diffloss_nocfg", temperature=0.95),
            "out_diffloss_sample_cfg": head_samples(golden, "diffloss_cfg", guidance=scale)}


@system.part("out_rel_diffloss_sample_steps8", relative=True)
def head_from_pure_noise(golden: Golden):
    drawn = head_samples(golden, "diffloss_steps8", guidance=golden.settings["head_cfg"], respacing="8")
    return {"out_rel_diffloss_sample_steps8": drawn}


@system.part("out_ddim_eta0", tolerance=1e-4)
def head_ddim(golden: Golden):
    noise = golden.noise(normal=[golden["in_head_x"][:, None]])
    drawn = load_mar(golden).diffusion_head.sample(golden["in_head_c"][:, None], noise=noise, sampler="ddim")
    return {"out_ddim_eta0": drawn[:, 0]}


@system.part("out_loss")
def training_loss(golden: Golden):
    model, tokens = load_mar(golden), tokens_of(golden)
    rows, mul, (length, width) = len(tokens), model.config.diffusion_batch_mul, tokens.shape[1:]
    draws = [draw for _, draw in golden.draws("forward")]
    ratio, steps, eps = draws[rows:]
    low, scale = model.config.mask_ratio_min, MASK_RATIO_STD * math.sqrt(2)
    first, place = (math.erf((value - 1) / scale) for value in (low, ratio.item()))
    share = torch.tensor([(place - first) / (0 - first)], dtype=torch.float64)
    uniform = (steps.double() + 0.5) / model.diffusion_head.num_train_steps
    noise = golden.noise(permutation=[torch.stack(draws[:rows])],
                         uniform=[share, uniform.view(mul, rows, length).transpose(0, 1)],
                         normal=[eps.view(mul, rows, length, width).transpose(0, 1)])
    return {"out_loss": model.loss(Tokens(tokens), ClassLabels(golden["in_labels"]), noise=noise).loss}


def samples(golden: Golden, scope: str, **options) -> torch.Tensor:
    model, labels = load_mar(golden), golden["in_labels"]
    noise = replay_head(golden, scope, len(labels), orders=True)
    sampler = model.Sampler(num_order_steps=golden.settings["num_iter"], **options)
    return grid_of(golden, model.generate(ClassLabels(labels), noise=noise, sampler=sampler).values)


@system.part("out_sample_*", relative=True)  # untrained heads make values of several tens
def sampling(golden: Golden):
    scale = golden.settings["cfg"]
    linear = samples(golden, "sample_linear", guidance_scale=scale)
    vae = golden.load(KLVAE, "vae", **vae_config(golden.settings["vae"]))
    return {"out_sample_nocfg": samples(golden, "sample_nocfg", temperature=0.95), "out_sample_linear": linear,
            "out_sample_constant": samples(golden, "sample_constant", guidance_scale=scale,
                                           guidance_schedule="constant"),
            "out_sample_image": vae.decode_grid(linear / vae.config.scaling)}


@system.part("out_masklen_*", "out_cfg3_linear_*")
def schedules(golden: Golden):
    made = {}
    for name in golden.names("out_masklen_*") + golden.names("out_cfg3_linear_*"):
        length, steps = (int(part) for part in name.split("_")[-2:])
        counts = cosine_reveal_counts(length, steps)
        progress = [guidance_progress(counts, step) for step in range(steps)]
        made[name] = torch.tensor([length * (1 - share) if "masklen" in name else
                                   scheduled_guidance(3.0, "linear", share) for share in progress])
    return made
