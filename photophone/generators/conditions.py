"""What generators are conditioned on: typed batches whose rows belong together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from types import UnionType
from typing import ClassVar, Self, get_args

import torch
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """A batch of conditions: every tensor has the rows on its first axis, but for those that SHARED names.

    Attributes:
        SHARED: names of tensors that all rows have in common.
    """

    SHARED: ClassVar[tuple[str, ...]] = ()

    def _row_tensors(self) -> dict[str, Tensor]:
        values = {part.name: getattr(self, part.name) for part in fields(self) if part.name not in self.SHARED}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def __len__(self) -> int:
        """Rows of the batch."""
        return len(next(iter(self._row_tensors().values())))

    def __getitem__(self, rows: slice | list[int] | Tensor) -> Self:
        """Some rows as a batch of their own."""
        return replace(self, **{name: value[rows] for name, value in self._row_tensors().items()})

    def read_by(self, options: Iterable[str]) -> dict[str, Tensor]:
        """Those of the named tensors that the condition has: what an image tokenizer reads of it when it decodes."""
        found = {name: getattr(self, name, None) for name in options}
        return {name: value for name, value in found.items() if value is not None}

    def to(self, device: torch.device | str) -> Self:
        """The same on a device."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)})


@dataclass(frozen=True)
class ClassLabels(Condition):
    """One class for each row.

    Args:
        labels: Long (B,).
    """

    labels: Tensor

    def check(self, num_classes: int) -> None:
        """Refuse what is not a batch of classes.

        Raises:
            ValueError: unless labels are Long (B,) in 0..num_classes - 1.
        """
        labels = self.labels
        if labels.ndim != 1 or labels.dtype != torch.long:
            raise ValueError(f"labels must be Long (B,), got {labels.dtype} {tuple(labels.shape)}")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
            raise ValueError(f"labels must lie in 0..{num_classes - 1}, got {labels.flatten()[:8].tolist()}")


@dataclass(frozen=True)
class CaptionIds(Condition):
    """Captions as ids of a vocabulary.

    Args:
        ids: Long (B, L).
        mask: bool (B, L), True for tokens of a caption.
        null_ids: Long (L,): the empty caption, which guidance and training put in the place of one.
        null_mask: bool (L,), where ``null_ids`` is a caption that guidance leads away from, for families that edit
            images; None: it is the empty one.
    """

    SHARED = ("null_ids", "null_mask")

    ids: Tensor
    mask: Tensor
    null_ids: Tensor
    null_mask: Tensor | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class CaptionBlend(CaptionIds):
    """Captions of which each row lies between two, for families that edit images.

    Args:
        other_ids, other_mask: of the second caption, as ``ids`` and ``mask``.
        shares: float (B,), of the second caption: 0 is the first alone, 1 the second alone.
    """

    other_ids: Tensor
    other_mask: Tensor
    shares: Tensor


@dataclass(frozen=True)
class CaptionFeatures(Condition):
    """Captions as features of a frozen text encoder.

    Args:
        features: float (B, T, D), padded on the left.
        mask: bool (B, T), True for tokens of a caption; None where all are.
    """

    features: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True)
class CaptionStates(Condition):
    """Captions as states of CLIP's text tower, with those of the empty caption, which guidance and training use.

    Args:
        states: float (B, T, D) of all T places, behind the last block but one.
        pooled: float (B, D'), one vector of each caption.
        null_states: float (T, D).
        null_pooled: float (D',).
        text_states: float (B, T, D) behind the last block and its norm, for image tokenizers that read them; None
            where the tokenizer does not.
        scores: float (B,), aesthetic scores of the pictures; None: those of the sampler.
    """

    SHARED = ("null_states", "null_pooled")

    states: Tensor
    pooled: Tensor
    null_states: Tensor
    null_pooled: Tensor
    text_states: Tensor | None = None
    scores: Tensor | None = None


def condition_kinds(condition: type[Condition] | UnionType) -> tuple[type[Condition], ...]:
    """All classes that ``Generator.Condition`` of a family stands for."""
    return get_args(condition) or (condition,)
