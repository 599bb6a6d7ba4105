"""The order in which NAR makes a square grid: one anti-diagonal after another, from the top left corner.

Places of one anti-diagonal have the same distance row + column from that corner. A code is predicted from its
neighbours on the anti-diagonal before: from the code on its left by one head, from the code above it by the other.
"""

from __future__ import annotations

import torch
from torch import Tensor


def distances(grid_size: int) -> Tensor:
    """Row + column of each place, Long (N,), row by row."""
    side = torch.arange(grid_size)
    return (side[:, None] + side).flatten()


def diagonal_order(grid_size: int) -> Tensor:
    """Places in the order in which they are made, Long (N,): by their distance, then from top to bottom."""
    return distances(grid_size).argsort(stable=True)


def diagonal_sizes(grid_size: int) -> list[int]:
    """Codes of each of the 2 n - 1 anti-diagonals: 1, 2, ... n, ... 2, 1."""
    return distances(grid_size).bincount().tolist()


def proximity_mask(prefix_length: int, grid_size: int) -> Tensor:
    """Bool (T + N, T + N), True where a position (first axis) may look at another.

    The T condition tokens in front are causal. A code sees them all, and each code that is as near to the corner as
    itself or nearer: those of its own anti-diagonal too, because they are made at once.
    """
    total = prefix_length + grid_size**2
    mask = torch.ones(total, total, dtype=torch.bool).tril()
    distance = distances(grid_size)
    mask[prefix_length:, prefix_length:] = distance <= distance[:, None]
    return mask


def first_code(right: Tensor, below: Tensor) -> Tensor:
    """Logits of the code in the corner, which has no neighbours: the mean of both heads, (B, 1, V) each."""
    return (right + below) / 2


def next_diagonal(right: Tensor, below: Tensor, grid_size: int, index: int) -> Tensor:
    """Logits of anti-diagonal ``index`` from both heads (B, k, V) at the k codes of the one before, top to bottom.

    Neighbours inside the grid are averaged. While diagonals grow, the uppermost code has no code above it, and the
    lowest none on its left.
    """
    both = (right[:, 1:] + below[:, :-1]) / 2
    return torch.cat([right[:, :1], both, below[:, -1:]], dim=1) if index < grid_size else both


def all_codes(right: Tensor, below: Tensor, grid_size: int) -> Tensor:
    """Logits (B, N, V) of all codes, row by row.

    Args:
        right, below: of both heads (B, 1 + N, V), at the last condition token and at each code, row by row.
        grid_size: n, where N = n * n.
    """
    corner = first_code(right[:, :1], below[:, :1])
    right, below = (logits[:, 1:].unflatten(1, (grid_size, grid_size)) for logits in (right, below))
    first_row = torch.cat([corner, right[:, 0, :-1]], dim=1)  # (B, n, V)
    both = (right[:, 1:, :-1] + below[:, :-1, 1:]) / 2  # (B, n - 1, n - 1, V)
    other_rows = torch.cat([below[:, :-1, :1], both], dim=2)  # (B, n - 1, n, V)
    return torch.cat([first_row[:, None], other_rows], dim=1).flatten(1, 2)
