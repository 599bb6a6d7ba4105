"""What the decoding engine and speculative decoding ask of a causal generator of codes.

A condition is a batch of the kind that the generator takes, see :mod:`photophone.generators.conditions`.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from photophone.decoding.loop import StaticCache
from photophone.heads.categorical import CategoricalHead


class CodeModel(Protocol):
    """A causal generator of one code a step, such as :class:`photophone.LlamaGenGPT`."""

    config: Any
    device: torch.device
    token_embedding: nn.Embedding
    token_head: CategoricalHead

    @property
    def prefix_length(self) -> int:
        """Places of the condition in front of the codes."""

    def check_condition(self, condition: Any) -> None:
        """Raise ValueError for a condition that the model does not take."""

    def prefix(self, condition: Any) -> Tensor:
        """A condition to its places (B, T, C)."""

    def visible(self, condition: Any) -> Tensor | None:
        """Bool (B, T), False for padding among these places; None where there is none."""

    def null_condition(self, condition: Any) -> Any:
        """The condition of guidance for each row."""

    def rotary(self) -> Tensor:
        """The rotary table of all places."""

    def static_cache(self, rows: int, spare: int = 0) -> StaticCache:
        """An empty cache of fixed shape."""

    def decode_step(self, x: Tensor, rotary: Tensor, cache: StaticCache) -> Tensor:
        """States of the next places."""

    def guidance_at(self, index: int, scale: float, schedule: str = "constant", interval: int | None = None,
                    power: float = 3.0) -> float:
        """Guidance of code ``index``, 1 where there is none."""
