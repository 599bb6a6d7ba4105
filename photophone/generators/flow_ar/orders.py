"""The two ways in which FlowAR makes its tokens: cell after cell with a cache, or masked in a random order.

An order holds no weights. What both ask of the model: ``hidden`` (all positions in one pass), ``shift`` and ``hide``
(the backbone's inputs), ``run_cached`` (some positions, keys and values kept), ``token_head``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from photophone.core.noise import Noise
from photophone.decoding.continuous import take_places
from photophone.decoding.loop import Callback, KVCache, autoregress, collect, cosine_reveal_counts, notify

if TYPE_CHECKING:
    from photophone.generators.flow_ar.model import FlowARGenerator


@dataclass(frozen=True)
class Text:
    """Captions as the backbone reads them.

    Args:
        ids: Long (R, L).
        mask: bool (R, L), True for caption tokens.
        shares: None; or float (B,) where the first B rows and the B behind them are two captions of one image each,
            the share of the second.
    """

    ids: Tensor
    mask: Tensor
    shares: Tensor | None = None

    def blend(self, hidden: Tensor) -> Tensor:
        """Hidden states (R, N, C) of which those of both captions are one: (R - B, N, C), or all as they are."""
        if self.shares is None:
            return hidden
        first, second, rest = hidden.split([len(self.shares), len(self.shares), len(hidden) - 2 * len(self.shares)])
        return torch.cat([torch.lerp(first, second, self.shares.to(first)[:, None, None]), rest])


@dataclass(frozen=True)
class Start:
    """Where the sampling of tokens begins, if not at noise alone.

    Args:
        values: normalised tokens (B, N, D).
        time: share of noise that is mixed in, over 0 up to 1.
    """

    values: Tensor
    time: float

    def options(self, values: Tensor) -> dict[str, Any]:
        """Arguments of the head's ``sample`` for some of the tokens."""
        return {"start": values, "start_time": self.time}


class Order(ABC):
    """Training and sampling in one order.

    Args:
        cell: tokens that see each other; the N tokens are a whole number of cells.
    """

    def __init__(self, cell: int) -> None:
        self.cell = cell

    @abstractmethod
    def loss(self, model: FlowARGenerator, text: Text, targets: Tensor, context: Tensor, noise: Noise) -> Tensor:
        """The head's loss, a scalar.

        Args:
            targets: normalised tokens (B, N, D).
            context: what the model reads of them, with noise, (B, N, D).
        """

    @abstractmethod
    def sample(self, model: FlowARGenerator, text: Text, rows: int, num_order_steps: int | None,
               callback: Callback | None, options: dict[str, Any], start: Start | None = None) -> Tensor:
        """Normalised tokens (B, N, D) for B ``rows``.

        Args:
            text: B rows; behind them B of a second caption where it has ``shares``, and B of the null caption where the
                head reads it.
            num_order_steps: None: as many as suit the order.
            options: of the head's ``sample``, noise among them.
            start: tokens to begin with; None: noise.
        """


class CellOrder(Order):
    """Cells one after another: each sees all cells before it, and itself."""

    def loss(self, model: FlowARGenerator, text: Text, targets: Tensor, context: Tensor, noise: Noise) -> Tensor:
        return model.token_head.loss(model.hidden(text.ids, text.mask, model.shift(context)), targets, noise=noise)

    def sample(self, model: FlowARGenerator, text: Text, rows: int, num_order_steps: int | None,
               callback: Callback | None, options: dict[str, Any], start: Start | None = None) -> Tensor:
        if num_order_steps is not None:
            raise ValueError(f"num_order_steps belong to the order random, this model has {model.config.order}")
        config, (copies, text_length) = model.config, text.ids.shape
        cache = KVCache(config.depth, copies, config.num_heads, text_length + config.num_tokens,
                        config.width // config.num_heads, model.device, model.dtype)
        model.run_cached(model.encode_text(text.ids, text.mask), text.mask[:, None, None, :], cache)

        def step(index: int, previous: Tensor | None) -> Tensor:
            if previous is None:
                embedded = model.blank.expand(copies, self.cell, -1)
            else:
                embedded = model.token_in(previous.to(model.dtype)).repeat(copies // rows, 1, 1)
            position = model.token_position[index * self.cell:(index + 1) * self.cell]
            seen = torch.ones(copies, (index + 1) * self.cell, dtype=torch.bool, device=model.device)
            mask = torch.cat([text.mask, seen], dim=1)[:, None, None, :]
            hidden = text.blend(model.run_cached(embedded + position, mask, cache))
            given = {} if start is None else start.options(
                start.values[:, index * self.cell:(index + 1) * self.cell])
            return model.token_head.sample(hidden, **options, **given)

        values, _ = collect(autoregress(step, config.num_tokens // self.cell, callback=callback))
        return values


class RandomOrder(Order):
    """Masked tokens, several a step, in an order drawn for each row; all positions see each other (MAR)."""

    def loss(self, model: FlowARGenerator, text: Text, targets: Tensor, context: Tensor, noise: Noise) -> Tensor:
        rows, length = targets.shape[:2]
        count = (noise.uniform(rows, 1) * length).long()  # tokens that stay visible, 0..N-1
        masked = noise.permutation(rows, length).argsort(dim=1) >= count
        hidden = model.hidden(text.ids, text.mask, model.hide(context, masked))
        return model.token_head.loss(hidden, targets, masked, noise=noise)

    def sample(self, model: FlowARGenerator, text: Text, rows: int, num_order_steps: int | None,
               callback: Callback | None, options: dict[str, Any], start: Start | None = None) -> Tensor:
        length, copies = model.config.num_tokens, len(text.ids) // rows
        counts = cosine_reveal_counts(length, num_order_steps or max(1, length // 4))
        order = options["noise"].permutation(rows, length).to(model.device)
        values = torch.zeros(rows, length, model.config.token_dim, device=model.device)
        masked = torch.ones(rows, length, dtype=torch.bool, device=model.device)
        for index, chosen in enumerate(order.split(counts, dim=1)):  # (B, count) positions revealed now
            known = model.hide(values.to(model.dtype).repeat(copies, 1, 1), masked.repeat(copies, 1))
            hidden = text.blend(model.hidden(text.ids, text.mask, known))
            given = {} if start is None else start.options(take_places(start.values, chosen))
            places = chosen.repeat(len(hidden) // rows, 1)
            drawn = model.token_head.sample(take_places(hidden, places), **options, **given)
            values.scatter_(1, chosen[..., None].expand_as(drawn), drawn)
            masked.scatter_(1, chosen, False)
            notify(callback, index + 1, len(counts))
        return values


def build_order(order: str, num_tokens: int, cell_size: int) -> Order:
    """The order of a name.

    Raises:
        ValueError: an unknown name, or cells that do not make up the tokens.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {ORDERS}, got {order!r}")
    if order == "random":
        return RandomOrder(num_tokens)
    cell = cell_size if order == "next_x" else 1
    if num_tokens % cell:
        raise ValueError(f"{num_tokens} tokens do not split into cells of {cell}")
    return CellOrder(cell)


ORDERS = ("raster", "next_x", "random")
