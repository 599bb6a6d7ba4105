"""Prompts of language models that draw: ids padded on the left, and a null prompt that may be shorter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from photophone.core.noise import Noise
from photophone.generators.base import Generator
from photophone.generators.conditions import CaptionIds

EXAMPLE_LENGTH = 6


class PromptGenerator(Generator):
    """Base of generators whose condition is a prompt of ids; a family's config has ``vocab_size``."""

    Condition = CaptionIds

    def check_condition(self, condition: CaptionIds) -> None:
        check_prompts(condition, self.config.vocab_size)

    def example_condition(self, rows: int, seed: int = 0) -> CaptionIds:
        return example_prompts(rows, self.config.vocab_size, seed)


def null_prompts(condition: CaptionIds) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, L) of the null prompt for each row, padded to the length of the condition."""
    ids, mask = torch.zeros_like(condition.ids), torch.zeros_like(condition.mask)
    start = ids.shape[1] - len(condition.null_ids)
    ids[:, start:], mask[:, start:] = condition.null_ids, True
    return ids, mask


def prompt_rows(condition: CaptionIds, guided: bool) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, L) of the prompts; with guidance (2 B, L), the null prompts behind them."""
    if not guided:
        return condition.ids, condition.mask
    null_ids, null_mask = null_prompts(condition)
    return torch.cat([condition.ids, null_ids]), torch.cat([condition.mask, null_mask])


def drop_prompts(condition: CaptionIds, share: float, noise: Noise) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, L) for training: a share of the prompts is the null prompt. No draw for a share of 0."""
    if not share:
        return condition.ids, condition.mask
    drop = (noise.uniform(len(condition)) < share).to(condition.ids.device)[:, None]
    null_ids, null_mask = null_prompts(condition)
    return torch.where(drop, null_ids, condition.ids), torch.where(drop, null_mask, condition.mask)


def append_ids(ids: Tensor, mask: Tensor, behind: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Ids Long (B, L) and their mask with further ids, the same for all rows."""
    more = torch.tensor(list(behind), dtype=torch.long, device=ids.device).expand(len(ids), -1)
    return torch.cat([ids, more], dim=1), torch.cat([mask, torch.ones_like(more, dtype=torch.bool)], dim=1)


def check_prompts(condition: CaptionIds, vocab_size: int) -> None:
    """Refuse what are no prompts.

    Raises:
        ValueError: other shapes, padding that is not on the left, or ids that the vocabulary does not have.
    """
    ids, mask, null = condition.ids, condition.mask, condition.null_ids
    if ids.ndim != 2 or ids.dtype != torch.long or not ids.shape[1]:
        raise ValueError(f"prompt ids must be Long (B, L) with L above 0, got {ids.dtype} {tuple(ids.shape)}")
    if mask.shape != ids.shape or mask.dtype != torch.bool or bool((mask[:, :-1] & ~mask[:, 1:]).any()) or \
            not bool(mask[:, -1].all()):
        raise ValueError(f"the mask of prompts must be bool {tuple(ids.shape)} with padding on the left only")
    if null.ndim != 1 or null.dtype != torch.long or len(null) > ids.shape[1]:
        raise ValueError(f"the null prompt must be Long of 0..{ids.shape[1]} ids, got {null.dtype} "
                         f"{tuple(null.shape)}; pad the prompts to at least its length")
    for name, given in (("prompt ids", ids), ("the null prompt", null)):
        if given.numel() and not 0 <= int(given.min()) <= int(given.max()) < vocab_size:
            raise ValueError(f"{name} must lie in 0..{vocab_size - 1}, got {int(given.min())}..{int(given.max())}")


def example_prompts(rows: int, vocab_size: int, seed: int = 0) -> CaptionIds:
    """Prompts of different lengths."""
    ids = torch.randint(3, vocab_size, (rows, EXAMPLE_LENGTH), generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(EXAMPLE_LENGTH) >= torch.tensor([[row % (EXAMPLE_LENGTH - 2)] for row in range(rows)])
    return CaptionIds(ids.masked_fill(~mask, 0), mask, torch.tensor([1, 2]))
