"""Few steps: a flow head learns the flow map of its own guided field, so that one evaluation makes a long step.

The flow map ``X(x, t, s) = x + (s - t) u(x, t, s, g)`` carries a state from time t to an earlier time s along the field
that a teacher has under guidance g (consistency models, arXiv 2303.01469; flow maps, 2406.07507; mean flow,
2505.13447). u is the network of the head, which is told s and g beside t. At s = t it is the guided velocity itself,
so that one evaluation stands for the two of classifier-free guidance at every step, however many there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from photophone.core.noise import Noise

if TYPE_CHECKING:
    from photophone.heads.flow import FlowHead

HIDDEN = 64
"""Channels of the embedding between its two layers: what the built-in image model has room for."""
WAVES = (1.0, 2.0, 4.0)
"""Half waves over the unit interval, slow ones: the map must be smooth between the ends seen in training."""
OBJECTIVES = ("states", "consistency")

Mean = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x (M, N, D), t (M,), s (M,)) -> u (M, N, D)


class MapEmbedding(nn.Module):
    """What a network is told beside the time: where its step ends, and the guidance.

    It is zero at s = t without guidance, so a network that is told nothing computes the velocity there: as a plain
    head. The last layer begins with zeros: a network that gets such an embedding is unchanged at first.

    Args:
        width: channels W of the network's embedding of the time.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(6 + 4 * len(WAVES), HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, width, bias=False))
        nn.init.zeros_(self.mlp[2].weight)

    def forward(self, t: Tensor, ends: Tensor) -> Tensor:
        """Times (...) in 0..1, and ends (..., 2), which are the time s <= t of the step's end and the guidance, to
        (..., W)."""
        still = torch.stack([t.to(ends), torch.ones_like(ends[..., 1])], dim=-1)
        return self.mlp(self._features(t, ends)) - self.mlp(self._features(t, still))

    def _features(self, t: Tensor, ends: Tensor) -> Tensor:
        t, span = t.float(), t.float() - ends[..., 0].float()
        excess = (ends[..., 1].float() - 1) / 2
        angles = math.pi * torch.stack([span, t], dim=-1)[..., None] * span.new_tensor(WAVES)  # (..., 2, 3)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1).flatten(-2)  # (..., 12)
        plain = torch.stack([span, t, excess, excess * excess, excess * span, excess * t], dim=-1)
        return torch.cat([plain, waves], dim=-1).to(self.mlp[0].weight.dtype)


def carry(x: Tensor, mean: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The state (M, N, D) at s (M,) of states x at t (M,), from the mean velocity between them."""
    return x + (s - t).reshape(-1, 1, 1) * mean


def draw_segments(count: int, steps: int, whole: float, noise: Callable[[int], Tensor]) -> tuple[Tensor, Tensor]:
    """First and last place of a segment for each of ``count`` recorded paths of ``steps`` steps, Long (count,).

    Args:
        whole: share of segments that begin at the noise, and, independently, that end at the data: what few steps use.
        noise: gives as many uniform draws in [0, 1) as asked for.
    """
    low, high = (noise(count), noise(count))
    first = (torch.minimum(low, high) * steps).long()  # denser near the noise, as the pairs i < j are
    first = torch.where(noise(count) < whole, torch.zeros_like(first), first)
    left = steps - first
    last = first + 1 + (noise(count) * left).long().clamp(max=steps - 1)
    last = torch.where(noise(count) < whole, torch.full_like(last, steps), last.clamp(max=steps))
    return first, last


def map_targets(objective: str, mean: Mean, times: Tensor, states: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Mean velocities (M, N, D) that the flow map should have on segments of recorded paths, without gradients.

    Args:
        objective: "states": between the recorded states, the teacher's own steps (distillation of its solutions).
            "consistency": one recorded step, then the student from there to the end (arXiv 2303.01469; the discrete
            form of mean flow); it needs no teacher at the far end, but learns more slowly.
        mean: u of the student as it is now.
        times: (M, K + 1), decreasing to 0.
        states: (M, K + 1, N, D), the teacher's path at these times.
        first, last: Long (M,), places of the segment in the path.

    Raises:
        ValueError: an unknown objective.
    """
    check_objective(objective)
    rows = torch.arange(len(times), device=times.device)
    begin, end = states[rows, first], states[rows, last]
    t, s = times[rows, first], times[rows, last]
    if objective == "consistency":
        middle, halfway = times[rows, first + 1], states[rows, first + 1]
        with torch.no_grad():
            bent = carry(halfway, mean(halfway, middle, s), middle, s)
        end = torch.where((last == first + 1).reshape(-1, 1, 1), end, bent)
    return (end - begin) / (s - t).reshape(-1, 1, 1)


def map_loss(head: FlowHead, path: dict[str, Tensor], *, objective: str = "states", whole: float = 0.4,
             noise: Noise) -> Tensor:
    """Squared error of the head's mean velocities on a random segment of each recorded path, a scalar.

    Args:
        head: with a flow map.
        path: ``hidden`` (M, N, C), ``guidance`` (M,), ``times`` (M, K + 1) and ``states`` (M, K + 1, N, D) of the
            teacher, see :mod:`photophone.training.record`.
        objective: see :func:`map_targets`.
        whole: see :func:`draw_segments`.
        noise: of M rows.
    """
    times, states, guidance = path["times"], path["states"], path["guidance"]
    projected = head.project(path["hidden"])

    def mean(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return head.mean_velocity(projected, x, t, s, guidance)

    first, last = draw_segments(len(times), times.shape[1] - 1, whole, noise.uniform)
    targets = map_targets(objective, mean, times, states, first, last)
    rows = torch.arange(len(times), device=times.device)
    t, s = times[rows, first], times[rows, last]
    # an Euler step of the teacher is its velocity at the beginning: the value of the map at s = t, known exactly
    still = (last == first + 1) & (noise.uniform(len(times)) < 0.5)
    return (mean(states[rows, first], t, torch.where(still, t, s)) - targets).square().mean()


@torch.no_grad()
def map_errors(head: FlowHead, path: dict[str, Tensor], counts: Sequence[int]) -> dict[int, float]:
    """Squared error of the last states after few steps, over their variance, for each of ``counts``.

    Args:
        head, path: as in :func:`map_loss`.
        counts: numbers of steps, each at most K; the steps take the recorded times nearest to even ones.
    """
    times, states, projected = path["times"], path["states"], head.project(path["hidden"])
    last, errors = states[:, -1], {}
    for count in counts:
        x = states[:, 0]
        places = torch.linspace(0, times.shape[1] - 1, count + 1).round().long()
        for first, after in zip(places[:-1], places[1:]):
            t, s = times[:, first], times[:, after]
            x = carry(x, head.mean_velocity(projected, x, t, s, path["guidance"]), t, s)
        errors[count] = float((x - last).square().mean() / last.var())
    return errors


def check_objective(objective: str) -> None:
    """Raise ValueError for an objective that is not in OBJECTIVES."""
    if objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {OBJECTIVES}, got {objective!r}")


def check_guidance_range(guidance_range: Sequence[float]) -> tuple[float, float]:
    """The range as two floats.

    Raises:
        ValueError: unless it is two numbers, 0 <= low < high.
    """
    low, high = (float(end) for end in guidance_range) if len(guidance_range) == 2 else (1.0, 0.0)
    if not 0 <= low < high:
        raise ValueError(f"guidance_range must be two numbers, 0 <= low < high, got {guidance_range!r}")
    return low, high
