"""Diffusion head of MAR (arXiv 2406.11838; code MIT): each continuous token by a small diffusion model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from photophone.core.noise import GlobalNoise, Noise
from photophone.heads.base import Head, check_temperature, check_tokens, split_guidance
from photophone.heads.mlp import AdaLNMLP
from photophone.kernels.solver import Guidance, combine_guidance, ddpm_step
from photophone.layers.gaussian_diffusion import (
    DiffusionTables,
    add_noise,
    ddim_step,
    diffusion_losses,
    diffusion_tables,
    predict_x0,
    step_numbers,
)
from photophone.layers.lengths import masked_mean

SAMPLERS = ("ddpm", "ddim")


def check_sampler(sampler: str) -> None:
    """Raise ValueError for a sampler that is not in SAMPLERS."""
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {SAMPLERS}, got {sampler!r}")


class DiffusionHead(Head):
    """AdaLN MLP that predicts noise and variance. ``net`` has the parameter names of MAR's ``diffloss.net``.

    Args:
        in_dim: channels C of the hidden states.
        token_dim: channels D of a token.
        width, depth: of the MLP.
        num_train_steps: steps T of the process in training.
        schedule: "cosine" (MAR) or "linear".
        respacing: steps of the sampler, see :func:`~photophone.layers.gaussian_diffusion.space_timesteps`.
        clip_denoised: clamp the predicted tokens to [-1, 1] at every step; MAR does not, HART does.
        diffusion_batch_mul: steps (and noises) drawn for each token in training; the backbone runs once for all.
    """

    def __init__(self, in_dim: int, token_dim: int, width: int = 1024, depth: int = 6, *, num_train_steps: int = 1000,
                 schedule: str = "cosine", respacing: str = "100", clip_denoised: bool = False,
                 diffusion_batch_mul: int = 1) -> None:
        super().__init__()
        if diffusion_batch_mul < 1:
            raise ValueError(f"diffusion_batch_mul must be at least 1, got {diffusion_batch_mul}")
        self.in_dim = in_dim
        self.token_dim = token_dim
        self.schedule = schedule
        self.num_train_steps = num_train_steps
        self.respacing = respacing
        self.clip_denoised = clip_denoised
        self.diffusion_batch_mul = diffusion_batch_mul
        self.tables(respacing)  # refuses bad settings now, not after training
        self.net = AdaLNMLP(token_dim, in_dim, width, depth, out_dim=2 * token_dim)

    def tables(self, respacing: str = "") -> DiffusionTables:
        """Tables of the process, thinned out for sampling by ``respacing``."""
        return diffusion_tables(self.schedule, self.num_train_steps, respacing)

    def loss(self, hidden: Tensor, target: Tensor, mask: Tensor | None = None, *, noise: Noise | None = None,
             diffusion_batch_mul: int | None = None) -> Tensor:
        """Squared error of the noise plus variational bound; target float ``(B, N, D)``. See :meth:`Head.loss`."""
        check_tokens(hidden, target, self.token_dim)
        noise = noise or GlobalNoise(hidden.device)
        rows, length = hidden.shape[:2]
        mul = diffusion_batch_mul or self.diffusion_batch_mul
        uniform = noise.uniform(rows, mul, length, dtype=torch.float64)
        step = (uniform * self.num_train_steps).long().flatten(0, 1)  # (B * mul, N)
        eps = noise.normal(rows, mul, length, self.token_dim).flatten(0, 1)  # (B * mul, N, D)
        x0 = target.float().repeat_interleave(mul, dim=0)
        projected = self.project(hidden).repeat_interleave(mul, dim=0)
        output = self.evaluate(add_noise(self.tables(), x0, eps, step), step, projected)
        mse, bound = diffusion_losses(self.tables(), output, x0, eps, step)
        return masked_mean(mse + bound, None if mask is None else mask.repeat_interleave(mul, dim=0))

    @torch.no_grad()
    def sample(self, hidden: Tensor, *, guidance: Guidance = 1.0, temperature: float = 1.0, noise: Noise,
               respacing: str | None = None, sampler: str = "ddpm",
               observe: Callable[[int, Tensor, Tensor], None] | None = None) -> Tensor:
        """Tokens float32 ``(B, N, D)``. See :meth:`Head.sample`.

        Both halves of guided rows see the same x, and only the noise is guided: the variance is that of the
        conditional rows, as in MAR. One draw comes first and one at every step, also at the last, where it has no
        effect: recorded draws of the official sampler (their first B rows) replay one by one.

        Args:
            temperature: scales the noise of every step, not the initial noise.
            respacing: other steps than those of the constructor.
            sampler: "ddpm", or "ddim", which is deterministic after the initial draw and ignores the temperature.
            observe: called at each step of "ddpm" with its number, down to 0, and the mean and the logarithm of the
                standard deviation, without temperature, of the Gaussian that the step draws from, (B, N, D) each.
        """
        check_temperature(temperature)
        check_sampler(sampler)
        tables = self.tables(self.respacing if respacing is None else respacing)
        rows, length = split_guidance(hidden, guidance)[0].shape[:2]
        projected = self.project(hidden)
        x = noise.normal(rows, length, self.token_dim)
        for step in range(len(tables) - 1, -1, -1):
            both = x.repeat(hidden.shape[0] // rows, 1, 1)  # (B or 2B, N, D)
            output = self.evaluate(both, tables.timesteps[step : step + 1].to(x.device), projected)
            cond, uncond = split_guidance(output, guidance)
            if sampler == "ddpm":
                seen = None if observe is None else partial(observe, step)
                x = ddpm_step(x, cond, uncond, guidance, step_numbers(tables, step), noise.normal(*x.shape),
                              (step > 0) * temperature, clip=self.clip_denoised, observe=seen)
                continue
            eps = cond[..., :self.token_dim]
            uncond_eps = None if uncond is None else uncond[..., :self.token_dim]
            x0 = predict_x0(tables, x, combine_guidance(eps, uncond_eps, guidance), step)
            x = ddim_step(tables, x, x0.clamp(-1, 1) if self.clip_denoised else x0, step)
        return x

    def step_options(self, num_steps: int, *, solver: str | None = None, time_shift: float = 1.0,
                     scaled_guidance: bool = False) -> dict[str, Any]:
        self._refuse(time_shift=time_shift != 1, scaled_guidance=scaled_guidance)
        check_sampler(solver or "ddpm")
        return {"respacing": str(num_steps), "sampler": solver or "ddpm"}

    def project(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, N, C) as the network wants them, in its dtype."""
        return self.net.project(hidden.to(self.net.cond_embed.weight.dtype))

    def evaluate(self, x: Tensor, step: Tensor, projected: Tensor) -> Tensor:
        """Noise and variance (B, N, 2 D) in float32: states and losses stay in it whatever the weights are."""
        return self.net.denoise(x.to(self.net.input_proj.weight.dtype), step, projected).float()
