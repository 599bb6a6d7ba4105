"""What rows of a causal backbone have read: keys and values that grow, and rows that part and come together again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from photophone.layers.left_padding import attention_mask, positions
from photophone.layers.transformer import LayerCache


class Placed(Protocol):
    """A backbone whose callers say where positions stand and what they see, such as
    :class:`photophone.layers.placed_llama.PlacedLlama`."""

    def at(self, x: Tensor, places: Tensor, seen: Tensor, caches: list[LayerCache] | None = None,
           **options: Any) -> Tensor:
        """States (B, n, C) of embedded positions (B, n, C) at places Long (B, n), which see bool (B, 1, n, M)."""

    def caches(self, rows: int, length: int) -> list[LayerCache]:
        """An empty cache of each block."""


class Memory:
    """Rows that go on together, each with all that it has read.

    Args:
        backbone: reads embedded positions.
        rows: B.
        length: positions that there is room for at first; room is made for more.
    """

    def __init__(self, backbone: Placed, rows: int, length: int) -> None:
        self.backbone, self.caches = backbone, backbone.caches(rows, length)
        self.mask = torch.ones(rows, 0, dtype=torch.bool, device=self.caches[0].buffer.device)
        """Bool (B, M) of the positions so far, False for those that later ones do not see and do not count."""

    @property
    def length(self) -> int:
        """Positions so far, padding included."""
        return self.mask.shape[1]

    def __call__(self, x: Tensor, mask: Tensor | None = None, **options: Any) -> Tensor:
        """States (B, n, C) of the next embedded positions (B, n, C), which are remembered.

        Args:
            mask: bool (B, n), False for padding; None: there is none.
            options: of the backbone.
        """
        count = x.shape[1]
        self._make_room(count)
        new = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
        self.mask = torch.cat([self.mask, new], dim=1)
        seen = self.mask[:, None, None] if count == 1 else attention_mask(self.mask)[:, :, -count:]
        return self.backbone.at(x, positions(self.mask)[:, -count:], seen, self.caches, **options)

    def _make_room(self, count: int) -> None:
        """Copy all to larger buffers, where ``count`` more positions do not fit."""
        size = self.caches[0].buffer.shape[3]
        if self.length + count <= size:
            return
        larger = self.backbone.caches(len(self.mask), max(2 * size, self.length + count))
        for old, new in zip(self.caches, larger):
            new.append(*old.stored())
        self.caches = larger

    def forget(self, count: int) -> None:
        """As if the last ``count`` positions had not been read."""
        self.mask = self.mask[:, :self.length - count]
        for cache in self.caches:
            cache.truncate(self.length)

    @classmethod
    def joined(cls, parts: Sequence[Memory], more: int, masks: Sequence[Tensor] | None = None) -> Self:
        """Copies of one-row memories as rows of one, which end at the same place.

        Args:
            parts: of the same backbone.
            more: further positions that there is room for.
            masks: bool (1, M) each, which stand for the memories' own.
        """
        length = max(part.length for part in parts)
        made = cls(parts[0].backbone, len(parts), length + more)
        made.mask = torch.zeros(len(parts), length, dtype=torch.bool, device=parts[0].mask.device)
        for cache in made.caches:
            cache.reserve(length)
        for row, part in enumerate(parts):
            start = length - part.length
            made.mask[row, start:] = (part.mask if masks is None else masks[row])[0]
            for target, source in zip(made.caches, part.caches):
                target.buffer[:, row, :, start:length] = source.buffer[:, 0, :, :part.length]
        return made

    def take(self, other: Memory, count: int) -> None:
        """Go on with the last ``count`` positions of the first row of another memory; this one has one row."""
        self._make_room(count)
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1]).expand(-1, count)], dim=1)
        for target, source in zip(self.caches, other.caches):
            keys, values = (stored[:1, :, -count:] for stored in source.stored())
            target.append(keys, values)
