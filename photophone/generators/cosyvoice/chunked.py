"""Attention chunk by chunk: who sees whom, and keys that live as long as somebody will see them.

A frame sees its own chunk, the chunks before it (all, or the last few) and the frames of a prompt, which stay in sight
for ever as the attention sinks of StreamingLLM do (arXiv 2309.17453). The same rule makes the mask of a whole signal
and decides what a stream forgets, so both give the same, and with a limit the cost of a chunk does not grow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from photophone.layers.streaming import StreamingLayer


@dataclass(frozen=True)
class Sight:
    """What frames see of each other.

    Args:
        chunk: frames of a chunk; None: every frame sees every frame, which cannot stream.
        left_chunks: chunks before its own that a frame sees; None: all.
        sink: the first ``sink`` frames are seen by all frames of their chunk or later.
    """

    chunk: int | None = None
    left_chunks: int | None = None
    sink: int = 0

    def __post_init__(self) -> None:
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"a chunk has at least 1 frame, got {self.chunk}")
        if self.left_chunks is not None and (self.left_chunks < 0 or self.chunk is None):
            raise ValueError(f"left_chunks must be None, or not negative beside a chunk size, got {self.left_chunks}")

    def scaled(self, factor: int) -> Sight:
        """The same sight at ``factor`` times the frame rate."""
        return replace(self, chunk=None if self.chunk is None else self.chunk * factor, sink=self.sink * factor)

    def mask(self, queries: Tensor, keys: Tensor) -> Tensor | None:
        """Bool (N, M), True where the query at position (N,) sees the key at position (M,); None when all do."""
        if self.chunk is None:
            return None
        later, earlier = queries[:, None] // self.chunk, keys // self.chunk
        return (earlier <= later) & self._near(later, keys)

    def kept(self, keys: Tensor, position: int) -> Tensor:
        """Bool (M,): keys before ``position``, the start of a chunk, that its frames or later ones will see."""
        return self._near(torch.tensor(position // self.chunk), keys)

    def _near(self, chunk: Tensor, keys: Tensor) -> Tensor:
        if self.left_chunks is None:
            return torch.ones_like(keys, dtype=torch.bool)
        return (keys // self.chunk >= chunk - self.left_chunks) | (keys < self.sink)


class WindowCache:
    """Keys and values of one attention layer in a stream, as long as they are seen."""

    def __init__(self) -> None:
        self.stored: tuple[Tensor, Tensor] | None = None
        self.kept: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Those that are stored and those of a chunk, (B, H, M, d) each; stores what ``kept`` (M,) says."""
        if self.stored is not None:
            keys, values = (torch.cat(pair, dim=2) for pair in zip(self.stored, (keys, values), strict=True))
        self.stored = keys[:, :, self.kept], values[:, :, self.kept]
        return keys, values


@dataclass(frozen=True)
class View:
    """What a stack of attention layers needs to know of one call.

    Attributes:
        queries, keys: positions, Long (N,) and (M,).
        mask: Bool (N, M), True where attention is allowed, or None where it is everywhere.
        caches: one of each layer; None for a whole signal.
    """

    queries: Tensor
    keys: Tensor
    mask: Tensor | None
    caches: list[WindowCache | None]


class SightMemory(StreamingLayer):
    """Positions and caches of a stack of attention layers that share one :class:`Sight`.

    Args:
        layers: attention layers of the stack.
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = layers

    def initial_state(self, batch_size: int) -> tuple[int, Tensor, list[WindowCache]]:
        """The next position, the positions that are stored, and an empty cache of each layer."""
        return 0, torch.zeros(0, dtype=torch.long), [WindowCache() for _ in range(self.layers)]

    def forward(self, count: int, sight: Sight, device: torch.device | str = "cpu") -> View:
        """The view of the next ``count`` frames; in a stream they begin, and but for the last end, with a chunk.

        Raises:
            ValueError: a stream whose sight has no chunks, or a chunk that is cut.
        """
        if self.stream_state is None:
            positions = torch.arange(count, device=device)
            return View(positions, positions, sight.mask(positions, positions), [None] * self.layers)
        start, stored, caches = self.stream_state
        if sight.chunk is None or start % sight.chunk:
            raise ValueError(f"a stream continues at whole chunks, got position {start} and chunks of {sight.chunk}")
        queries = torch.arange(start, start + count, device=device)
        keys = torch.cat([stored.to(device), queries])
        kept = sight.kept(keys, start + count).nonzero()[:, 0]
        for cache in caches:
            cache.kept = kept
        self.stream_state = start + count, keys[kept], caches
        return View(queries, keys, sight.mask(queries, keys), caches)
