"""What generators read that go on from text to speech: sequences of text and patches of speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from photophone.generators.conditions import Condition


@dataclass(frozen=True)
class SpeechSequence(Condition):
    """Text and patches of speech, a position each; rows are padded on the left.

    Args:
        text_ids: Long (B, L), 0 at patches.
        audio_mask: bool (B, L), True at patches.
        patches: float (B, L, P, D), 0 at text.
        mask: bool (B, L), False at padding.
        max_patches: Long (B,), patches that a row speaks at most; None: what fits the model.
    """

    text_ids: Tensor
    audio_mask: Tensor
    patches: Tensor
    mask: Tensor
    max_patches: Tensor | None = None

    @classmethod
    def of_parts(cls, rows: Sequence[Sequence[Sequence[int] | Tensor]], patch: tuple[int, int]) -> Self:
        """Rows of text ids and of patches (N, P, D), one behind the other, on the CPU.

        Args:
            patch: P and D.
        """
        lengths = [sum(len(part) for part in parts) for parts in rows]
        shape = (len(rows), max(lengths))
        ids = torch.zeros(shape, dtype=torch.long)
        audio, mask = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
        patches = torch.zeros(*shape, *patch)
        for row, (parts, length) in enumerate(zip(rows, lengths, strict=True)):
            place = shape[1] - length
            mask[row, place:] = True
            for part in parts:
                here = slice(place, place + len(part))
                place += len(part)
                if isinstance(part, Tensor):
                    patches[row, here], audio[row, here] = part.to(patches), True
                else:
                    ids[row, here] = torch.tensor(part)
        return cls(ids, audio, patches, mask)

    def check(self, vocab_size: int, patch: tuple[int, int]) -> None:
        """Refuse what a model does not read.

        Args:
            vocab_size: of the text.
            patch: P and D of patches.

        Raises:
            ValueError: other shapes or dtypes, ids outside the vocabulary, or padding that is not on the left.
        """
        ids, shape = self.text_ids, tuple(self.text_ids.shape)
        if ids.ndim != 2 or ids.dtype != torch.long or not ids.numel():
            raise ValueError(f"text ids must be Long (B, L), got {ids.dtype} {shape}")
        if not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
            raise ValueError(f"text ids must lie in 0..{vocab_size - 1}, got {int(ids.min())}..{int(ids.max())}")
        for name, mask in (("audio_mask", self.audio_mask), ("mask", self.mask)):
            if tuple(mask.shape) != shape or mask.dtype != torch.bool:
                raise ValueError(f"{name} must be bool {shape}, got {mask.dtype} {tuple(mask.shape)}")
        if tuple(self.patches.shape) != (*shape, *patch) or not self.patches.is_floating_point():
            raise ValueError(f"patches must be float {(*shape, *patch)}, got {self.patches.dtype} "
                             f"{tuple(self.patches.shape)}")
        if not self.mask[:, -1].all() or (self.mask[:, 1:] < self.mask[:, :-1]).any():
            raise ValueError("rows must be padded on the left, and no row may be empty")
        limit = self.max_patches
        if limit is not None and (limit.shape != ids.shape[:1] or limit.dtype != torch.long):
            raise ValueError(f"max_patches must be Long ({shape[0]},), got {limit.dtype} {tuple(limit.shape)}")


def append_speech(sequence: SpeechSequence, patches: Tensor, counts: Tensor
                  ) -> tuple[SpeechSequence, Tensor, Tensor]:
    """A sequence and the speech that follows it, for training.

    Args:
        patches: float (B, T, P, D).
        counts: Long (B,), patches of each row; what lies behind is padding on the right.

    Returns:
        The longer sequence; bool (B, L + T), True at the new patches; Long (B, L + T), 1 at the last of each row.
    """
    added = patches.shape[1]
    place = torch.arange(added, device=patches.device)
    new, last = place < counts[:, None], place == counts[:, None] - 1  # (B, T)
    before = sequence.text_ids.shape[1]
    longer = replace(sequence, text_ids=functional.pad(sequence.text_ids, (0, added)),
                     audio_mask=torch.cat([sequence.audio_mask, new], dim=1),
                     patches=torch.cat([sequence.patches.to(patches), patches], dim=1),
                     mask=torch.cat([sequence.mask, new], dim=1))
    return longer, functional.pad(new, (before, 0)), functional.pad(last.long(), (before, 0))
