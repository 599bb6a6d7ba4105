"""How guidance grows over the steps of ELM's sampler."""

from __future__ import annotations

import math

from photophone.generators.sampler import option

SHAPES = {
    "constant": lambda share: 1.0,
    "linear": lambda share: share,
    "sine": lambda share: math.sin(share * math.pi / 2),
    "log": lambda share: math.log1p(share * (math.e - 1)),
    "square": lambda share: share**2,
    "square-root": lambda share: share**0.5,
}
"""Share of the guidance beyond 1 at a share of the steps."""


def shape_option(default: str = "linear"):
    """The field ``guidance_schedule``."""
    return option(default, "how guidance grows from none over the codes: at once, or along one of these curves",
                  choices=tuple(SHAPES))


def shaped_guidance(scale: float, shape: str, step: int, steps: int) -> float:
    """Guidance of step 0..steps - 1, 1 for none; "square-root" alone begins with none."""
    share = (step + (shape != "square-root")) / steps
    return 1 + (scale - 1) * SHAPES[shape](share)
