"""Options of samplers: a dataclass for each family, whose fields know their limits and what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, Self

from photophone.core.limits import MAX_GUIDANCE_SCALE, MAX_INFERENCE_STEPS, MAX_TEMPERATURE
from photophone.decoding.guidance import GUIDANCE_SCHEDULES, scheduled_guidance


def option(default: Any, doc: str, *, low: float | None = None, high: float | None = None,
           choices: tuple[str, ...] | None = None, optional: bool = False) -> Any:
    """A field of a sampler.

    Args:
        default: its value; an int, float, bool or str, whose type values must have. None, for which a family puts
            something in, stands for a word where there are choices, else for a whole number.
        doc: what it means, for help and forms.
        low, high: the least and the greatest value.
        choices: all values, for words.
        optional: None is a value too.
    """
    kind = type(default) if default is not None else str if choices else int
    return field(default=default, metadata={"doc": doc, "low": low, "high": high, "choices": choices, "kind": kind,
                                            "optional": optional or default is None})


def steps_option(default: int | None, doc: str = "solver steps from noise to a token") -> Any:
    """The field ``num_inference_steps``: steps of the solver that turns noise into a token, and nothing else."""
    return option(default, doc, low=1, high=MAX_INFERENCE_STEPS)


def order_steps_option(default: int | None, doc: str = "steps of the order in which tokens are revealed") -> Any:
    """The field ``num_order_steps`` of masked generators."""
    return option(default, doc, low=1, high=MAX_INFERENCE_STEPS)


def guidance_option(default: float = 1.0) -> Any:
    """The field ``guidance_scale``."""
    return option(default, "classifier-free guidance; 1 is none", low=0, high=MAX_GUIDANCE_SCALE)


def schedule_option(default: str) -> Any:
    """The field ``guidance_schedule``."""
    return option(default, "how guidance grows from none: at once, on a line, or along half a cosine",
                  choices=GUIDANCE_SCHEDULES)


def temperature_option(default: float = 1.0, high: float = MAX_TEMPERATURE) -> Any:
    """The field ``temperature``."""
    return option(default, "scales the randomness; 0 takes the likeliest token", low=0, high=high)


def top_k_option() -> Any:
    """The field ``top_k``."""
    return option(0, "draws come from this many likeliest codes; 0 keeps all", low=0)


def top_p_option() -> Any:
    """The field ``top_p``."""
    return option(1.0, "draws come from the likeliest codes that reach this probability; 1 keeps all", low=0, high=1)


def top_p_rule_option() -> Any:
    """The field ``top_p_rule``."""
    return option("reach", "what top_p keeps at its border and among equals; llamagen: as the official code",
                  choices=("reach", "llamagen"))


@dataclass(frozen=True)
class Sampler:
    """Base of all samplers; a family adds its fields with :func:`option` and its like.

    Raises:
        ValueError: a value of another type or outside its limits.
    """

    def __post_init__(self) -> None:
        for part in fields(self):
            check_option(part.name, getattr(self, part.name), **part.metadata)

    @classmethod
    def options(cls) -> dict[str, Mapping[str, Any]]:
        """Default, doc, low, high, choices, kind and optional of each option, by its name."""
        return {part.name: {"default": part.default, **part.metadata} for part in fields(cls)}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], owner: str = "the sampler") -> Self:
        """The sampler with settings by name; None means the default.

        Raises:
            ValueError: an option that this sampler does not have, or outside its limits.
        """
        known = cls.options()
        chosen = {name: value for name, value in settings.items() if value is not None}
        if unknown := sorted(set(chosen) - set(known)):
            steps = "num_inference_steps" in unknown and "num_order_steps" in known
            hint = " (num_order_steps are the steps of its order)" if steps else ""
            raise ValueError(f"{owner} has no option {', '.join(unknown)}; it has {', '.join(known)}{hint}")
        return cls(**chosen)

    def settings(self) -> dict[str, Any]:
        """All options that have a value, by name: what is written beside a result."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class GuidedSampler(Sampler):
    """Base of samplers whose guidance follows a schedule; a family replaces the defaults that differ."""

    guidance_scale: float = guidance_option()
    guidance_schedule: str = schedule_option("linear")
    guidance_power: float = option(3.0, 'of the schedule "power-cosine": larger values guide later', low=0, high=100)

    def guidance_at(self, progress: float) -> float:
        """Strength of guidance at ``progress`` in 0..1 of the sampler; 1 is none."""
        return scheduled_guidance(self.guidance_scale, self.guidance_schedule, progress, self.guidance_power)


def check_option(name: str, value: Any, *, kind: type, optional: bool, low: float | None, high: float | None,
                 choices: tuple[str, ...] | None, doc: str = "") -> None:
    """Refuse a value of another type, outside its limits, or that is no choice.

    Raises:
        ValueError: names the option, its limits and the value.
    """
    if value is None and optional:
        return
    if choices is not None:
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
        return
    if kind in (bool, str):
        if not isinstance(value, kind):
            raise ValueError(f"{name} must be a {kind.__name__}, got {value!r}")
        return
    number = {int: Integral, float: Real}[kind]
    least, most = -math.inf if low is None else low, math.inf if high is None else high
    if isinstance(value, bool) or not isinstance(value, number) or not least <= value <= most:  # NaN is refused too
        words = f"{least:g} to {most:g}" if math.isfinite(most) else f"at least {least:g}"
        raise ValueError(f"{name} must be {words}, got {value!r}")
