"""What VoxInstruct reads, and the places of its ids."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from photophone.core.tokens import Tokens
from photophone.generators.conditions import Condition
from photophone.generators.sampler import Sampler, guidance_option, option, temperature_option

MAX_IDS = 100_000
"""Of one sequence."""


@dataclass(frozen=True)
class Layout:
    """Ids of the vocabulary: 0 is padding, then languages, semantic units, codes, beginning and two ends.

    Args:
        num_languages, num_semantic, num_codes: how many there are.
    """

    num_languages: int = 2
    num_semantic: int = 500
    num_codes: int = 1024

    @property
    def first_code(self) -> int:
        """Id of code 0."""
        return 1 + self.num_languages + self.num_semantic

    @property
    def begin(self) -> int:
        """Id in front."""
        return self.first_code + self.num_codes

    @property
    def semantic_end(self) -> int:
        """Id behind the semantic units."""
        return self.begin + 1

    @property
    def end(self) -> int:
        """Id behind the codes."""
        return self.begin + 2

    @property
    def size(self) -> int:
        """Ids in all."""
        return self.begin + 3

    @property
    def border(self) -> int:
        """Lower ids are what the semantic part may have, others the acoustic part: as the authors have it, who forgot
        the languages, so the last units never come and count as codes."""
        return 1 + self.num_semantic


@dataclass(frozen=True)
class Instruction(Condition):
    """An instruction, a language, and perhaps the beginning of what is said, the same in length for all rows.

    Args:
        text_ids: Long (B, L) of the text encoder's vocabulary.
        text_mask: bool (B, L), True for tokens of the text.
        language: Long (B,), 0 for English, 1 for Chinese.
        units: Long (B, S), semantic units of a prompt.
        codes: Long (B, Q, A), codes of the same prompt, of all books.
    """

    text_ids: Tensor
    text_mask: Tensor
    language: Tensor
    units: Tensor | None = None
    codes: Tensor | None = None

    def check(self, layout: Layout, num_books: int, max_text: int, text_vocab: int) -> None:
        """Refuse what does not fit.

        Raises:
            ValueError: other shapes or dtypes, ids outside their range, a text that is too long, or half a prompt.
        """
        ids, mask = self.text_ids, self.text_mask
        if ids.ndim != 2 or ids.dtype != torch.long or mask.shape != ids.shape or mask.dtype != torch.bool:
            raise ValueError(f"expected text_ids Long (B, L) and text_mask bool (B, L), got {ids.dtype} "
                             f"{tuple(ids.shape)} and {mask.dtype} {tuple(mask.shape)}")
        if not 1 <= ids.shape[1] <= max_text:
            raise ValueError(f"an instruction has 1 to {max_text} tokens, got {ids.shape[1]}")
        if (self.units is None) != (self.codes is None):
            raise ValueError("a prompt needs both units and codes")
        ranges = {"text_ids": (ids, text_vocab, 2), "language": (self.language, layout.num_languages, 1),
                  "units": (self.units, layout.num_semantic, 2), "codes": (self.codes, layout.num_codes, 3)}
        for name, (values, size, axes) in ranges.items():
            if values is None:
                continue
            if values.dtype != torch.long or values.ndim != axes or len(values) != len(ids):
                raise ValueError(f"{name} must be Long with {axes} axes and {len(ids)} rows, got {values.dtype} "
                                 f"{tuple(values.shape)}")
            if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < size:
                raise ValueError(f"{name} must lie in 0..{size - 1}, got {int(values.min())}..{int(values.max())}")
        if self.codes is not None and self.codes.shape[1] != num_books:
            raise ValueError(f"codes of a prompt must be of {num_books} books, got {self.codes.shape[1]}")

    def prompt_ids(self, layout: Layout) -> Tensor:
        """Ids Long (B, 2 + S) in front of what is generated: beginning, language, units."""
        head = torch.stack([torch.full_like(self.language, layout.begin), 1 + self.language], dim=1)
        return head if self.units is None else torch.cat([head, self.units + 1 + layout.num_languages], dim=1)

    def prompt_codes(self, layout: Layout, num_books: int) -> Tensor:
        """Ids Long (B, Q, A) of the prompt's codes."""
        if self.codes is None:
            return self.language.new_zeros(len(self.language), num_books, 0)
        return self.codes + layout.first_code


@dataclass(frozen=True)
class WrittenSpeech(Instruction):
    """An :class:`Instruction` and the ids of its first book.

    Args:
        text_ids, text_mask, language, units, codes: of :class:`Instruction`.
        ids: Long (B, N), the whole sequence, with units, both ends and the codes of the prompt.
        lengths: Long (B,), ids of each row; None: all rows are full.
    """

    ids: Tensor | None = None
    lengths: Tensor | None = None

    @property
    def counts(self) -> Tensor:
        """Ids of each row, Long (B,)."""
        return Tokens(self.ids, self.lengths).mask.sum(dim=1)


@dataclass(frozen=True)
class InstructionSampler(Sampler):
    """Options of :class:`photophone.generators.voxinstruct.model.VoxInstructAR`."""

    semantic_guidance: float = guidance_option(1.5)
    text_guidance: float = guidance_option(3.0)
    unit_guidance: float = guidance_option(1.5)
    temperature: float = temperature_option(0.8)
    semantic_top_k: int = option(5, "semantic units are drawn from so many likeliest; 0 keeps all", low=0)
    acoustic_top_k: int = option(50, "codes are drawn from so many likeliest; 0 keeps all", low=0)
    top_p: float = option(0.95, "draws come from the likeliest ids that reach this probability; 1 keeps all", low=0.001,
                          high=1)
    max_ids: int = option(4000, "longest sequence, with its prompt", low=4, high=MAX_IDS)


@dataclass(frozen=True)
class BookSampler(Sampler):
    """Options of :class:`photophone.generators.voxinstruct.model.VoxInstructNAR`."""

    num_order_steps: int = option(8, "steps in which a book is filled, the surest codes first", low=1, high=1000)
