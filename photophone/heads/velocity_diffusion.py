"""Diffusion head that predicts velocities and ends in pure noise (arXiv 2305.08891): Orthus' head (2412.00127)."""

from __future__ import annotations

import torch
from torch import Tensor

from photophone.core.noise import GlobalNoise, Noise
from photophone.heads.base import Head, check_temperature, check_tokens, is_guided, split_guidance
from photophone.heads.mlp import AdaLNMLP
from photophone.kernels.solver import Guidance, combine_guidance
from photophone.layers.gaussian_diffusion import scaled_linear_betas, zero_terminal_snr
from photophone.layers.lengths import masked_mean


class VelocityDiffusionHead(Head):
    """Hidden states to continuous tokens by DDIM.

    Args:
        in_dim, token_dim: channels C of the hidden states and D of a token.
        width, depth: of the network, :class:`~photophone.heads.mlp.AdaLNMLP`.
        num_train_steps: steps T of the process.
        first_beta, last_beta: of its schedule, which is then stretched so that nothing is left of the data at its end.
        batch_mul: steps and noises drawn for each token in training.
    """

    def __init__(self, in_dim: int, token_dim: int, width: int = 1536, depth: int = 3, *, num_train_steps: int = 1000,
                 first_beta: float = 0.00085, last_beta: float = 0.012, batch_mul: int = 8) -> None:
        super().__init__()
        self.token_dim, self.batch_mul = token_dim, batch_mul
        self.num_train_steps, self.first_beta, self.last_beta = num_train_steps, first_beta, last_beta
        self.net = AdaLNMLP(token_dim, in_dim, width, depth)

    def alphas_cumprod(self) -> Tensor:
        """Share of the data's variance at each step, float64 (T,)."""
        betas = scaled_linear_betas(self.num_train_steps, self.first_beta, self.last_beta)
        return torch.cumprod(1 - zero_terminal_snr(betas), dim=0)

    def timesteps(self, num_steps: int) -> Tensor:
        """Steps that sampling visits, Long (num_steps,), from the last one down.

        Raises:
            ValueError: more steps than the process has, or none.
        """
        if not 1 <= num_steps <= self.num_train_steps:
            raise ValueError(f"num_inference_steps must be 1..{self.num_train_steps}, got {num_steps}")
        ratio = self.num_train_steps / num_steps
        return (self.num_train_steps - ratio * torch.arange(num_steps, dtype=torch.float64)).round().long() - 1

    def loss(self, hidden: Tensor, target: Tensor, mask: Tensor | None = None, *,
             noise: Noise | None = None) -> Tensor:
        check_tokens(hidden, target, self.token_dim)
        noise, (rows, length) = noise or GlobalNoise(hidden.device), hidden.shape[:2]
        step = noise.integers(0, self.num_train_steps, rows, self.batch_mul, length).to(hidden.device)
        eps = noise.normal(rows, self.batch_mul, length, self.token_dim).to(hidden.device)
        level = self.alphas_cumprod().to(hidden.device).float()[step][..., None]
        data = target.float()[:, None]
        x = level.sqrt() * data + (1 - level).sqrt() * eps
        velocity = level.sqrt() * eps - (1 - level).sqrt() * data
        projected = self.project(hidden).repeat_interleave(self.batch_mul, dim=0)
        made = self._evaluate(x.flatten(0, 1), step.flatten(0, 1), projected)
        errors = (made - velocity.flatten(0, 1)).square().mean(dim=-1)
        return masked_mean(errors, None if mask is None else mask.repeat_interleave(self.batch_mul, dim=0))

    @torch.no_grad()
    def sample(self, hidden: Tensor, *, guidance: Guidance = 1.0, temperature: float = 1.0, noise: Noise,
               num_steps: int = 100) -> Tensor:
        """Tokens float32 ``(B, N, D)``. See :meth:`Head.sample`; the temperature scales the initial noise."""
        check_temperature(temperature)
        rows = len(split_guidance(hidden, guidance)[0])
        projected, levels = self.project(hidden), self.alphas_cumprod()
        steps = self.timesteps(num_steps)
        x = temperature * noise.normal(rows, hidden.shape[1], self.token_dim).to(hidden.device)
        for step in steps.tolist():
            made = self._evaluate(x.repeat(len(hidden) // rows, 1, 1), torch.tensor([step], device=x.device), projected)
            velocity = combine_guidance(*split_guidance(made, guidance), guidance) if is_guided(guidance) else made
            before = step - self.num_train_steps // num_steps
            now, after = levels[step], levels[before] if before >= 0 else torch.ones((), dtype=torch.float64)
            data = float(now.sqrt()) * x - float((1 - now).sqrt()) * velocity
            eps = float(now.sqrt()) * velocity + float((1 - now).sqrt()) * x
            x = float(after.sqrt()) * data + float((1 - after).sqrt()) * eps
        return x

    def project(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, N, C) as the network wants them, in its dtype."""
        return self.net.project(hidden.to(self.net.cond_embed.weight.dtype))

    def _evaluate(self, x: Tensor, step: Tensor, projected: Tensor) -> Tensor:
        return self.net.denoise(x.to(self.net.input_proj.weight.dtype), step, projected).float()
