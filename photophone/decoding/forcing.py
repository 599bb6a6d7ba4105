"""Sampling of frames that have noise levels of their own (Diffusion Forcing, arXiv 2407.01392).

A matrix says for each iteration and frame how many sampling steps are left: S at first, 0 for a clean frame.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MATRICES = ("pyramid", "autoregressive", "full_sequence", "trapezoid")


def level_matrix(kind: str, horizon: int, num_steps: int, scale: float = 1.0) -> Tensor:
    """Long (rows, horizon): levels of the frames, row by row.

    "full_sequence": all frames together; "pyramid": each ``scale`` steps behind the one before; "autoregressive": one
    after the other; "trapezoid": from both ends. In the last one the last frame goes with the second, and for an even
    horizon the one in the middle keeps its noise and counts as clean, as in the official code.

    Raises:
        ValueError: an unknown kind, or no frames or steps.
    """
    if kind not in MATRICES:
        raise ValueError(f"matrix must be one of {', '.join(MATRICES)}, got {kind!r}")
    if horizon < 1 or num_steps < 1 or scale < 0:
        raise ValueError(f"need at least one frame and one step and no negative scale, got {horizon}, {num_steps} and "
                         f"{scale}")
    if kind == "full_sequence":
        return torch.arange(num_steps, -1, -1)[:, None].repeat(1, horizon)
    scale = num_steps if kind == "autoregressive" else scale
    if kind != "trapezoid":
        rows = num_steps + int((horizon - 1) * scale) + 1
        late = torch.tensor([int(frame * scale) for frame in range(horizon)])
        return (num_steps + late - torch.arange(rows)[:, None]).clamp(0, num_steps)
    half = (horizon + 1) // 2
    down = torch.arange(num_steps + int(half * scale))
    matrix = torch.zeros(len(down), horizon, dtype=torch.long)
    for frame in range(half):
        matrix[:, frame] = matrix[:, -frame] = num_steps + int(frame * scale) - down
    return matrix.clamp(0, num_steps)


def real_steps(num_train_steps: int, num_steps: int) -> Tensor:
    """Long (S + 1,): the step of the process for each level; -1 is clean."""
    return torch.linspace(-1, num_train_steps - 1, num_steps + 1).long()


Step = Callable[[Tensor, int, Tensor, Tensor], Tensor]  # (window (B, n, ...), its first frame, levels (n,) before and
# behind) -> the window


def roll_out(known: Tensor, total: int, step: Step, draw: Callable[[int], Tensor], *, matrix: str, num_steps: int,
             window: int, chunk: int, scale: float = 1.0) -> Tensor:
    """Frames (B, total, ...) of known ones (B, n, ...), chunk by chunk.

    Args:
        step: one step of the process on the last frames; frames with level 0 before and behind are context.
        draw: noise (B, n, ...) of that many new frames.
        matrix, scale: see :func:`level_matrix`.
        num_steps: S.
        window: most frames that the network sees.
        chunk: frames that are made together.

    Raises:
        ValueError: chunks that do not fit the window.
    """
    if not 1 <= chunk <= window:
        raise ValueError(f"a chunk must have 1..{window} frames, got {chunk}")
    frames = known
    while frames.shape[1] < total:
        made = frames.shape[1]
        count = min(chunk, total - made)
        levels = torch.nn.functional.pad(level_matrix(matrix, count, num_steps, scale), (made, 0))
        frames = torch.cat([frames, draw(count)], dim=1)
        first = max(0, made + count - window)
        for before, behind in zip(levels[:-1, first:], levels[1:, first:]):
            frames = torch.cat([frames[:, :first], step(frames[:, first:], first, before, behind)], dim=1)
    return frames
