"""Generators whose flow head takes few steps, made from those that take many, and back: copies with other heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from photophone.generators.base import Generator
from photophone.heads.flow import FlowHead


def with_flow_map(generator: Generator, guidance_range: Sequence[float], num_steps: int | None = None) -> Generator:
    """A copy whose head is told the end of its step and the guidance; it computes the same at first.

    Args:
        generator: with a flow head made from ``head_config``.
        guidance_range: see :class:`~photophone.heads.flow.FlowHead`.
        num_steps: solver steps that the copy takes when nothing else is said.

    Raises:
        ValueError: another kind of head, or one that has a flow map.
    """
    head = getattr(generator, "token_head", None)
    if not isinstance(head, FlowHead) or "head_config" not in generator.config or head.guidance_range is not None:
        raise ValueError(f"few steps are learned by a generator with a flow head that has no flow map yet, not by this "
                         f"{type(generator).__name__}")
    head_config = {**(generator.config["head_config"] or {}), "guidance_range": list(guidance_range)}
    copy = _like(generator, head_config=head_config, sampling_steps=num_steps)
    new = {name: weight for name, weight in copy.state_dict().items() if ".map_embed." in name}
    copy.load_state_dict({**generator.state_dict(), **new})
    return copy.eval()


def without_flow_map(generator: Generator) -> Generator:
    """A generator with a plain flow head, to train on; this one itself where it has no flow map.

    The losses of heads train the velocity alone: what a flow map knows of long steps would no longer fit it.
    """
    head = getattr(generator, "token_head", None)
    if not isinstance(head, FlowHead) or head.guidance_range is None:
        return generator
    head_config = {name: value for name, value in generator.config["head_config"].items() if name != "guidance_range"}
    copy = _like(generator, head_config=head_config, sampling_steps=None)
    copy.load_state_dict({name: weight for name, weight in generator.state_dict().items()
                          if ".map_embed." not in name})
    return copy.train(generator.training)


def _like(generator: Generator, **settings: Any) -> Generator:
    """Another generator of the same class, with some other settings and random weights."""
    own = {name: generator.config[name] for name in type(generator).config_keys()}
    return type(generator)(**{**own, **settings})
