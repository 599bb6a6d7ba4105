"""Diffusion Forcing for plans: bundles of an observation and an action, from a start towards a goal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from photophone.core.noise import GlobalNoise, Noise
from photophone.decoding.forcing import level_matrix
from photophone.generators.diffusion_forcing.model import DiffusionForcing, Guide

PADDINGS = ("same", "zero")
UNKNOWN_WEIGHT = 0.05
"""Of tokens behind a random end, in the loss."""
START_WEIGHTS, GOAL_WEIGHTS = (20.0, 2.0), (1.0, 8.0)
"""Of the first pair of observed channels, and of all that follow."""
GUIDE_SCALE = 1000.0


class DiffusionForcingPlanner(DiffusionForcing):
    """Plans (B, T, observation and action).

    Args:
        observation_dim, action_dim: channels of a bundle.
        padding: what stands before the first observation in its token: "same", itself, or "zero".
        settings: those of :class:`photophone.generators.diffusion_forcing.model.DiffusionForcing`.

    Raises:
        ValueError: for settings that are unknown or do not fit.
    """

    def __init__(self, observation_dim: int = 4, action_dim: int = 2, padding: str = "same", frame_stack: int = 1,
                 frame_mean: Sequence[float] | None = None, frame_std: Sequence[float] | None = None,
                 causal: bool = False, network_config: dict | None = None, schedule: str = "linear",
                 schedule_config: dict | None = None, num_train_steps: int = 1000,
                 objective: str = "start", noise_limit: float = 20.0, snr_limit: float = 5.0,
                 snr_decay: float | None = None, stabilization: int = 10) -> None:
        super().__init__(observation_dim + action_dim, frame_stack, frame_mean=frame_mean, frame_std=frame_std,
                         causal=causal, network_config=network_config, schedule=schedule,
                         schedule_config=schedule_config, num_train_steps=num_train_steps, objective=objective,
                         noise_limit=noise_limit,
                         snr_limit=snr_limit, snr_decay=snr_decay, stabilization=stabilization)
        if padding not in PADDINGS or observation_dim % 2:
            raise ValueError(f"padding must be one of {', '.join(PADDINGS)} and observation_dim even, got {padding!r} "
                             f"and {observation_dim}")

    def padded(self, first: Tensor) -> Tensor:
        """A first bundle (B, C) as the frames (B, stack, C) of a token."""
        frames = first[:, None].repeat(1, self.config.frame_stack, 1)
        if self.config.padding == "zero":
            frames[:, :-1] = 0
        return frames

    def bundle(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Tokens (B, 1 + T / stack, stack C) of observations (B, T + 1, O) and actions (B, T + 1, A).

        An action lies beside the observation that it leads to; the first token holds the first observation alone.
        """
        mean, std = self._statistics(observations)
        bundles = (torch.cat([observations[:, 1:], actions[:, :-1]], dim=-1) - mean) / std
        first = torch.cat([observations[:, 0], torch.zeros_like(actions[:, 0])], dim=-1)
        first = (first - mean) / std
        first[:, self.config.observation_dim:] = 0
        frames = torch.cat([self.padded(first), bundles], dim=1)
        return frames.unflatten(1, (-1, self.config.frame_stack)).flatten(2, 3)

    def masks(self, nonterminals: Tensor) -> Tensor:
        """Bool (B, stack + T): frames that are available, of bool (B, T + 1)."""
        first = nonterminals.new_ones(len(nonterminals), self.config.frame_stack)
        return torch.cat([first, nonterminals[:, :-1]], dim=1)

    def plan_loss(self, tokens: Tensor, available: Tensor, *, noise: Noise | None = None) -> Tensor:
        """The training loss of tokens (B, n, ...) with bool (B, stack n) of :meth:`masks`, a scalar."""
        noise, (rows, length), stack = noise or GlobalNoise(tokens.device), tokens.shape[:2], self.config.frame_stack
        weights = available.float()
        if not self.config.causal:
            end = noise.integers(2, length + 1, rows)[:, None].to(tokens.device)
            known = (torch.arange(length, device=tokens.device) < end).repeat_interleave(stack, dim=1)
            weights, available = weights * known.float().clamp(min=UNKNOWN_WEIGHT), available & known
        level = self.draw_levels(noise, rows, length)
        level = torch.where(available.unflatten(1, (-1, stack)).any(dim=-1), level, self.config.num_train_steps - 1)
        if float(noise.uniform(rows)[0]) < 0.5:  # a start is nearly always known
            level[:, 0] = noise.integers(0, self.config.num_train_steps // 4, rows).to(tokens.device)
        errors = self.errors(tokens, level, self.draw(noise, *tokens.shape))[0]
        errors = errors.unflatten(2, (stack, -1)) * weights.unflatten(1, (-1, stack))[..., None]
        return errors.mean()

    def guide(self, start: Tensor, goal: Tensor, horizon: int, scale: float) -> Guide:
        """What a plan between bundles (B, C) should make large: it begins at the start, and is near the goal soon."""
        stack, observed = self.config.frame_stack, self.config.observation_dim

        def value(tokens: Tensor) -> Tensor:
            frames = tokens.unflatten(2, (stack, -1)).flatten(1, 2)  # (B, T, C)
            count = frames.shape[1] - stack
            target = torch.cat([start[:, None].expand(-1, stack, -1), goal[:, None].expand(-1, count, -1)], dim=1)
            squares = (frames - target).square()
            places = squares[..., :observed].unflatten(-1, (observed // 2, -1)).sum(-1).sqrt()
            actions = squares[..., observed:].sum(-1, keepdim=True).sqrt()
            distance = torch.cat([torch.tanh(places / 2), actions], dim=-1)
            weight = distance.new_zeros(distance.shape[1:])
            weight[:, 1:] = GOAL_WEIGHTS[1]
            weight[stack:stack + horizon, 0] = GOAL_WEIGHTS[0]
            weight[:stack, 0], weight[:stack, 1:] = START_WEIGHTS
            return scale * -(distance * weight).mean() * GUIDE_SCALE

        return value

    @torch.no_grad()
    def plan(self, start: Tensor, goal: Tensor, horizon: int, *, noise: Noise, num_steps: int, window: int,
             guidance: float = 2.0, matrix: str = "pyramid", scale: float = 1.0, eta: float = 0.0) -> Tensor:
        """All states of a plan, (rows of the matrix, B, horizon, C), normalised.

        Args:
            start, goal: normalised observations (B, O).
            horizon: frames of the plan.
            num_steps: sampling steps.
            window: tokens that the network sees; without causality the rest of it is noise that is not read.
            guidance: towards the goal; 0: none.
            matrix, scale: see :func:`photophone.decoding.forcing.level_matrix`.

        Raises:
            ValueError: a horizon that does not fit the window.
        """
        rows, stack = len(start), self.config.frame_stack
        tokens = math.ceil(horizon / stack)
        if not 1 <= tokens < window:
            raise ValueError(f"a horizon must be 1..{(window - 1) * stack} frames, got {horizon}")
        pad = start.new_zeros(rows, self.config.action_dim)
        start, goal = torch.cat([start, pad], dim=-1), torch.cat([goal, pad], dim=-1)
        rest = 0 if self.config.causal else window - tokens - 1
        chunk = self.draw(noise, rows, tokens, start.shape[1] * stack)
        first = self.padded(start).flatten(1)[:, None]
        plan = torch.cat([first, chunk, chunk.new_zeros(rows, rest, chunk.shape[2])], dim=1)
        guide = self.guide(start, goal, horizon, guidance) if guidance else None
        levels = torch.nn.functional.pad(level_matrix(matrix, tokens, num_steps, scale), (1, 0))
        levels = torch.nn.functional.pad(levels, (0, rest), value=num_steps).to(plan.device)
        states = [plan]
        for before, behind in zip(levels[:-1], levels[1:]):
            made = self.ddim_step(plan, before.expand(rows, -1), behind.expand(rows, -1), noise, num_steps=num_steps,
                                  eta=eta, guide=guide)
            plan = torch.cat([plan[:, :1], made[:, 1:1 + tokens], plan[:, 1 + tokens:]], dim=1)
            states.append(plan)
        history = torch.stack(states)[:, :, 1:1 + tokens]
        return history.unflatten(3, (stack, -1)).flatten(2, 3)[:, :, :horizon]
