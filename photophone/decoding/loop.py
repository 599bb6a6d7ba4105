"""The decoding loop that generators share: cache, guidance rows, order of tokens, stopping.

A family gives a function that makes the tokens of one step; what is here decides which step comes next, keeps keys
and values, and ends rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from photophone.layers.transformer import LayerCache, StaticLayerCache

Step = Callable[[int, Tensor | None], Tensor]
Callback = Callable[[int, int], bool | None]


class DecodingStopped(Exception):
    """Raised when a callback asked to stop; no partial result is returned as if it were whole."""


def notify(callback: Callback | None, step: int, total: int) -> None:
    """Tell the callback that ``step`` (from 1) of ``total`` is done; raise DecodingStopped if it returns True."""
    if callback is not None and callback(step, total):
        raise DecodingStopped(f"stopped by the callback after step {step} of {total}")


class KVCache:
    """Preallocated keys and values of all layers of a causal backbone.

    Args:
        num_layers, rows, num_heads, max_length, head_dim: shapes; rows counts guidance rows too.
    """

    def __init__(self, num_layers: int, rows: int, num_heads: int, max_length: int, head_dim: int,
                 device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.layers = [LayerCache(rows, num_heads, max_length, head_dim, device, dtype) for _ in range(num_layers)]

    @property
    def length(self) -> int:
        """Positions stored."""
        return self.layers[0].length

    def truncate(self, length: int) -> None:
        """Forget all positions from ``length`` on, in every layer."""
        for layer in self.layers:
            layer.truncate(length)


class StaticCache:
    """Preallocated keys and values whose shapes never change, each row with a place of its own.

    Args:
        num_layers, rows, num_heads, max_length, head_dim: shapes; rows counts guidance rows too.
    """

    def __init__(self, num_layers: int, rows: int, num_heads: int, max_length: int, head_dim: int,
                 device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.layers = [StaticLayerCache(rows, num_heads, max_length, head_dim, device, dtype)
                       for _ in range(num_layers)]
        self.visible = torch.ones(rows, max_length, dtype=torch.bool, device=device)
        """False for places that a row never sees, but from that place itself: padding of its condition."""

    def rows(self, chosen: slice) -> StaticCache:
        """The same memory, seen as a cache of some rows."""
        part = StaticCache.__new__(StaticCache)
        part.layers = [layer.rows(chosen) for layer in self.layers]
        part.visible = self.visible[chosen]
        return part

    def move(self, source: slice, target: slice) -> None:
        """Copy all that rows ``source`` hold to rows ``target``."""
        self.visible[target] = self.visible[source]
        for layer in self.layers:
            layer.buffer[:, target] = layer.buffer[:, source]

    def place(self, positions: Tensor, span: int | None = None) -> None:
        """Let the next step write each row from ``positions`` Long (B,) on, and see the first ``span`` places or all.

        ``span`` is the host's; a graph that was captured or compiled is one for each.
        """
        for layer in self.layers:
            layer.positions, layer.span = positions, span or layer.buffer.shape[3]

    def mask(self, count: int) -> tuple[Tensor, Tensor]:
        """Places Long (B, count) of the next tokens, and bool (B, 1, count, span), True where they may look."""
        layer = self.layers[0]
        device = layer.buffer.device
        places = layer.positions[:, None] + torch.arange(count, device=device)
        keys = torch.arange(layer.span, device=device)
        own = keys == places[..., None]
        return places, ((keys <= places[..., None]) & self.visible[:, None, :layer.span] | own)[:, None]


def autoregress(step: Step, max_steps: int, *, stop: Callable[[int, Tensor], Tensor] | None = None,
                callback: Callback | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Run ``step`` until every row has stopped or ``max_steps`` are done.

    Args:
        step: ``step(index, previous)`` gives the values ``(B, k, ...)`` of step ``index`` from those of the step
            before (None at first).
        stop: ``stop(index, values)`` gives a bool ``(B,)``: rows for which this step is the last.
        callback: see :func:`notify`.

    Yields:
        (values, alive): the step's values and a bool ``(B,)``, True for rows to which the values still belong.
    """
    previous, alive = None, None
    for index in range(max_steps):
        previous = step(index, previous)
        if alive is None:
            alive = torch.ones(len(previous), dtype=torch.bool, device=previous.device)
        yield previous, alive
        notify(callback, index + 1, max_steps)
        if stop is not None:
            alive = alive & ~stop(index, previous)
            if not alive.any():
                return


def collect(steps: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Join what :func:`autoregress` yields: values ``(B, N, ...)`` and lengths Long ``(B,)`` in tokens."""
    parts, lengths = [], 0
    for values, alive in steps:
        parts.append(values)
        lengths = lengths + alive.long() * values.shape[1]
    return torch.cat(parts, dim=1), lengths


def cosine_reveal_counts(length: int, num_steps: int) -> list[int]:
    """How many masked tokens each step of masked decoding reveals (MaskGIT's cosine schedule as MAR uses it).

    After step s, ``floor(length * cos(pi/2 * (s+1)/num_steps))`` tokens stay masked, but each step reveals at least
    one; the last step reveals all that are left.

    Raises:
        ValueError: when ``num_steps`` is not in 1..length.
    """
    if not 1 <= num_steps <= length:
        raise ValueError(f"masked decoding of {length} tokens takes 1..{length} steps, got {num_steps}")
    counts, masked = [], length
    for step in range(num_steps):
        left = math.floor(length * math.cos(math.pi / 2 * (step + 1) / num_steps))
        left = 0 if step == num_steps - 1 else max(num_steps - step - 1, min(masked - 1, left))
        counts.append(masked - left)
        masked = left
    return counts


def reveal_order(order: Tensor, counts: list[int]) -> list[Tensor]:
    """Places that each step of masked decoding reveals: Long ``(B, counts[s])`` in rising order.

    Args:
        order: Long ``(B, N)``, a permutation for each row; its last entries are revealed first (MAR).
        counts: of :func:`cosine_reveal_counts`; they sum to N.
    """
    parts = order.flip(1).split(counts, dim=1)
    return [part.sort(dim=1).values for part in parts]
