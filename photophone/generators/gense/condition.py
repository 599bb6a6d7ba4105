"""What the two language models of GenSE read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from photophone.core.tokens import Tokens
from photophone.generators.conditions import Condition
from photophone.generators.sampler import Sampler, temperature_option


@dataclass(frozen=True)
class NoisyUnits(Condition):
    """Semantic units of noisy speech.

    Args:
        units: Long (B, T).
        lengths: Long (B,), units of each row; None: all rows are full.
    """

    units: Tensor
    lengths: Tensor | None = None

    @property
    def counts(self) -> Tensor:
        """Units of each row, Long (B,)."""
        return Tokens(self.units, self.lengths).mask.sum(dim=1)

    def check(self, num_semantic: int) -> None:
        """Refuse what does not fit.

        Raises:
            ValueError: another dtype or shape, units outside the vocabulary, or rows without units.
        """
        check_codes("semantic units", self.units, num_semantic)
        if not self.units.numel() or int(self.counts.min()) < 1:
            raise ValueError("every row needs at least one semantic unit")


@dataclass(frozen=True)
class TokenChain(NoisyUnits):
    """Semantic units of noisy speech and of what is to be said clean, and the codes of the noisy speech.

    Args:
        units, lengths: of :class:`NoisyUnits`.
        clean_units: Long (B, T), as many in each row.
        codes: Long (B, A).
        code_lengths: Long (B,), codes of each row; None: all rows are full.
    """

    clean_units: Tensor | None = None
    codes: Tensor | None = None
    code_lengths: Tensor | None = None

    @property
    def code_counts(self) -> Tensor:
        """Codes of each row, Long (B,)."""
        return Tokens(self.codes, self.code_lengths).mask.sum(dim=1)

    def check_chain(self, num_semantic: int, num_codes: int) -> None:
        """See :meth:`NoisyUnits.check`, and the same for what else there is."""
        self.check(num_semantic)
        if self.clean_units is None or self.codes is None:
            raise ValueError("a chain needs clean_units and codes")
        check_codes("clean units", self.clean_units, num_semantic)
        check_codes("codes", self.codes, num_codes)
        if self.clean_units.shape != self.units.shape or len(self.codes) != len(self.units):
            raise ValueError(f"a chain has as many clean units as noisy ones, and codes of the same rows; got "
                             f"{tuple(self.units.shape)}, {tuple(self.clean_units.shape)}, {tuple(self.codes.shape)}")


def check_codes(name: str, values: Tensor, size: int) -> None:
    """Refuse what is not Long (B, N) below ``size``.

    Raises:
        ValueError: names what came.
    """
    if values.ndim != 2 or values.dtype != torch.long:
        raise ValueError(f"{name} must be Long (B, N), got {values.dtype} {tuple(values.shape)}")
    if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < size:
        raise ValueError(f"{name} must lie in 0..{size - 1}, got {int(values.min())}..{int(values.max())}")


@dataclass(frozen=True)
class GenSESampler(Sampler):
    """Options of :class:`photophone.generators.gense.model.GenSEN2S` and its like."""

    temperature: float = temperature_option()
