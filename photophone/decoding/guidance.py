"""Strength of classifier-free guidance over a sampler's course: one vocabulary for all families."""

from __future__ import annotations

import math

GUIDANCE_SCHEDULES = ("constant", "linear", "power-cosine")


def scheduled_guidance(guidance: float, schedule: str, progress: float, power: float = 3.0) -> float:
    """Guidance of one step; 1 is none.

    Args:
        guidance: the full strength.
        schedule: "constant"; "linear", on the line from 1 to the full strength; "power-cosine", from 1 to it along
            half a cosine.
        progress: of the sampler, 0..1.
        power: of the progress within the cosine; larger values guide later.

    Raises:
        ValueError: for a schedule that is not in GUIDANCE_SCHEDULES.
    """
    if schedule not in GUIDANCE_SCHEDULES:
        raise ValueError(f"guidance_schedule must be one of {', '.join(GUIDANCE_SCHEDULES)}, got {schedule!r}")
    if schedule == "constant":
        return guidance
    if schedule == "linear":
        return 1 + (guidance - 1) * progress
    return 1 + (guidance - 1) * (1 - math.cos(math.pi * progress**power)) / 2
