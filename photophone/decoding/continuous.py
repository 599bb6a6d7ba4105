"""Masked decoding of continuous tokens in a random order, as MAR does it (arXiv 2406.11838).

A step computes the states of all places, a head draws the tokens of some of them, and these are known from then on.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from photophone.core.noise import Noise
from photophone.decoding.loop import Callback, notify, reveal_order

Hidden = Callable[[Tensor, Tensor], Tensor]  # values (R, N, D) and masked (R, N) of R rows, those of guidance included,
# to states (R, N, C)
Draw = Callable[[Tensor, int], Tensor]  # states (R, k, C) of the places of a step, and its number, to tokens (B, k, D)


def take_places(x: Tensor, places: Tensor) -> Tensor:
    """Rows of x (B, N, C) at places (B, k): (B, k, C)."""
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))


def put_places(values: Tensor, places: Tensor, new: Tensor) -> None:
    """Write new (B, k, D) into values (B, N, D) at places (B, k)."""
    values.scatter_(1, places[..., None].expand_as(new), new)


def guidance_progress(counts: list[int], step: int) -> float:
    """Share of known tokens after ``step``; the official schedule never counts the very last token as known."""
    total = sum(counts)
    return min(sum(counts[: step + 1]), total - 1) / total


def decode_values(hidden: Hidden, draw: Draw, rows: int, counts: list[int], token_dim: int, *, noise: Noise,
                  copies: int = 1, callback: Callback | None = None, device: torch.device | str = "cpu",
                  dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw all tokens: float32 (rows, N, token_dim).

    Args:
        hidden: the backbone; places that are masked may hold anything.
        draw: the head, with guidance.
        counts: tokens that each step reveals, see :func:`photophone.decoding.loop.cosine_reveal_counts`; their sum is
            N.
        noise: an order is drawn first, one a row.
        copies: rows of the backbone for each row of tokens: 2 with guidance.
        dtype: of the backbone.
    """
    length = sum(counts)
    values = torch.zeros(rows, length, token_dim, device=device)
    masked = torch.ones(rows, length, dtype=torch.bool, device=device)
    order = noise.permutation(rows, length).to(device)
    for step, places in enumerate(reveal_order(order, counts)):
        states = hidden(values.to(dtype).repeat(copies, 1, 1), masked.repeat(copies, 1))
        put_places(values, places, draw(take_places(states, places.repeat(copies, 1)), step))
        masked.scatter_(1, places, False)
        notify(callback, step + 1, len(counts))
    return values
