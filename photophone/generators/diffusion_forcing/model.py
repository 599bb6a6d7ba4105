"""Diffusion Forcing: frames of a sequence with noise levels of their own, trained together and rolled out in chunks.

Paper: arXiv 2407.01392. Official code: buoyancy99/diffusion-forcing, MIT. A token is ``frame_stack`` frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from photophone.core.model import Model
from photophone.core.noise import GlobalNoise, Noise
from photophone.decoding.forcing import real_steps, roll_out
from photophone.generators.diffusion_forcing.transformer import FrameTransformer
from photophone.generators.diffusion_forcing.unet import FrameUNet
from photophone.layers.frame_diffusion import (
    OBJECTIVES,
    FrameTables,
    frame_tables,
    loss_weights,
    noised,
    read_output,
    start_of_noise,
    velocity_of,
)
from photophone.layers.gaussian_diffusion import lookup
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

NETWORKS = {"transformer": FrameTransformer, "unet": FrameUNet}
LEAST_VARIANCE = 1e-20
Guide = Callable[[Tensor], Tensor]  # predicted tokens (B, T, ...) to a number that is to be large


class DiffusionForcing(OriginalCheckpoint, Model):
    """Frames (B, T, C) or (B, T, C, H, W) as tokens of ``frame_stack`` frames.

    Args:
        frame_dim: channels C of a frame.
        frame_stack: frames of a token.
        frame_skip: of the data, for the decay of fused SNR alone.
        condition_dim: channels of each frame's condition.
        frame_mean, frame_std: of the data, one for each channel; None: 0 and 1.
        causal: tokens see those before them alone.
        network: a name in NETWORKS, with its further arguments in ``network_config``.
        schedule, schedule_config: see :data:`photophone.layers.frame_diffusion.FRAME_SCHEDULES`.
        num_train_steps: T of the process.
        objective: what the network predicts, of OBJECTIVES.
        noise_limit: draws are kept within so many deviations.
        snr_limit: see :func:`photophone.layers.frame_diffusion.loss_weights`.
        snr_decay: of fused SNR, for one frame; None: it is not fused.
        stabilization: the level that context is given, from 1.

    Raises:
        ValueError: for settings that are unknown or do not fit.
    """

    def __init__(self, frame_dim: int = 3, frame_stack: int = 1, frame_skip: int = 1, condition_dim: int | None = None,
                 frame_mean: Sequence[float] | None = None, frame_std: Sequence[float] | None = None,
                 causal: bool = True, network: str = "transformer", network_config: dict | None = None,
                 schedule: str = "cosine", schedule_config: dict | None = None, num_train_steps: int = 1000,
                 objective: str = "start", noise_limit: float = 20.0, snr_limit: float = 5.0,
                 snr_decay: float | None = None, stabilization: int = 10) -> None:
        super().__init__()
        if network not in NETWORKS or objective not in OBJECTIVES:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)} and objective of {', '.join(OBJECTIVES)}, "
                             f"got {network!r} and {objective!r}")
        if stabilization > num_train_steps:
            raise ValueError(f"stabilization must lie in 1..{num_train_steps}, got {stabilization}")
        if network == "unet" and condition_dim:
            raise ValueError("the U-Net takes no conditions: leave condition_dim=None")
        size = frame_dim * frame_stack
        conditions = () if network == "unet" else ((condition_dim or 0) * frame_stack,)
        self.net = NETWORKS[network](size, *conditions, **(network_config or {}))
        self.tables()  # refuses bad settings now

    @classmethod
    def prepare_state_dict(cls, state: State, config: Mapping[str, Any]) -> State:
        """Keys of either network, with or without their prefix, to ours; the tables of the process are dropped."""
        prefix = "diffusion_model.model."
        if any(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        made = NETWORKS[config.get("network", "transformer")].convert_state_dict(state)
        return rename_keys(made, [(r"^", "net.")])

    def tables(self) -> FrameTables:
        """Of the process."""
        return frame_tables(self.config.schedule, self.config.num_train_steps, self.config.schedule_config)

    # data ---------------------------------------------------------------------------------------------------------

    def _statistics(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1, *[1] * (frames.ndim - 3))
        given = ((self.config.frame_mean, 0.0), (self.config.frame_std, 1.0))
        return tuple(torch.full((1,), default).reshape(shape).to(frames) if values is None else
                     torch.tensor(values).reshape(shape).to(frames) for values, default in given)

    def pack(self, frames: Tensor) -> Tensor:
        """Frames (B, T, C, ...) as normalised tokens (B, T / stack, stack C, ...)."""
        mean, std = self._statistics(frames)
        return ((frames - mean) / std).unflatten(1, (-1, self.config.frame_stack)).flatten(2, 3)

    def unpack(self, tokens: Tensor) -> Tensor:
        """The inverse of :meth:`pack`."""
        frames = tokens.unflatten(2, (self.config.frame_stack, -1)).flatten(1, 2)
        mean, std = self._statistics(frames)
        return frames * std + mean

    def pack_conditions(self, conditions: Tensor) -> Tensor:
        """Conditions (B, T, E) of frames as those of tokens; the first frame has none."""
        conditions = torch.cat([torch.zeros_like(conditions[:, :1]), conditions[:, 1:]], dim=1)
        return conditions.unflatten(1, (-1, self.config.frame_stack)).flatten(2, 3)

    # training -----------------------------------------------------------------------------------------------------

    def draw(self, noise: Noise, *shape: int) -> Tensor:
        """Normal draws within the limit."""
        return noise.normal(*shape).to(self.device).clamp(-self.config.noise_limit, self.config.noise_limit)

    def predict(self, x: Tensor, level: Tensor, condition: Tensor | None = None,
                causal: bool | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The network's output, noise and start (B, T, ...) of noisy tokens at levels Long (B, T)."""
        output = self.net(x, level, condition, self.config.causal if causal is None else causal)
        return output, *read_output(self.tables(), self.config.objective, output, x, level, self.config.noise_limit)

    def weights(self, level: Tensor) -> Tensor:
        """Weights (B, T) of the errors at levels."""
        config, decay = self.config, self.config.snr_decay
        decay = None if decay is None else decay ** (config.frame_stack * config.get("frame_skip", 1))
        return loss_weights(self.tables(), config.objective, level, config.snr_limit, decay)

    def errors(self, x: Tensor, level: Tensor, eps: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Weighted squared errors and predicted starts (B, T, ...) of tokens x at levels with noise eps."""
        tables = self.tables()
        output, _, start = self.predict(noised(tables, x, eps, level), level, condition)
        target = {"noise": eps, "start": x, "velocity": velocity_of(tables, x, eps, level)}[self.config.objective]
        weight = self.weights(level).reshape(*level.shape, *[1] * (x.ndim - 2))
        return (output - target).square() * weight, start

    def draw_levels(self, noise: Noise, rows: int, length: int) -> Tensor:
        """Levels Long (rows, length) of a training step, each of its own."""
        return noise.integers(0, self.config.num_train_steps, rows, length).to(self.device)

    def loss(self, frames: Tensor, conditions: Tensor | None = None, *, noise: Noise | None = None) -> Tensor:
        """The training loss of frames (B, T, C, ...), a scalar."""
        noise, x = noise or GlobalNoise(frames.device), self.pack(frames)
        level = self.draw_levels(noise, *x.shape[:2])
        condition = None if conditions is None else self.pack_conditions(conditions)
        return self.errors(x, level, self.draw(noise, *x.shape), condition)[0].mean()

    # sampling -----------------------------------------------------------------------------------------------------

    def _context(self, step: Tensor) -> Tensor:
        """Levels that the network is told: those of ``stabilization`` for clean tokens."""
        return torch.where(step < 0, self.config.stabilization - 1, step)

    def ddim_step(self, x: Tensor, before: Tensor, behind: Tensor, noise: Noise, *, num_steps: int, eta: float = 0.0,
                  condition: Tensor | None = None, guide: Guide | None = None) -> Tensor:
        """Tokens (B, T, ...) from levels Long (B, T) to others; those whose level stays do.

        One draw of the shape of x is made, also without eta.

        Args:
            num_steps: S, the highest level.
            eta: 0 is deterministic.
            guide: what predicted tokens should make large.
        """
        steps = real_steps(self.config.num_train_steps, num_steps).to(x.device)
        now, after = steps[before], steps[behind]
        tables, level = self.tables(), self._context(now)
        kept, shape = x, (*now.shape, *[1] * (x.ndim - 2))
        clean = (now < 0).view(shape)
        x = torch.where(clean, lookup(tables.alphas_cumprod.sqrt(), level, x) * x, x)
        signal = lookup(tables.alphas_cumprod, level, x)
        next_signal = torch.where((after < 0).view(shape), 1.0, lookup(tables.alphas_cumprod, after.clamp(min=0), x))
        eps, start = self._guided(x, level, condition, guide, next_signal)
        spread = eta * ((1 - signal / next_signal) * (1 - next_signal) / (1 - signal)).clamp(min=0).sqrt()
        spread = torch.where((after < 0).view(shape), 0.0, spread)
        draws = self.draw(noise, *x.shape)
        made = start * next_signal.sqrt() + eps * (1 - next_signal - spread.square()).clamp(min=0).sqrt() + \
            spread * draws
        return torch.where((now == after).view(shape), kept, made)

    def _guided(self, x: Tensor, level: Tensor, condition: Tensor | None, guide: Guide | None,
                next_signal: Tensor) -> tuple[Tensor, Tensor]:
        if guide is None:
            return self.predict(x, level, condition)[1:]
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            _, eps, start = self.predict(x, level, condition)
            gradient = torch.autograd.grad(guide(start), x)[0]
        eps = eps.detach() - (1 - next_signal).sqrt() * gradient
        return eps, start_of_noise(self.tables(), x.detach(), eps, level)

    def ddpm_step(self, x: Tensor, before: Tensor, behind: Tensor, noise: Noise,
                  condition: Tensor | None = None) -> Tensor:
        """As :meth:`ddim_step` with all steps of the process, one down for all tokens but the context.

        Two draws of the shape of x are made.

        Raises:
            ValueError: a token that waits, or skips a step.
        """
        now, after = before - 1, behind - 1
        if not bool(((now < 0) | (now - after == 1)).all()):
            raise ValueError("in DDPM every token that is not clean goes one step down; use the matrix full_sequence")
        tables, level = self.tables(), self._context(now)
        shape = (*now.shape, *[1] * (x.ndim - 2))
        clean, kept = (now < 0).view(shape), x
        x = torch.where(clean, noised(tables, x, self.draw(noise, *x.shape), level), x)
        _, _, start = self.predict(x, level, condition)
        mean = lookup(tables.posterior_coef_start, level, x) * start + lookup(tables.posterior_coef_x, level, x) * x
        spread = lookup(tables.posterior_variance.clamp(min=LEAST_VARIANCE).sqrt(), level, x)
        draws = torch.where((level > 0).view(shape), self.draw(noise, *x.shape), 0.0)
        return torch.where(clean, kept, mean + spread * draws)

    @torch.no_grad()
    def generate(self, known: Tensor, total: int, *, noise: Noise, num_steps: int, window: int,
                 matrix: str = "pyramid", chunk: int = 1, scale: float = 1.0, eta: float = 0.0,
                 conditions: Tensor | None = None, guide: Guide | None = None) -> Tensor:
        """Frames (B, total, C, ...) behind known ones (B, n, C, ...).

        Args:
            num_steps: sampling steps of a token; those of the process: DDPM.
            window: most tokens that the network sees.
            matrix, chunk, scale: see :func:`photophone.decoding.forcing.roll_out`.
            eta, guide: see :meth:`ddim_step`.
            conditions: (B, total, E).

        Raises:
            ValueError: frames that do not fill tokens, more steps than the process has, or see
                :func:`photophone.decoding.forcing.level_matrix`.
        """
        stack, rows = self.config.frame_stack, len(known)
        if known.shape[1] % stack or total % stack or not 1 <= num_steps <= self.config.num_train_steps:
            raise ValueError(f"known and all frames must be multiples of {stack}, got {known.shape[1]} and {total}; "
                             f"steps must lie in 1..{self.config.num_train_steps}, got {num_steps}")
        tokens = self.pack(known.to(self.device, self.dtype))
        packed = None if conditions is None else self.pack_conditions(conditions.to(self.device, self.dtype))

        def step(x: Tensor, first: int, before: Tensor, behind: Tensor) -> Tensor:
            condition = None if packed is None else packed[:, first:first + x.shape[1]]
            levels = [level.to(x.device).expand(rows, -1) for level in (before, behind)]
            if num_steps == self.config.num_train_steps:
                return self.ddpm_step(x, *levels, noise, condition)
            return self.ddim_step(x, *levels, noise, num_steps=num_steps, eta=eta, condition=condition, guide=guide)

        made = roll_out(tokens, total // stack, step, lambda count: self.draw(noise, rows, count, *tokens.shape[2:]),
                        matrix=matrix, num_steps=num_steps, window=window, chunk=chunk, scale=scale)
        return self.unpack(made)
