"""Discrete diffusion of counts whose sum is fixed, as TokenSet makes sets of codes (arXiv 2503.16425): pure functions.

A state holds how often each of K codes is in the set, Long (B, K), and sums to S. A step predicts the counts of the
data, moves on the line from the start to them, and draws whole counts near that place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from photophone.core.noise import Noise
from photophone.kernels.sampling import draw_categorical, filter_top_p

Predict = Callable[[Tensor, float], Tensor]  # counts Long (B, K) and the time 0..1 to probabilities (B, K, C)
LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class CountDraw:
    """How whole counts are drawn from probabilities.

    Args:
        top_k: from this many likeliest counts; 0: see ``top_p``.
        top_p: from the likeliest counts up to the one whose sum passes it; None: from all.
        adjust_from: time 0..1 from which the sum is put right.
    """

    top_k: int = 0
    top_p: float | None = None
    adjust_from: float = 0.0

    def __call__(self, probabilities: Tensor, total: int, time: float, noise: Noise) -> Tensor:
        """Counts Long (B, K) from probabilities (B, K, C)."""
        logits = probabilities.log()
        if self.top_k:
            kept = probabilities.topk(self.top_k, dim=-1).indices
            logits = torch.full_like(logits, -torch.inf).scatter(-1, kept, logits.gather(-1, kept))
        elif self.top_p is not None:
            logits = filter_top_p(logits, self.top_p, "llamagen")
        drawn = draw_categorical(logits, noise)
        return adjust_sum(drawn, probabilities, total) if time >= self.adjust_from else drawn


def spread_units(x: Tensor, total: int) -> Tensor:
    """Whole counts Long (B, K) near x float (B, K): cut off, then one more where most was cut, up to the sum."""
    whole = x.floor()
    missing = total - whole.long().sum(dim=1, keepdim=True)
    order = (x - whole).sort(dim=1, descending=True).indices
    return whole.long() + first_places(order, missing)


def first_places(order: Tensor, count: Tensor) -> Tensor:
    """Long (B, K), 1 at the first ``count`` (B, 1) places of an order Long (B, K)."""
    taken = torch.arange(order.shape[1], device=order.device) < count
    return torch.zeros_like(order).scatter(1, order, taken.long())


def adjust_sum(counts: Tensor, probabilities: Tensor, total: int) -> Tensor:
    """Counts Long (B, K) with a sum nearer to ``total``: as many as are missing change by one, where that costs the
    least probability.

    Args:
        probabilities: (B, K, C) of each count.
    """
    most = probabilities.shape[2] - 1

    def gain(change: int) -> Tensor:
        changed = counts + change
        there, here = (probabilities.gather(2, value.clamp(0, most)[..., None])[..., 0] for value in (changed, counts))
        return (there - here).masked_fill((changed < 0) | (changed > most), -torch.inf)

    missing = total - counts.sum(dim=1, keepdim=True)
    less = first_places(gain(-1).sort(dim=1, descending=True).indices, -missing)
    more = first_places(gain(1).sort(dim=1, descending=True).indices, missing)
    return (counts - less + more).clamp(0, most)


def count_densities(place: Tensor, spread: Tensor, total: int) -> Tensor:
    """Normal densities of the counts 0..total - 1, (B, K, total), as shares; NaN where all of them vanish.

    Args:
        place, spread: mean and standard deviation (B, K).
    """
    counts = torch.arange(total, dtype=place.dtype, device=place.device)
    exponent = -0.5 * ((counts - place[..., None]) / spread[..., None]) ** 2
    density = exponent.exp() / (spread[..., None] * math.sqrt(2 * math.pi))
    return density / density.sum(dim=-1, keepdim=True)


def draw_near(place: Tensor, spread: Tensor, total: int, time: float, draw: CountDraw, noise: Noise) -> Tensor:
    """Counts Long (B, K) near a place (B, K).

    A row whose densities vanish somewhere, as they do late, is cut off instead. (The official code then cuts off the
    whole batch, so that a picture depends on those beside it.)
    """
    shares = count_densities(place, spread, total)
    lost = shares.isnan().any(dim=2).any(dim=1)
    even = torch.full_like(shares, 1 / total)
    drawn = draw(torch.where(lost[:, None, None], even, shares), total, time, noise)
    return torch.where(lost[:, None], spread_units(place, total), drawn)


def decode_fixed_sum(predict: Predict, start: Tensor, total: int, num_steps: int, *, noise: Noise,
                     prediction: CountDraw, transition: CountDraw,
                     sharpness: Callable[[float], float]) -> Iterator[tuple[Tensor, Tensor]]:
    """Sample sets.

    Two draws a step: (B, K, C) for the predicted counts, (B, K, total) for the next ones.

    Args:
        predict: the network, with guidance.
        start: counts Long (B, K).
        total: S.
        num_steps: of equal length in time.
        prediction, transition: how predicted counts and next states are drawn.
        sharpness: factor on the spread of a state, at the share of the steps that are done.

    Yields:
        The predicted counts and the next state of each step, Long (B, K) each.
    """
    times = torch.linspace(0, 1, num_steps + 1).tolist()
    state = start
    for step, (time, after) in enumerate(zip(times[:-1], times[1:])):
        predicted = prediction(predict(state, time), total, time, noise)
        begin = (state - time * predicted) / (1 - time)
        place = after * predicted + (1 - after) * begin
        spread = (begin - predicted).abs() / 4 * sharpness((step + 1) / num_steps) + LEAST_SPREAD
        state = draw_near(place, spread, total, time, transition, noise)
        yield predicted, state


def count_codes(codes: Tensor, num_codes: int) -> Tensor:
    """Sets of codes Long (B, S) as counts Long (B, num_codes)."""
    return torch.zeros(len(codes), num_codes, dtype=torch.long, device=codes.device).scatter_add(
        1, codes, torch.ones_like(codes))


def codes_of(counts: Tensor, total: int) -> Tensor:
    """Counts Long (B, K) as sets of codes Long (B, total), rising; the lowest codes fill a sum that is short."""
    missing = (total - counts.sum(dim=1, keepdim=True)).clamp(min=0)
    order = torch.arange(counts.shape[1], device=counts.device).expand_as(counts)
    ends = (counts + first_places(order, missing)).cumsum(dim=1)
    places = torch.arange(total, device=counts.device).expand(len(counts), -1)
    return torch.searchsorted(ends, places.contiguous(), right=True)
