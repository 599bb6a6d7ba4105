"""Discrete-time Gaussian diffusion with predicted noise and learned variance, as pure functions.

The maths of DDPM (arXiv 2006.11239), improved DDPM (2102.09672) and DDIM (2010.02502) in the variant that MAR
(2406.11838) inherits from ADM. diffusers' DDPMScheduler is not used: its time grids have no sections and no
"ddimN", and its learned range is computed from other tables than those that published MAR weights expect.
Tables are float64 and become float32 when a step is looked up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from photophone.layers.normal import discretized_normal_nll, normal_kl


def cosine_betas(num_steps: int) -> Tensor:
    """Float64 ``(T,)``: betas of the squared-cosine schedule (arXiv 2102.09672), at most 0.999."""
    def signal(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - signal((i + 1) / num_steps) / signal(i / num_steps), 0.999) for i in range(num_steps)]
    return torch.tensor(betas, dtype=torch.float64)


def linear_betas(num_steps: int) -> Tensor:
    """Float64 ``(T,)``: DDPM's schedule, 1e-4 to 0.02 at 1000 steps and scaled by ``1000 / T``."""
    return torch.linspace(0.1 / num_steps, 20 / num_steps, num_steps, dtype=torch.float64)


def scaled_linear_betas(num_steps: int, first: float = 0.00085, last: float = 0.012) -> Tensor:
    """Float64 ``(T,)``: betas whose roots lie on a line, the schedule of Stable Diffusion (arXiv 2112.10752)."""
    return torch.linspace(first**0.5, last**0.5, num_steps, dtype=torch.float64).square()


def zero_terminal_snr(betas: Tensor) -> Tensor:
    """Betas (T,) stretched so that the last step holds pure noise (arXiv 2305.08891); the first stays."""
    signal = torch.cumprod(1 - betas, dim=0).sqrt()
    signal = (signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1]))
    kept = signal.square()
    return 1 - kept / torch.cat([kept.new_ones(1), kept[:-1]])


SCHEDULES = {"cosine": cosine_betas, "linear": linear_betas}


def space_timesteps(num_steps: int, respacing: str) -> list[int]:
    """The steps of ``range(num_steps)`` that a sampler visits, increasing.

    Args:
        respacing: "" for all; "N" for N steps from the first to the last; "A,B,..." splits the range into equal
            sections and spreads A, B, ... steps in each; "ddimN" for the integer stride that gives N steps.

    Raises:
        ValueError: for a malformed string, a section with fewer steps than asked for, or no stride that gives N.
    """
    if respacing.startswith("ddim"):
        wanted = _count(respacing[4:], respacing)
        for stride in range(1, num_steps):
            if len(range(0, num_steps, stride)) == wanted:
                return list(range(0, num_steps, stride))
        raise ValueError(f"no integer stride visits {wanted} of {num_steps} steps ({respacing!r})")
    counts = [_count(part, respacing) for part in respacing.split(",")] if respacing else [num_steps]
    steps = []
    start = 0
    for section, count in enumerate(counts):
        size = num_steps // len(counts) + (section < num_steps % len(counts))
        if count > size:
            raise ValueError(f"respacing {respacing!r} asks for {count} of the {size} steps of section {section}")
        stride = (size - 1) / (count - 1) if count > 1 else 1.0
        position = 0.0  # summed up, not multiplied: half-way cases then round as in the official code
        for _ in range(count):
            steps.append(start + round(position))
            position += stride
        start += size
    return steps


def _count(text: str, respacing: str) -> int:
    if not text.strip().isdecimal():
        raise ValueError(f'respacing must look like "100", "25,10" or "ddim50", got {respacing!r}')
    return int(text)


@dataclass(frozen=True)
class DiffusionTables:
    """Float64 ``(S,)`` tables of a process of S steps, a subset of the T steps that the network was trained on.

    ``log_variance`` is that of the posterior q(x_{s-1} | x_s, x_0); its first entry, minus infinity, is replaced by
    the second. ``timesteps`` (Long) are the numbers of the steps among the T, which is what the network is told.
    """

    timesteps: Tensor
    betas: Tensor
    alphas_cumprod: Tensor
    alphas_cumprod_prev: Tensor
    posterior_coef_x0: Tensor
    posterior_coef_xt: Tensor
    log_variance: Tensor

    def __len__(self) -> int:
        return len(self.betas)

    def noised(self, x0: Tensor, noise: Tensor, step: Tensor | int) -> Tensor:
        """:func:`add_noise` of this process."""
        return add_noise(self, x0, noise, step)

    def start_of_velocity(self, x: Tensor, velocity: Tensor, step: Tensor | int) -> Tensor:
        """x_0 of x_s and a predicted ``sqrt(acp) noise - sqrt(1 - acp) x_0`` (arXiv 2202.00512)."""
        return lookup(self.alphas_cumprod.sqrt(), step, x) * x - \
            lookup((1 - self.alphas_cumprod).sqrt(), step, x) * velocity

    def noise_of_velocity(self, x: Tensor, velocity: Tensor, step: Tensor | int) -> Tensor:
        """The noise in x_s by the same prediction; it needs no division, which fails where nothing is left of x_0."""
        return lookup(self.alphas_cumprod.sqrt(), step, x) * velocity + \
            lookup((1 - self.alphas_cumprod).sqrt(), step, x) * x


@cache
def diffusion_tables(schedule: str = "cosine", num_steps: int = 1000, respacing: str = "",
                     zero_snr: bool = False) -> DiffusionTables:
    """Tables of a schedule in SCHEDULES with ``num_steps`` training steps, thinned out by :func:`space_timesteps`.

    ``zero_snr`` stretches it by :func:`zero_terminal_snr`.

    Raises:
        ValueError: for an unknown schedule, a bad respacing, or fewer than two steps.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {sorted(SCHEDULES)}, got {schedule!r}")
    with torch.inference_mode(False), torch.device("cpu"):  # kept for all, whatever the first model is built within
        timesteps = torch.tensor(space_timesteps(num_steps, respacing), dtype=torch.long)
        if len(timesteps) < 2:
            raise ValueError(f"diffusion needs at least 2 steps, respacing {respacing!r} leaves {len(timesteps)}")
        one = torch.ones(1, dtype=torch.float64)
        all_betas = SCHEDULES[schedule](num_steps)
        kept = torch.cumprod(1 - (zero_terminal_snr(all_betas) if zero_snr else all_betas), dim=0)[timesteps]
        betas = 1 - kept / torch.cat([one, kept[:-1]])
        alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        previous = torch.cat([one, alphas_cumprod[:-1]])
        variance = betas * (1 - previous) / (1 - alphas_cumprod)
        return DiffusionTables(
            timesteps, betas, alphas_cumprod, previous,
            posterior_coef_x0=betas * previous.sqrt() / (1 - alphas_cumprod),
            posterior_coef_xt=(1 - previous) * (1 - betas).sqrt() / (1 - alphas_cumprod),
            log_variance=torch.cat([variance[1:2], variance[1:]]).log())


def lookup(table: Tensor, step: Tensor | int, x: Tensor) -> Tensor:
    """Float32 entries of a table at ``step`` (an int, or Long of the first axes of x), broadcastable against x."""
    if isinstance(step, int):
        return table[step].float()
    values = table.float().to(x.device)[step]
    return values.reshape(*step.shape, *[1] * (x.ndim - step.ndim))


def add_noise(tables: DiffusionTables, x0: Tensor, noise: Tensor, step: Tensor | int) -> Tensor:
    """A draw of q(x_s | x_0): ``sqrt(acp) x0 + sqrt(1 - acp) noise``."""
    signal = tables.alphas_cumprod.sqrt()
    sigma = (1 - tables.alphas_cumprod).sqrt()
    return lookup(signal, step, x0) * x0 + lookup(sigma, step, x0) * noise


def predict_x0(tables: DiffusionTables, x: Tensor, eps: Tensor, step: Tensor | int) -> Tensor:
    """The x_0 that :func:`add_noise` would take to x with noise ``eps``."""
    inverse = 1 / tables.alphas_cumprod
    return lookup(inverse.sqrt(), step, x) * x - lookup((inverse - 1).sqrt(), step, x) * eps


def posterior_mean(tables: DiffusionTables, x0: Tensor, x: Tensor, step: Tensor | int) -> Tensor:
    """Mean of q(x_{s-1} | x_s = x, x_0)."""
    return lookup(tables.posterior_coef_x0, step, x) * x0 + lookup(tables.posterior_coef_xt, step, x) * x


def learned_range_log_variance(tables: DiffusionTables, v: Tensor, step: Tensor | int) -> Tensor:
    """Log variance between the posterior's (v = -1) and beta's (v = 1), arXiv 2102.09672."""
    fraction = (v + 1) / 2
    lowest = lookup(tables.log_variance, step, v)
    highest = lookup(tables.betas.log(), step, v)
    return fraction * highest + (1 - fraction) * lowest


def step_numbers(tables: DiffusionTables, step: int) -> tuple[float, ...]:
    """What :func:`photophone.kernels.solver.ddpm_step` wants of a step: the coefficients of the functions above."""
    inverse = 1 / tables.alphas_cumprod
    entries = (inverse.sqrt(), (inverse - 1).sqrt(), tables.posterior_coef_x0, tables.posterior_coef_xt,
               tables.log_variance, tables.betas.log())
    return tuple(float(entry[step].float()) for entry in entries)


def diffusion_losses(tables: DiffusionTables, output: Tensor, x0: Tensor, noise: Tensor, step: Tensor, *,
                     velocity: bool = False) -> tuple[Tensor, Tensor]:
    """Squared error of the noise, and variational bound in bits, each a mean over the channels.

    Args:
        output: ``(..., 2 D)`` of the network at x_s: noise, then the variance's place in its range.
        x0, noise: ``(..., D)``.
        step: Long ``(...)``.
        velocity: the network predicts the velocity instead of the noise; its error then counts as one of the noise,
            times ``sqrt(1 - acp)``, as in FPDM (arXiv 2401.08740).

    Returns:
        Two tensors ``(...)``. The bound trains the variance alone: the noise counts as a constant in it.
    """
    eps, v = output.chunk(2, dim=-1)
    x = add_noise(tables, x0, noise, step)
    invert = tables.start_of_velocity if velocity else partial(predict_x0, tables)
    mean = posterior_mean(tables, invert(x, eps.detach(), step), x, step)
    log_variance = learned_range_log_variance(tables, v, step)
    kl = normal_kl(posterior_mean(tables, x0, x, step), lookup(tables.log_variance, step, x), mean, log_variance)
    nll = discretized_normal_nll(x0, mean, 0.5 * log_variance)
    bound = torch.where((step == 0)[..., None], nll, kl).mean(dim=-1) / math.log(2)
    if not velocity:
        return (noise - eps).square().mean(dim=-1), bound
    signal = tables.alphas_cumprod
    weight = lookup(signal * (1 - signal).sqrt(), step, x)[..., 0]
    return weight * (tables.start_of_velocity(noise, x0, step) - eps).square().mean(dim=-1), bound


def ddim_step(tables: DiffusionTables, x: Tensor, x0: Tensor, step: int, eps: Tensor | None = None) -> Tensor:
    """x_{s-1} of the deterministic DDIM sampler (arXiv 2010.02502, eta 0), given the predicted x_0, and the noise or
    None: it follows from both."""
    inverse = 1 / tables.alphas_cumprod
    if eps is None:
        eps = (lookup(inverse.sqrt(), step, x) * x - x0) / lookup((inverse - 1).sqrt(), step, x)
    previous = tables.alphas_cumprod_prev
    return lookup(previous.sqrt(), step, x) * x0 + lookup((1 - previous).sqrt(), step, x) * eps
