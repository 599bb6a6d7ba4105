"""Diffusion in which every frame has its own noise level (Diffusion Forcing, arXiv 2407.01392): the process.

Levels are numbers of steps 0 .. T - 1, float64 tables become float32 when they are looked up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from photophone.layers.gaussian_diffusion import lookup

MOST_BETA = 0.999
OBJECTIVES = ("noise", "start", "velocity")


def linear_schedule(num_steps: int) -> Tensor:
    """Float64 betas (T,) on a line, 1e-4 to 0.02 at 1000 steps and scaled by ``1000 / T``.

    Raises:
        ValueError: so few steps that a beta would pass 1.
    """
    if num_steps <= 20:
        raise ValueError(f"a linear schedule needs more than 20 steps, got {num_steps}: its betas would pass 1")
    return torch.linspace(0.1 / num_steps, 20 / num_steps, num_steps, dtype=torch.float64)


def cosine_schedule(num_steps: int, s: float = 0.008) -> Tensor:
    """Float64 betas (T,) of a squared cosine that starts at ``s``."""
    t = torch.linspace(0, num_steps, num_steps + 1, dtype=torch.float64) / num_steps
    return _betas_of(torch.cos((t + s) / (1 + s) * math.pi / 2).square())


def sigmoid_schedule(num_steps: int, start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Tensor:
    """Float64 betas (T,) of a sigmoid between ``start`` and ``end``, ``tau`` times as flat."""
    t = torch.linspace(0, num_steps, num_steps + 1, dtype=torch.float64) / num_steps
    first, last = (torch.tensor(value / tau, dtype=torch.float64).sigmoid() for value in (start, end))
    return _betas_of((last - ((t * (end - start) + start) / tau).sigmoid()) / (last - first))


def _betas_of(signal: Tensor) -> Tensor:
    signal = signal / signal[0]
    return (1 - signal[1:] / signal[:-1]).clamp(0, MOST_BETA)


FRAME_SCHEDULES = {"linear": linear_schedule, "cosine": cosine_schedule, "sigmoid": sigmoid_schedule}


@dataclass(frozen=True)
class FrameTables:
    """Float64 tables (T,) of a process."""

    alphas_cumprod: Tensor
    posterior_coef_start: Tensor
    posterior_coef_x: Tensor
    posterior_variance: Tensor

    @property
    def snr(self) -> Tensor:
        """Signal over noise of each step."""
        return self.alphas_cumprod / (1 - self.alphas_cumprod)


def frame_tables(schedule: str, num_steps: int, options: Mapping[str, float] | None = None) -> FrameTables:
    """Tables of a schedule in FRAME_SCHEDULES.

    Raises:
        ValueError: an unknown schedule.
    """
    if schedule not in FRAME_SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(FRAME_SCHEDULES)}, got {schedule!r}")
    betas = FRAME_SCHEDULES[schedule](num_steps, **(options or {}))
    kept = torch.cumprod(1 - betas, dim=0)
    before = torch.cat([kept.new_ones(1), kept[:-1]])
    return FrameTables(kept, betas * before.sqrt() / (1 - kept), (1 - before) * (1 - betas).sqrt() / (1 - kept),
                       betas * (1 - before) / (1 - kept))


def noised(tables: FrameTables, start: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """Frames (B, T, ...) at levels Long (B, T)."""
    return lookup(tables.alphas_cumprod.sqrt(), level, start) * start + \
        lookup((1 - tables.alphas_cumprod).sqrt(), level, start) * noise


def velocity_of(tables: FrameTables, start: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """``sqrt(acp) noise - sqrt(1 - acp) start`` (arXiv 2202.00512)."""
    return lookup(tables.alphas_cumprod.sqrt(), level, start) * noise - \
        lookup((1 - tables.alphas_cumprod).sqrt(), level, start) * start


def start_of_noise(tables: FrameTables, x: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """The frames of noisy ones and their noise."""
    inverse = 1 / tables.alphas_cumprod
    return lookup(inverse.sqrt(), level, x) * x - lookup((inverse - 1).sqrt(), level, x) * noise


def noise_of_start(tables: FrameTables, x: Tensor, start: Tensor, level: Tensor) -> Tensor:
    """The noise of noisy frames and what they are without it."""
    inverse = 1 / tables.alphas_cumprod
    return (lookup(inverse.sqrt(), level, x) * x - start) / lookup((inverse - 1).sqrt(), level, x)


def read_output(tables: FrameTables, objective: str, output: Tensor, x: Tensor, level: Tensor,
                noise_limit: float) -> tuple[Tensor, Tensor]:
    """Noise and start (B, T, ...) that a network's output means for noisy frames x."""
    if objective == "noise":
        noise = output.clamp(-noise_limit, noise_limit)
        return noise, start_of_noise(tables, x, noise, level)
    start = output
    if objective == "velocity":
        start = lookup(tables.alphas_cumprod.sqrt(), level, x) * x - \
            lookup((1 - tables.alphas_cumprod).sqrt(), level, x) * output
    return noise_of_start(tables, x, start, level), start


def loss_weights(tables: FrameTables, objective: str, level: Tensor, limit: float,
                 decay: float | None = None) -> Tensor:
    """Weight (B, T) of each frame's error at levels Long (B, T).

    Args:
        limit: of the signal over noise (min-SNR, arXiv 2303.09556).
        decay: None; or fused SNR: how much of what frames before a frame say of it lasts a frame.
    """
    snr = lookup(tables.snr, level, level.float())
    clipped = snr.clamp(max=limit)
    if decay is None:
        return {"noise": clipped / snr, "start": clipped, "velocity": clipped / (snr + 1)}[objective]
    snr, clipped, total = snr / limit, clipped / limit, []
    for frame in clipped.unbind(1):
        total.append(frame if not total else decay * total[-1] + (1 - decay) * frame)
    before = torch.stack([torch.zeros_like(total[0]), *total[:-1]], dim=1)
    fused_clipped = 1 - (1 - decay * before) * (1 - clipped)
    fused = 1 - (1 - decay * before) * (1 - snr)
    return {"noise": fused_clipped / fused, "start": fused_clipped * limit,
            "velocity": fused_clipped * limit / (fused * limit + 1)}[objective]
