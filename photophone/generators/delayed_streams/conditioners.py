"""Conditions of delayed streams: a word of a list, or frames of voices, added to every input or attended to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from photophone.layers.embeddings import sinusoidal_embedding

Attributes = Mapping[str, Any]
"""Of a row: a word or None, or a pair of frames float (N, D) and a mask bool (N,), by the name of the conditioner."""


@dataclass(frozen=True)
class StreamConditions:
    """What a model adds to each input, (B, 1, C), and what it attends to, (B, M, C); None: nothing."""

    total: Tensor | None = None
    cross: Tensor | None = None


class Conditioner(nn.Module):
    """Values, and which of them count, to (B, M, C): what does not count becomes a learned vector.

    Args:
        dim: channels of the values.
        out_dim: C.
        words: the values are places in this list; None: they are frames.
        num_words: rows of the table but for the last, which stands for none.
    """

    def __init__(self, dim: int, out_dim: int, words: Sequence[str] | None = None,
                 num_words: int | None = None) -> None:
        super().__init__()
        self.words = None if words is None else list(words)
        self.embed = None if words is None else nn.Embedding((num_words or len(words)) + 1, dim)
        self.output_proj = nn.Linear(dim, out_dim, bias=False)
        self.learnt_padding = nn.Parameter(0.2 * torch.randn(1, 1, out_dim))

    def gather(self, rows: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Values (B, M, dim) of rows, and bool (B, M), True where they count.

        Raises:
            ValueError: a word that is not in the list.
        """
        device = self.output_proj.weight.device
        if self.embed is None:
            longest = max(len(frames) for frames, _ in rows)
            values = torch.zeros(len(rows), longest, self.output_proj.in_features, device=device)
            mask = torch.zeros(len(rows), longest, dtype=torch.bool, device=device)
            for row, (frames, counts) in enumerate(rows):
                values[row, :len(frames)], mask[row, :len(frames)] = frames.to(device), counts.to(device)
            return values, mask
        if unknown := [word for word in rows if word is not None and word not in self.words]:
            raise ValueError(f"{unknown[0]!r} is none of {', '.join(self.words)}")
        none = self.embed.num_embeddings - 1
        places = torch.tensor([none if word is None else self.words.index(word) for word in rows], device=device)
        return self.embed(places)[:, None], torch.tensor([word is not None for word in rows], device=device)[:, None]

    def forward(self, rows: Sequence[Any]) -> Tensor:
        """Rows to (B, M, out_dim)."""
        values, mask = self.gather(rows)
        return torch.where(mask[..., None], self.output_proj(values.to(self.output_proj.weight.dtype)),
                           self.learnt_padding)

    def null(self, value: Any) -> Any:
        """What stands for no condition in the place of a value."""
        return None if self.embed is not None else (torch.zeros_like(value[0]), torch.zeros_like(value[1]))


class Conditioners(nn.ModuleDict):
    """All conditioners of a model.

    Args:
        settings: ``dim``, and ``words`` and ``num_words`` of those with words, by name.
        width: C.
        sums, crosses: names of those that are added, and of those that are attended to.
        cross_positions: factor on the positions that are added to what is attended to; 0: none.
    """

    def __init__(self, settings: Mapping[str, Mapping[str, Any]], width: int, sums: Sequence[str],
                 crosses: Sequence[str], cross_positions: float) -> None:
        super().__init__({name: Conditioner(out_dim=width, **settings[name]) for name in sorted(settings)})
        self.sums = list(sums)
        self.crosses = list(crosses)
        self.cross_positions = cross_positions

    def conditions(self, rows: Sequence[Attributes], with_null: bool = False) -> StreamConditions:
        """Conditions of B rows, and B more without any where ``with_null``.

        Raises:
            ValueError: rows with other conditions than the model's.
        """
        for row in rows:
            if set(row) != set(self):
                raise ValueError(f"this model is conditioned on {', '.join(self) or 'nothing'}, got "
                                 f"{', '.join(row) or 'nothing'}")
        rows = [*rows, *(self.without(row) for row in rows if with_null)]
        made = {name: conditioner([row[name] for row in rows]) for name, conditioner in self.items()}
        total = sum(made[name] for name in self.sums) if self.sums else None
        cross = torch.cat([made[name] for name in self.crosses], dim=1) if self.crosses else None
        if cross is not None and self.cross_positions:
            half = cross.shape[-1] // 2
            waves = sinusoidal_embedding(torch.arange(cross.shape[1], device=cross.device), 2 * half, sine_first=True)
            cross = cross + self.cross_positions * waves.roll(half, dims=-1)  # cosines, then sines
        return StreamConditions(total, cross)

    def without(self, row: Attributes) -> Attributes:
        """A row without any condition."""
        return {name: self[name].null(value) for name, value in row.items()}
