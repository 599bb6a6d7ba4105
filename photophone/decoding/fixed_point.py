"""How many iterations of a fixed-point layer each step of a sampler gets (FPDM, arXiv 2401.08740)."""

from __future__ import annotations

import math

KINDS = ("fixed", "increasing", "decreasing")
LEAST, MOST = 0.5, 1.5
"""Share of the mean that the poorest and the richest step get."""


def iteration_shares(budget: int, num_steps: int, kind: str = "fixed") -> list[float]:
    """Iterations of each step as fractions that sum to the budget; every step has one, and the rest goes by shares.

    Raises:
        ValueError: an unknown kind, no steps, or fewer iterations than steps.
    """
    if kind not in KINDS:
        raise ValueError(f"iterations must be one of {', '.join(KINDS)}, got {kind!r}")
    if num_steps < 1 or budget < num_steps:
        raise ValueError(f"{num_steps} steps need at least as many iterations in all, got {budget}")
    line = [LEAST + (MOST - LEAST) * index / max(1, num_steps - 1) for index in range(num_steps)]
    ratios = {"fixed": [1.0] * num_steps, "increasing": line, "decreasing": line[::-1]}[kind]
    return [1 + (budget - num_steps) * ratio / sum(ratios) for ratio in ratios]


def iteration_counts(budget: int, num_steps: int, kind: str = "fixed") -> list[int]:
    """The same as whole numbers that sum to no more than the budget: the first are rounded up, the others down."""
    shares = iteration_shares(budget, num_steps, kind)
    for border in range(num_steps // 2, -1, -1):
        counts = [math.ceil(share) if index < border else math.floor(share) for index, share in enumerate(shares)]
        if sum(counts) <= budget:
            break
    return counts
