"""SiT and DiT on one-dimensional latent tokens: flow matching and diffusion over the tokens of SoftVQ-VAE and MAETok.

Papers: SiT (arXiv 2401.08740), DiT (2212.09748), as trained with SoftVQ-VAE (2412.10958) and MAETok (2502.03444).
Official code: Hhhhhhao/continuous_tokenizer; no licence file, the model classes state Apache-2.0. Weights: Apache-2.0
as stated in the hub repositories, trained on ImageNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from photophone.core.limits import MAX_INFERENCE_STEPS
from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, notify
from photophone.generators.base import LossOutput
from photophone.generators.classes import ClassGenerator, example_values
from photophone.generators.conditions import ClassLabels
from photophone.generators.sampler import Sampler, guidance_option, option, steps_option
from photophone.heads.base import is_guided
from photophone.kernels.solver import combine_guidance
from photophone.layers.adaln import AdaLNFinalLayer, Modulation, adaln_projection, modulated_block
from photophone.layers.embeddings import TimestepEmbedding
from photophone.layers.flow import PATHS, Path, euler, euler_maruyama, heun, sde_time_grid, time_grid
from photophone.layers.gaussian_diffusion import (
    SCHEDULES,
    add_noise,
    diffusion_losses,
    diffusion_tables,
    learned_range_log_variance,
    posterior_mean,
    predict_x0,
)
from photophone.layers.transformer import Attention, FeedForward
from photophone.layers.vit_keys import convert_vit_keys, drop_leading_axes
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

SOLVERS = ("euler", "heun", "sde")
WEIGHTINGS = ("uniform", "lognormal")


def training_times(noise: Noise, rows: int, weighting: str, path: str) -> Tensor:
    """Times (rows, 1, 1) of a training pass: uniform, or from a lognormal noise level, which each path maps its way.

    Raises:
        ValueError: an unknown weighting.
    """
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}")
    if weighting == "uniform":
        return noise.uniform(rows, 1, 1)
    level = noise.normal(rows, 1, 1).exp()
    return level / (1 + level) if path == "linear" else 2 / torch.pi * torch.atan(level)


class AdaLNZeroBlock(nn.Module):
    """DiT's block: attention and feed-forward, each modulated and gated by a condition (B, W)."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.feed_forward = FeedForward(width)
        self.adaLN_modulation = adaln_projection(width, 6)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, N, W) -> (B, N, W)."""
        modulation = Modulation(*self.adaLN_modulation(condition)[:, None].chunk(6, dim=-1))  # (B, 1, W) each
        return modulated_block(x, modulation, self.norm1, self.attention, self.norm2, self.feed_forward)


class LatentDiT(OriginalCheckpoint, ClassGenerator):
    """The network of both: noisy tokens, a time and a class to one output a token.

    Args of the families' configs: ``num_tokens`` N, ``token_dim`` D, ``num_classes``, ``width``, ``depth``,
    ``num_heads``; ``token_mean`` and ``token_std``, numbers or one for each channel, bring tokens to unit variance;
    ``label_drop``, share of training labels replaced by "no class".
    """

    def _build(self, num_tokens: int, token_dim: int, out_dim: int, num_classes: int, width: int, depth: int,
               num_heads: int) -> None:
        self.x_embedder = nn.Linear(token_dim, width)
        self.register_buffer("positions", torch.zeros(num_tokens, width))  # fixed sines that come with the weights
        self.t_embedder = TimestepEmbedding(width)
        self.class_embedding = nn.Embedding(num_classes + 1, width)
        self.blocks = nn.ModuleList(AdaLNZeroBlock(width, num_heads) for _ in range(depth))
        self.final_layer = AdaLNFinalLayer(width, out_dim)

    def hidden(self, x: Tensor, t: Tensor, labels: Tensor, depth: int | None = None) -> tuple[Tensor, Tensor]:
        """Hidden states (B, N, W) after ``depth`` blocks (all when None), and the condition (B, W)."""
        condition = self.t_embedder(t) + self.class_embedding(labels)
        x = self.x_embedder(x) + self.positions
        for block in self.blocks[:depth]:
            x = block(x, condition)
        return x, condition

    def predict(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Tokens (B, N, D) at times (B,) of classes (B,), num_classes for "no class", to outputs (B, N, out)."""
        hidden, condition = self.hidden(x, t, labels)
        return self.final_layer(hidden, condition[:, None])

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of tokens, numbers or (D,)."""
        return tuple(torch.as_tensor(value, device=self.device, dtype=torch.float32)
                     for value in (self.config.token_mean, self.config.token_std))

    def fit_statistics(self, tokens: Tokens) -> None:
        """Normalise by the mean and deviation of each channel, unless the config has statistics already."""
        if (self.config.token_mean, self.config.token_std) == (0.0, 1.0):
            self.register_to_config(token_mean=tokens.values.mean(dim=(0, 1)).tolist(),
                                    token_std=tokens.values.std(dim=(0, 1)).tolist())

    def places_at_once(self, rows: int) -> int:
        return rows * self.config.num_tokens

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_values(rows, self.config.num_tokens, self.config.token_dim, seed)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return rename_keys(convert_vit_keys(drop_leading_axes(state, ("pos_embed",))), [
            (r"^pos_embed$", "positions"), (r"^y_embedder\.embedding_table\.", "class_embedding."),
        ])


def line_positions(length: int, width: int) -> Tensor:
    """Fixed positions (length, width): sines and cosines take turns, at width / 2 geometric frequencies."""
    frequencies = 10_000.0 ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).float()


@dataclass(frozen=True)
class SiTSampler(Sampler):
    """Options of :class:`SiT`."""

    num_inference_steps: int = steps_option(250, "solver steps; heun evaluates the network twice a step, sde needs at "
                                                 "least 2")
    guidance_scale: float = guidance_option(1.75)
    guidance_from: float = option(0.0, "least time at which guidance acts; noise is at 1, tokens are at 0", low=0,
                                  high=1)
    guidance_until: float = option(0.7, "greatest time at which guidance acts", low=0, high=1)
    solver: str = option("sde", "of the flow: of order 1, of order 2, or stochastic", choices=SOLVERS)


class SiT(LatentDiT):
    """Flow matching: the network predicts the velocity, t runs from tokens at 0 to noise at 1.

    Args:
        num_tokens, token_dim, num_classes, width, depth, num_heads, token_mean, token_std, label_drop: see
            :class:`LatentDiT`.
        path: "linear" or "cosine"; see :data:`photophone.layers.flow.PATHS`.

    Raises:
        ValueError: for an unknown path.
    """

    Sampler = SiTSampler

    def __init__(self, num_tokens: int = 64, token_dim: int = 32, num_classes: int = 1000, width: int = 1152,
                 depth: int = 28, num_heads: int = 16, path: str = "linear",
                 token_mean: float | Sequence[float] = 0.0, token_std: float | Sequence[float] = 1.0,
                 label_drop: float = 0.1) -> None:
        super().__init__()
        if path not in PATHS:
            raise ValueError(f"path must be one of {', '.join(PATHS)}, got {path!r}")
        self._build(num_tokens, token_dim, token_dim, num_classes, width, depth, num_heads)
        self.positions.copy_(line_positions(num_tokens, width))

    def loss_per_row(self, labels: Tensor, x0: Tensor, noise: Noise, path: str, weighting: str = "uniform") -> Tensor:
        """Mean squared error (B,) of the velocity; x0 are normalised tokens (B, N, D), one time a row."""
        t = training_times(noise, len(x0), weighting, path).to(x0)
        eps = noise.normal(*x0.shape).to(x0)
        output = self.predict(PATHS[path].interpolate(x0, eps, t), t.flatten(), labels)
        return (output - PATHS[path].velocity(x0, eps, t)).square().mean(dim=(1, 2))

    def loss(self, tokens: Tokens, condition: ClassLabels, *, noise: Noise | None = None) -> LossOutput:
        """Squared error of the velocity of tokens (B, N, D), at lognormal noise levels."""
        noise = noise or GlobalNoise(tokens.values.device)
        labels, (mean, std) = self.drop_labels(condition.labels, noise), self.statistics()
        x0 = (tokens.values - mean) / std
        return LossOutput(self.loss_per_row(labels, x0, noise, self.config.path, "lognormal").mean())

    def integrate(self, x: Tensor, labels: Tensor, noise: Noise, sampler: SiTSampler, path: Path,
                  callback: Callback | None = None) -> Tensor:
        """Noise x (B, N, D) to normalised tokens, float64; the network runs in its own dtype."""
        steps, calls = sampler.num_inference_steps, 0
        total = 2 * steps - 1 if sampler.solver == "heun" else steps

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            nonlocal calls
            acts = sampler.guidance_from <= float(t) <= sampler.guidance_until
            guided = acts and is_guided(sampler.guidance_scale)
            rows = (x.repeat(2, 1, 1), torch.cat([labels, self.null_labels(labels)])) if guided else (x, labels)
            times = t.to(x.device).expand(len(rows[0])).to(self.dtype)
            output = self.predict(rows[0].to(self.dtype), times, rows[1]).double()
            calls += 1
            notify(callback, calls, total)
            cond, uncond = output.chunk(2) if guided else (output, None)
            return combine_guidance(cond, uncond, sampler.guidance_scale)

        if sampler.solver == "sde":
            return euler_maruyama(velocity, x.double(), sde_time_grid(steps),
                                  lambda: noise.normal(*x.shape).to(x.device).double(), path)
        return (heun if sampler.solver == "heun" else euler)(velocity, x.double(), time_grid(steps))

    def _generate(self, condition: ClassLabels, *, noise: Noise, sampler: SiTSampler,
                  callback: Callback | None) -> Tokens:
        """Tokens float32 (B, N, D).

        Raises:
            ValueError: too few steps for the solver.
        """
        x = noise.normal(len(condition), self.config.num_tokens, self.config.token_dim).to(self.device)
        x = self.integrate(x, condition.labels, noise, sampler, PATHS[self.config.path], callback)
        mean, std = self.statistics()
        return Tokens(x.float() * std + mean)


@dataclass(frozen=True)
class DiTSampler(Sampler):
    """Options of :class:`DiT`."""

    num_inference_steps: int = option(250, "of the 1000 steps of training", low=1, high=MAX_INFERENCE_STEPS)
    guidance_scale: float = guidance_option(1.5)


class DiT(LatentDiT):
    """Diffusion in 1000 steps: the network predicts noise and the place of the variance in its range.

    Args:
        num_tokens, token_dim, num_classes, width, depth, num_heads, token_mean, token_std, label_drop: see
            :class:`LatentDiT`.
        schedule: of the noise, "cosine" or "linear".

    Raises:
        ValueError: for an unknown schedule.
    """

    Sampler = DiTSampler

    def __init__(self, num_tokens: int = 64, token_dim: int = 32, num_classes: int = 1000, width: int = 1152,
                 depth: int = 28, num_heads: int = 16, schedule: str = "cosine",
                 token_mean: float | Sequence[float] = 0.0, token_std: float | Sequence[float] = 1.0,
                 label_drop: float = 0.1) -> None:
        super().__init__()
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
        self._build(num_tokens, token_dim, 2 * token_dim, num_classes, width, depth, num_heads)
        self.positions.copy_(line_positions(num_tokens, width))

    def loss(self, tokens: Tokens, condition: ClassLabels, *, noise: Noise | None = None) -> LossOutput:
        """Squared error of the noise plus variational bound of tokens (B, N, D), one step a row."""
        noise, values = noise or GlobalNoise(tokens.values.device), tokens.values
        tables, (mean, std) = diffusion_tables(self.config.schedule), self.statistics()
        labels, x0 = self.drop_labels(condition.labels, noise), (values - mean) / std
        step = (noise.uniform(len(labels)) * len(tables)).long().to(values.device)
        eps = noise.normal(*x0.shape).to(x0)
        output = self.predict(add_noise(tables, x0, eps, step), step, labels)
        mse, bound = diffusion_losses(tables, output, x0, eps, step[:, None].expand(x0.shape[:2]))
        return LossOutput((mse + bound).mean())

    def _generate(self, condition: ClassLabels, *, noise: Noise, sampler: DiTSampler,
                  callback: Callback | None) -> Tokens:
        """Tokens float32 (B, N, D), by DDPM on a part of the steps; guides the noise alone."""
        labels = condition.labels
        copies = 2 if is_guided(sampler.guidance_scale) else 1
        classes = torch.cat([labels, self.null_labels(labels)]) if copies == 2 else labels
        tables = diffusion_tables(self.config.schedule, respacing=str(sampler.num_inference_steps))
        shape = (len(labels), self.config.num_tokens, self.config.token_dim)
        x = noise.normal(*shape).to(self.device)
        for step in reversed(range(len(tables))):
            times = tables.timesteps[step].to(self.device).expand(len(classes))
            output = self.predict(x.repeat(copies, 1, 1).to(self.dtype), times, classes).float()
            eps, variance = output.chunk(2, dim=-1)  # the variance is that of the conditional rows
            uncond = eps[len(labels):] if copies == 2 else None
            eps = combine_guidance(eps[:len(labels)], uncond, sampler.guidance_scale)
            x = posterior_mean(tables, predict_x0(tables, x, eps, step), x, step)
            if step:
                spread = torch.exp(0.5 * learned_range_log_variance(tables, variance[:len(labels)], step))
                x = x + spread * noise.normal(*shape).to(self.device)
            notify(callback, len(tables) - step, len(tables))
        mean, std = self.statistics()
        return Tokens(x * std + mean)
