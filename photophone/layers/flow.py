"""Flow matching as pure functions: path, time draws, time grids and solvers (arXiv 2210.02747, 2209.03003, 2401.08740).

Time runs from data at t = 0 to noise at t = 1, so sampling integrates from 1 down to 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from photophone.kernels.solver import Guidance, linear_step

Velocity = Callable[[Tensor, Tensor], Tensor]  # (x (B, ...), t ()) -> dx/dt (B, ...)


@dataclass(frozen=True)
class Path:
    """``x_t = alpha(t) * data + sigma(t) * noise`` with ``coefficients(t) -> alpha, sigma, alpha', sigma'``."""

    coefficients: Callable[[Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]

    def interpolate(self, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t ``(B, ...)``; t broadcasts against data."""
        alpha, sigma, _, _ = self.coefficients(t)
        return alpha * data + sigma * noise

    def velocity(self, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """dx_t/dt, the target of the network; ``noise - data`` on the linear path."""
        _, _, d_alpha, d_sigma = self.coefficients(t)
        return d_alpha * data + d_sigma * noise

    def noise(self, velocity: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The noise that is in x when the velocity is right: the two lines above solved for it."""
        alpha, sigma, d_alpha, d_sigma = self.coefficients(t)
        return (alpha * velocity - d_alpha * x) / (alpha * d_sigma - d_alpha * sigma)

    def score(self, velocity: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Gradient of the log density of x_t, ``-noise / sigma``, for t > 0."""
        return -self.noise(velocity, x, t) / self.coefficients(t)[1]


def _linear(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    one = torch.ones_like(t)
    return 1 - t, t, -one, one


def _cosine(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    quarter = math.pi / 2
    cos = torch.cos(quarter * t)
    sin = torch.sin(quarter * t)
    return cos, sin, -quarter * sin, quarter * cos


def linear_path(sigma_min: float) -> Path:
    """The linear path that ends, at t = 0, with ``sigma_min`` of noise on the data (arXiv 2210.02747)."""
    def coefficients(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        one = torch.ones_like(t)
        return 1 - t, sigma_min + (1 - sigma_min) * t, -one, (1 - sigma_min) * one

    return Path(coefficients)


PATHS = {"linear": Path(_linear), "cosine": Path(_cosine)}


def logit_normal_times(normal: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Times in (0, 1) from standard normal draws: ``sigmoid(mean + std * normal)`` (arXiv 2403.03206)."""
    return torch.sigmoid(mean + std * normal)


def time_grid(num_steps: int, shift: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
    """``num_steps + 1`` times from 1 down to 0, computed in ``dtype``.

    ``shift`` above 1 spends more of the steps near the noise: ``t -> shift*t / (1 + (shift-1)*t)`` (arXiv 2403.03206).
    """
    _check_steps(num_steps, 1)
    if not shift > 0:
        raise ValueError(f"shift must be positive, got {shift}")
    t = torch.linspace(1, 0, num_steps + 1, dtype=dtype)
    return shift * t / (1 + (shift - 1) * t)


def sway_grid(num_steps: int, sway: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
    """``num_steps + 1`` times from 1 to 0, ``t + sway*(cos(pi/2 t) - 1 + t)`` (F5-TTS, arXiv 2410.06885).

    Args:
        dtype: of the arithmetic. Networks whose embedding takes 1000 t as an angle see the rounding of float32, so
            equality with a sampler in float32 needs the same.
    """
    t = time_grid(num_steps, dtype=dtype)
    grid = t + sway * (torch.cos(math.pi / 2 * t) - 1 + t)
    if bool((grid.diff() >= 0).any()):
        raise ValueError(f"sway {sway} makes the times turn round; it must lie in about -1..1.75")
    return grid


def without_first_steps(times: Tensor, share: float = 0.04) -> Tensor:
    """The grid without its first steps, at least one, about ``share`` of all: zero initialisation of CFG-Zero*.

    The velocity of a guided network is worst at t = 1, so the noise is left as it is for these steps (arXiv
    2503.18886). A step with zero velocity is a step that is not taken.
    """
    return times[max(1, int(len(times) * share)):]


def zero_star(cond: Tensor, uncond: Tensor) -> Tensor:
    """``uncond`` scaled, row by row, to come nearest to ``cond`` (B, ...): the projection of CFG-Zero* (2503.18886)."""
    product = (uncond * cond).flatten(1).sum(1)
    square = (uncond * uncond).flatten(1).sum(1)
    return uncond * (product / (square + 1e-8)).reshape(-1, *[1] * (uncond.ndim - 1))


def cosine_grid(num_steps: int) -> Tensor:
    """``num_steps + 1`` float64 times from 1 to 0, ``cos(pi/2 s)`` of even s: most steps near the noise (CosyVoice)."""
    _check_steps(num_steps, 1)
    grid = torch.cos(math.pi / 2 * torch.linspace(0, 1, num_steps + 1, dtype=torch.float64))
    grid[-1] = 0
    return grid


def sde_time_grid(num_steps: int, last: float = 0.04) -> Tensor:
    """``num_steps`` float64 times from 1 to ``last``, then 0: the grid of SiT's and xAR's stochastic sampler."""
    _check_steps(num_steps, 2)
    return torch.cat([torch.linspace(1, last, num_steps, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])


def _check_steps(num_steps: int, least: int) -> None:
    if num_steps < least:
        raise ValueError(f"num_steps must be at least {least}, got {num_steps}")


def euler(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Integrate ``dx/dt = velocity(x, t)`` along ``times`` (S + 1,); S evaluations, order 1."""
    for now, after in zip(times[:-1], times[1:]):
        x = x + (after - now) * velocity(x, now)
    return x


def midpoint(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """As :func:`euler` with the velocity at the middle of each step; 2 S evaluations, order 2."""
    for now, after in zip(times[:-1], times[1:]):
        step = after - now
        x = x + step * velocity(x + step / 2 * velocity(x, now), now + step / 2)
    return x


def heun(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """As :func:`euler` with the mean of the velocities at both ends; 2 S - 1 evaluations, order 2.

    The last step is an Euler step: a network is least reliable at t = 0, and one step of order 1 keeps order 2.
    """
    for index, (now, after) in enumerate(zip(times[:-1], times[1:])):
        step = after - now
        slope = velocity(x, now)
        if index < len(times) - 2:
            slope = (slope + velocity(x + step * slope, after)) / 2
        x = x + step * slope
    return x


SOLVERS = {"euler": euler, "midpoint": midpoint, "heun": heun}


def euler_maruyama(velocity: Velocity, x: Tensor, times: Tensor, draw: Callable[[], Tensor],
                   path: Path = PATHS["linear"]) -> Tensor:
    """Integrate the stochastic process with the same marginals, diffusion ``w(t) = 2 t`` (SiT, arXiv 2401.08740).

    ``dx = (velocity - w/2 * score) dt + sqrt(w) dW``; the last step is deterministic.

    Args:
        times: decreasing, usually :func:`sde_time_grid`.
        draw: gives a standard normal tensor of the shape of x; called once a step, but for the last.
    """
    for index, (now, after) in enumerate(zip(times[:-1], times[1:])):
        step = after - now
        slope = velocity(x, now)
        x_next = x + step * (slope - now * path.score(slope, x, now))
        if index < len(times) - 2:
            x_next = x_next + torch.sqrt(2 * now * step.abs()) * draw()
        x = x_next
    return x


def maruyama_coefficients(path: Path, now: Tensor, after: Tensor, last: bool) -> tuple[float, float, float]:
    """(a, b, c) of a step of :func:`euler_maruyama`, which is linear: ``a x + b velocity + c draw``; float64 times."""
    alpha, sigma, d_alpha, d_sigma = path.coefficients(now)
    step = after - now
    share = now / ((alpha * d_sigma - d_alpha * sigma) * sigma)
    noise = 0.0 if last else math.sqrt(2 * now * abs(step))
    return float(1 - step * share * d_alpha), float(step * (1 + share * alpha)), noise


def guided_solver(outputs: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]], guidance: Guidance, x: Tensor,
                  times: Tensor, draw: Callable[[], Tensor] | None = None, path: Path = PATHS["linear"]) -> Tensor:
    """:func:`euler`, or with ``draw`` :func:`euler_maruyama`, with guidance and step in one kernel.

    Args:
        outputs: ``outputs(x, t)`` gives the conditional and unconditional velocities, the latter None without guidance.
        guidance: see :func:`photophone.kernels.solver.combine_guidance`.
        times, draw, path: as in those two.
    """
    for index, (now, after) in enumerate(zip(times[:-1], times[1:])):
        cond, uncond = outputs(x, now)
        if draw is None:
            x = linear_step(x, cond, uncond, guidance, 1.0, float(after - now))
            continue
        last = index == len(times) - 2
        a, b, c = maruyama_coefficients(path, now, after, last)
        x = linear_step(x, cond, uncond, guidance, a, b, None if last else draw(), c)
    return x
