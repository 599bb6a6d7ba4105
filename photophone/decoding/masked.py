"""Masked decoding of discrete tokens as TiTok does it (arXiv 2406.07550, after MaskGIT, 2202.04200): pure functions.

All tokens start masked; each step draws all of them, keeps the surest and masks the rest again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from photophone.core.noise import Noise
from photophone.decoding.loop import Callback, notify
from photophone.heads.base import is_guided
from photophone.kernels.sampling import draw_categorical
from photophone.kernels.solver import combine_guidance

Logits = Callable[[Tensor, bool], Tensor]  # (ids (B, N), guided) -> logits (B, N, K), or (2 B, N, K) with those of
# the same ids without their condition behind them
Scores = Callable[[Tensor, int], Tensor]
Guidance = Callable[[float], float]  # progress of the sampler in [0, 1) -> strength, 1 for none
LEAST = 1e-20
MASK_SCHEDULES = {
    "arccos": lambda progress: torch.acos(progress) / (math.pi * 0.5),
    "cosine": lambda progress: torch.cos(progress * math.pi * 0.5),
    "linear": lambda progress: 1 - progress,
    "square": lambda progress: 1 - progress**2,
    "root": lambda progress: 1 - progress**0.5,
}
"""How the share of masked tokens falls from 1 to 0."""


def masked_share(progress: Tensor, schedule: str = "arccos") -> Tensor:
    """Share of tokens that stay masked at progress 0..1, by a name in MASK_SCHEDULES.

    Raises:
        ValueError: an unknown schedule.
    """
    if schedule not in MASK_SCHEDULES:
        raise ValueError(f"mask_schedule must be one of {', '.join(MASK_SCHEDULES)}, got {schedule!r}")
    return MASK_SCHEDULES[schedule](progress)


def arccos_share(progress: float) -> float:
    """Share of tokens that stay masked: 1 at progress 0, 0 at progress 1."""
    return math.acos(progress) / (math.pi / 2)


def mask_counts(length: int, num_steps: int, share: Callable[[float], float] = arccos_share) -> list[int]:
    """How many tokens stay masked after each step but the last; each step but one that has 1 left reveals some.

    Args:
        share: of tokens that stay masked at each progress.

    Raises:
        ValueError: when ``num_steps`` is below 1.
    """
    if num_steps < 1:
        raise ValueError(f"num_order_steps must be at least 1, got {num_steps}")
    counts, masked = [], length
    for step in range(num_steps - 1):
        masked = max(1, min(masked - 1, math.floor(length * share((step + 1) / num_steps))))
        counts.append(masked)
    return counts


def guided_logits(logits: Logits, ids: Tensor, guidance: float) -> Tensor:
    """Logits (B, N, K) under guidance; without it (1) the network sees half as many rows."""
    if not is_guided(guidance):
        return combine_guidance(logits(ids, False), None, guidance)
    return combine_guidance(*logits(ids, True).chunk(2), guidance)


def gumbel(noise: Noise, *shape: int) -> Tensor:
    """Standard Gumbel draws with the official limits inside the logarithms."""
    return -torch.log((-torch.log(noise.uniform(*shape).clamp(min=LEAST))).clamp(min=LEAST))


def decode_masked(logits: Logits, rows: int, length: int, mask_id: int, *, noise: Noise, num_steps: int,
                  guidance: Guidance, temperature: float = 1.0, annealed: bool = False, noisy_order: bool = True,
                  counts: Sequence[int] | None = None, callback: Callback | None = None,
                  device: torch.device | str = "cpu") -> Tensor:
    """Draw all tokens: Long (rows, length).

    Two draws a step: (rows, length, K) for the tokens, (rows, length) for a noisy order, also at temperature 0.

    Args:
        logits: the network.
        mask_id: the token that stands for "masked".
        guidance: strength of guidance at each progress.
        temperature: of both draws at the start; it falls to 0 in a line.
        annealed: divide the logits by ``0.5 + 0.8 * (1 - progress)``.
        noisy_order: the surest tokens are kept by chance, else exactly they.
        counts: see :func:`mask_counts`; None: those of the arccos schedule.

    Raises:
        ValueError: no steps.
    """
    def scores(ids: Tensor, step: int) -> Tensor:
        made = guided_logits(logits, ids, guidance(step / num_steps)).float()
        return made / (0.5 + 0.8 * (1 - (step + 1) / num_steps)) if annealed else made

    return unmask(scores, rows, length, mask_id, noise=noise,
                  counts=mask_counts(length, num_steps) if counts is None else counts,
                  warmth=lambda step: temperature * (1.0 - (step + 1) / num_steps), noisy_order=noisy_order,
                  callback=callback, device=device)


def unmask(scores: Scores, rows: int, length: int, mask_id: int, *, noise: Noise, counts: Sequence[int],
           warmth: Callable[[int], float], noisy_order: bool = True, draws_last_order: bool = True,
           callback: Callback | None = None, device: torch.device | str = "cpu") -> Tensor:
    """Draw all tokens, the surest first: Long (rows, length). The draws are those of :func:`decode_masked`.

    Args:
        scores: logits (rows, length, K) of ids Long (rows, length) at a step.
        mask_id: the token that stands for "masked".
        counts: tokens that stay masked after each step but the last.
        warmth: temperature of both draws at a step.
        noisy_order: see :func:`decode_masked`.
        draws_last_order: the last step draws a noisy order too, which nothing depends on.
    """
    ids = torch.full((rows, length), mask_id, dtype=torch.long, device=device)
    for step in range(len(counts) + 1):
        masked, last = ids == mask_id, step == len(counts)
        made = scores(ids, step)
        drawn = (made + warmth(step) * gumbel(noise, *made.shape).to(device)).argmax(dim=-1)
        confidence = made.gather(-1, drawn[..., None]).squeeze(-1).masked_fill(~masked, torch.inf)
        if noisy_order and (not last or draws_last_order):
            confidence = confidence + warmth(step) * gumbel(noise, rows, length).to(device)
        ids = torch.where(masked, drawn, ids)
        if not last:
            # The official code counts row 0 for all rows; rows differ only where confidences tie.
            least = confidence.kthvalue(counts[step], dim=-1, keepdim=True).values
            ids = ids.masked_fill(confidence <= least, mask_id)
        notify(callback, step + 1, len(counts) + 1)
    return ids


def cosine_share(progress: float) -> float:
    """Share of tokens that stay masked on MaskGIT's own schedule: 1 at progress 0, 0 at progress 1."""
    return math.cos(math.pi / 2 * progress)


def decode_masked_cells(logits: Logits, rows: int, length: int, books: int, mask_id: int, *, noise: Noise,
                        num_steps: int, guidance: Guidance, temperature: float = 1.0,
                        callback: Callback | None = None, device: torch.device | str = "cpu") -> Tensor:
    """Draw all codes of cells that have several each, as ELM does it (arXiv 2410.16257): Long (rows, length, books).

    Codes are drawn from their probabilities; the cells of the highest mean log probability, with noise that falls to
    0, are kept. Two draws a step: (rows, length books, K) for the codes, (rows, length, books) for the order.

    Args:
        logits: the network, of ids (B, length books), cell by cell.
        mask_id, guidance: see :func:`decode_masked`; guidance is asked for the progress behind each step.
        temperature: of the order at the start; it falls to 0 in a line.

    Raises:
        ValueError: no steps.
    """
    counts = mask_counts(length, num_steps, cosine_share)
    ids = torch.full((rows, length, books), mask_id, dtype=torch.long, device=device)
    for step in range(num_steps):
        done = (step + 1) / num_steps
        masked = ids == mask_id
        scores = guided_logits(logits, ids.flatten(1), guidance(done)).float()
        drawn = draw_categorical(scores, noise)
        sure = scores.log_softmax(dim=-1).gather(-1, drawn[..., None]).view(ids.shape)
        ids = torch.where(masked, drawn.view(ids.shape), ids)
        sure = sure + temperature * (1 - done) * noise.gumbel(rows, length, books).to(device)
        if step < num_steps - 1:
            confidence = sure.mean(dim=-1).masked_fill(~masked[..., 0], torch.inf)  # (rows, length)
            least = confidence.kthvalue(counts[step], dim=-1, keepdim=True).values
            ids = ids.masked_fill((confidence <= least)[..., None], mask_id)
        notify(callback, step + 1, num_steps)
    return ids
