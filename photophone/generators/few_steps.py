"""Generators whose flow head takes few steps, made from those that take many, and back: copies with other heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from photophone.generators.base import Generator
from photophone.heads.diffusion import DiffusionHead
from photophone.heads.flow import FlowHead


def with_flow_map(generator: Generator, guidance_range: Sequence[float], num_steps: int | None = None) -> Generator:
    """A copy whose head is told the end of its step and the guidance.

    The copy of a flow head computes the same at first. In place of a diffusion head comes a flow head with its weights
    where they fit: the same network but for the output, which becomes the velocity.

    Args:
        generator: with a flow or diffusion head made from ``head_config``.
        guidance_range: see :class:`~photophone.heads.flow.FlowHead`.
        num_steps: solver steps that the copy takes when nothing else is said.

    Raises:
        ValueError: another kind of head, or one that has a flow map.
    """
    head, settings = getattr(generator, "token_head", None), generator.config
    known = isinstance(head, DiffusionHead) or (isinstance(head, FlowHead) and head.guidance_range is None)
    if not known or "head_config" not in settings:
        raise ValueError(f"few steps are learned by a generator with a diffusion head, or a flow head that has no flow "
                         f"map yet, not by this {type(generator).__name__}")
    config, name = {**(settings["head_config"] or {}), "guidance_range": list(guidance_range)}, settings["head"]
    if isinstance(head, DiffusionHead):
        config = {"width": head.net.input_proj.out_features, "depth": len(head.net.res_blocks),
                  "guidance_range": list(guidance_range)}
        name = "flow"
    copy = _like(generator, head=name, head_config=config, sampling_steps=num_steps)
    own, new = generator.state_dict(), copy.state_dict()
    copy.load_state_dict({key: own[key] if key in own and own[key].shape == weight.shape else weight
                          for key, weight in new.items()})
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
