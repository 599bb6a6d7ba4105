"""Heads: turn hidden states of any backbone into tokens."""

from __future__ import annotations

from photophone.heads.base import Head
from photophone.heads.categorical import CategoricalHead
from photophone.heads.diffusion import DiffusionHead
from photophone.heads.flow import FlowHead
from photophone.heads.gaussian import GaussianHead
from photophone.heads.local_dit import LocalDiTHead
from photophone.heads.prefix_dit import PrefixDiTHead

__all__ = ["HEADS", "CategoricalHead", "DiffusionHead", "FlowHead", "GaussianHead", "Head", "LocalDiTHead",
           "PrefixDiTHead", "build_head"]

HEADS: dict[str, type[Head]] = {
    "categorical": CategoricalHead,
    "diffusion": DiffusionHead,
    "flow": FlowHead,
    "gaussian": GaussianHead,
    "local_dit": LocalDiTHead,
    "prefix_dit": PrefixDiTHead,
}


def build_head(name: str, **config) -> Head:
    """A head by its name in HEADS, with the arguments of its constructor.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in HEADS:
        raise ValueError(f"unknown head {name!r}; known: {', '.join(sorted(HEADS))}")
    return HEADS[name](**config)
