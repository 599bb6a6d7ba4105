"""Flow head: continuous tokens by flow matching on top of hidden states (arXiv 2210.02747; per token as in MAR)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.heads.base import (
    ConditionedNetwork,
    Head,
    check_temperature,
    check_tokens,
    is_guided,
    split_guidance,
)
from photophone.heads.flow_map import carry, check_guidance_range
from photophone.heads.mlp import AdaLNMLP
from photophone.kernels.dispatch import choose
from photophone.kernels.solver import Guidance, combine_guidance
from photophone.layers.flow import (
    PATHS,
    SOLVERS,
    euler_maruyama,
    guided_solver,
    logit_normal_times,
    sde_time_grid,
    time_grid,
    zero_star,
)
from photophone.layers.lengths import masked_mean

TIME_DISTRIBUTIONS = ("uniform", "logit_normal")
FLOW_SOLVERS = (*SOLVERS, "sde")


def check_solver(solver: str) -> None:
    """Raise ValueError for a solver that is not in FLOW_SOLVERS."""
    if solver not in FLOW_SOLVERS:
        raise ValueError(f"solver must be one of {sorted(FLOW_SOLVERS)}, got {solver!r}")


class FlowHead(Head):
    """A velocity network conditioned on the hidden states, trained and solved by flow matching.

    Args:
        in_dim: channels C of the hidden states.
        token_dim: channels D of a token.
        width, depth: of the default network, :class:`~photophone.heads.mlp.AdaLNMLP`.
        network: another velocity network ``net(x (B, N, D), t (B,) or (B, N), cond (B, N, C)) -> (B, N, D)``;
            a :class:`~photophone.heads.base.ConditionedNetwork` projects the condition once a sample.
        path: "linear" or "cosine", see :mod:`photophone.layers.flow`.
        time_distribution: of the times in training, "uniform" or "logit_normal" (with ``time_mean``, ``time_std``).
        tokens_per_time: how many neighbouring tokens share one time in training; None means the whole sequence.
        batch_mul: times (and noises) drawn for each token in a training step; the backbone runs once for all.
        guidance_range: None; or the least and the greatest guidance of a head that has learned the flow map of its
            guided field (:mod:`photophone.heads.flow_map`). Its :meth:`sample` takes no unconditional rows.

    Raises:
        ValueError: settings that there are not, or a flow map of a network that knows none.
    """

    def __init__(self, in_dim: int, token_dim: int, width: int = 512, depth: int = 3, *,
                 network: nn.Module | None = None, path: str = "linear", time_distribution: str = "uniform",
                 time_mean: float = 0.0, time_std: float = 1.0, tokens_per_time: int | None = 1,
                 batch_mul: int = 1, guidance_range: Sequence[float] | None = None) -> None:
        super().__init__()
        if path not in PATHS:
            raise ValueError(f"path must be one of {sorted(PATHS)}, got {path!r}")
        if time_distribution not in TIME_DISTRIBUTIONS:
            raise ValueError(f"time_distribution must be one of {TIME_DISTRIBUTIONS}, got {time_distribution!r}")
        if batch_mul < 1:
            raise ValueError(f"batch_mul must be at least 1, got {batch_mul}")
        self.in_dim = in_dim
        self.token_dim = token_dim
        self.path = PATHS[path]
        self.time_distribution = time_distribution
        self.time_mean = time_mean
        self.time_std = time_std
        self.tokens_per_time = tokens_per_time
        self.batch_mul = batch_mul
        self.net = network if network is not None else AdaLNMLP(token_dim, in_dim, width, depth, time_scale=1000.0)
        self.guidance_range = None if guidance_range is None else check_guidance_range(guidance_range)
        if self.guidance_range is not None:
            if not isinstance(self.net, ConditionedNetwork):
                raise ValueError(f"a {type(self.net).__name__} cannot learn a flow map; it must be a "
                                 "ConditionedNetwork")
            self.net.learn_map()

    def loss(self, hidden: Tensor, target: Tensor, mask: Tensor | None = None, *, noise: Noise | None = None,
             batch_mul: int | None = None) -> Tensor:
        """Masked mean of the squared error of the velocity; target float ``(B, N, D)``. See :meth:`Head.loss`."""
        check_tokens(hidden, target, self.token_dim)
        noise = noise or GlobalNoise(hidden.device)
        rows, length = hidden.shape[:2]
        mul = batch_mul or self.batch_mul
        t = self.draw_times(rows, length, mul, noise)  # (B * mul,) or (B * mul, N)
        t_token = t.reshape(rows * mul, -1, 1)  # (B * mul, 1 or N, 1)
        eps = noise.normal(rows, mul, length, self.token_dim).flatten(0, 1)  # (B * mul, N, D)
        data = target.float().repeat_interleave(mul, dim=0)
        x_t = self.path.interpolate(data, eps, t_token)
        velocity = self._evaluate(self.project(hidden).repeat_interleave(mul, dim=0), x_t, t)
        errors = (velocity - self.path.velocity(data, eps, t_token)).square().mean(dim=-1)  # (B * mul, N)
        return masked_mean(errors, None if mask is None else mask.repeat_interleave(mul, dim=0))

    @torch.no_grad()
    def sample(self, hidden: Tensor, *, guidance: Guidance = 1.0, temperature: float = 1.0, noise: Noise,
               num_steps: int = 16, solver: str = "euler", time_shift: float = 1.0,
               times: Tensor | None = None, scaled_guidance: bool = False, away: bool = False,
               start: Tensor | None = None, start_time: float = 1.0) -> Tensor:
        """Tokens float32 ``(B, N, D)``. See :meth:`Head.sample`.

        Args:
            temperature: scales the initial noise.
            num_steps: solver steps; the network runs once a step, twice for "heun" and "midpoint".
            solver: "euler", "heun", "midpoint", or "sde" (Euler-Maruyama of SiT and xAR, temperature on all noise).
            time_shift: see :func:`photophone.layers.flow.time_grid`; not for "sde".
            times: an explicit grid, decreasing to 0, in place of ``num_steps`` and ``time_shift``.
            scaled_guidance: guidance from the unconditional velocity as :func:`photophone.layers.flow.zero_star`
                scales it.
            away: the second half of the rows has a caption to be led away from, which a flow map has not learned; its
                steps are then guided from the maps of both without guidance.
            start: tokens (B, N, D) to begin with, in place of noise alone.
            start_time: share of noise in the start; the times then go from there to 0.

        Raises:
            ValueError: a start for "sde", whose times are its own.
        """
        check_temperature(temperature)
        check_solver(solver)
        if start is not None and solver == "sde":
            raise ValueError('the solver "sde" begins with noise alone; re-draw with another one')
        two = away or self.reads_null(guidance, scaled_guidance=scaled_guidance)
        rows, length = (split_guidance(hidden, guidance)[0] if two else hidden).shape[:2]
        projected = self.project(hidden)

        def draw() -> Tensor:
            eps = temperature * noise.normal(rows, length, self.token_dim)
            return eps if start is None else self.path.interpolate(start, eps, eps.new_tensor(start_time))

        if times is None:
            times = sde_time_grid(num_steps) if solver == "sde" else start_time * time_grid(num_steps, time_shift)
        if self.guidance_range is not None and (away or not two):
            return self._follow_map(projected, draw, times, solver, guidance, away)

        def outputs(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
            both = x.repeat(hidden.shape[0] // rows, 1, 1)  # (B or 2B, N, D)
            now = t.to(x).reshape(1)
            return split_guidance(self.mean_velocity(projected, both, now, now), guidance)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            cond, uncond = outputs(x, t)
            if scaled_guidance and uncond is not None:
                uncond = zero_star(cond, uncond)
            return combine_guidance(cond, uncond, guidance)

        if solver in ("euler", "sde") and not scaled_guidance and choose("solver", hidden) == "triton":
            return guided_solver(outputs, guidance, draw(), times, draw if solver == "sde" else None, self.path)
        if solver == "sde":
            return euler_maruyama(velocity, draw(), times, draw, self.path)
        return SOLVERS[solver](velocity, draw(), times)

    def _follow_map(self, projected: Tensor, draw: Callable[[], Tensor], times: Tensor, solver: str,
                    guidance: Guidance, away: bool = False) -> Tensor:
        """Tokens by steps of the flow map; other solvers than "euler" take its velocities, s = t."""
        def mean(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
            if not away:
                return self.mean_velocity(projected, x, t, s, guidance)
            both = self.mean_velocity(projected, x.repeat(2, 1, 1), t, s)
            return combine_guidance(*split_guidance(both, guidance), guidance)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            now = t.to(x).reshape(1)
            return mean(x, now, now)

        if solver == "sde":
            return euler_maruyama(velocity, draw(), times, draw, self.path)
        if solver != "euler":
            return SOLVERS[solver](velocity, draw(), times)
        x = draw()
        for now, after in pairwise(times.to(x).unsqueeze(1)):
            x = carry(x, mean(x, now, after), now, after)
        return x

    def mean_velocity(self, projected: Tensor, x: Tensor, t: Tensor, s: Tensor, guidance: Guidance = 1.0) -> Tensor:
        """Mean guided velocity (B, N, D) on the way of states x (B, N, D) from times t to s, each (1,) or (B,).

        A head without a flow map knows the velocity at t alone, and no guidance. Guidance outside ``guidance_range`` is
        reached on the line through both ends, as guidance itself is a line; that takes a second evaluation.
        """
        if self.guidance_range is None:
            return self._evaluate(projected, x, t)
        low, high = self.guidance_range
        wanted = torch.as_tensor(guidance, dtype=x.dtype, device=x.device).reshape(-1)
        inside = wanted.clamp(low, high)
        mean = self._evaluate_map(projected, x, t, s, inside)
        if torch.equal(inside, wanted):
            return mean
        far = torch.where(wanted > high, low, high)
        share = (wanted - inside) / (inside - far)
        return mean + share.reshape(-1, 1, 1) * (mean - self._evaluate_map(projected, x, t, s, far))

    def reads_null(self, guidance: Guidance, *, scaled_guidance: bool = False) -> bool:
        return is_guided(guidance) and (self.guidance_range is None or scaled_guidance)

    def step_options(self, num_steps: int, *, solver: str | None = None, time_shift: float = 1.0,
                     scaled_guidance: bool = False) -> dict[str, Any]:
        solver = solver or "euler"
        check_solver(solver)
        if solver == "sde" and time_shift != 1:
            raise ValueError(f'the solver "sde" has a grid of its own and takes no time_shift, got {time_shift}')
        return {"num_steps": num_steps, "solver": solver, "time_shift": time_shift, "scaled_guidance": scaled_guidance}

    def draw_times(self, rows: int, length: int, mul: int, noise: Noise) -> Tensor:
        """Times of a training step: ``(rows * mul,)``, or ``(rows * mul, length)`` when groups of tokens differ."""
        group = self.tokens_per_time or length
        if length % group:
            raise ValueError(f"{length} tokens do not split into groups of {group}")
        shape = (rows, mul, length // group)
        if self.time_distribution == "uniform":
            t = noise.uniform(*shape)
        else:
            t = logit_normal_times(noise.normal(*shape), self.time_mean, self.time_std)
        t = t.flatten(0, 1)  # (rows * mul, groups)
        return t[:, 0] if self.tokens_per_time is None else t.repeat_interleave(group, dim=1)

    def remember_times(self) -> AbstractContextManager[None]:
        return self.net.remember_times() if isinstance(self.net, ConditionedNetwork) else super().remember_times()

    def project(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, N, C) as the network wants them, in its dtype."""
        hidden = hidden.to(self._weight_dtype())
        return self.net.project(hidden) if isinstance(self.net, ConditionedNetwork) else hidden

    def _evaluate_map(self, projected: Tensor, x: Tensor, t: Tensor, s: Tensor, guidance: Tensor) -> Tensor:
        t, s, guidance = torch.broadcast_tensors(t, s, guidance)
        return self._evaluate(projected, x, t, torch.stack([s, guidance], dim=-1))

    def _evaluate(self, projected: Tensor, x: Tensor, t: Tensor, ends: Tensor | None = None) -> Tensor:
        """Velocity in float32: solver states and losses stay in float32 whatever the weights are."""
        x = x.to(self._weight_dtype())
        if isinstance(self.net, ConditionedNetwork):
            return self.net.denoise(x, t, projected, ends).float()
        return self.net(x, t.expand(x.shape[0]) if t.shape == (1,) else t, projected).float()

    def _weight_dtype(self) -> torch.dtype:
        if isinstance(self.net, ConditionedNetwork):  # asked at each step: to look through all weights would be slow
            return self.net.time_embed.mlp[0].weight.dtype
        weight = next(self.net.parameters(), None)  # a closed-form velocity has none
        return torch.float32 if weight is None else weight.dtype
