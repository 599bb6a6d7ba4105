"""Mixed two-dimensional rotary embedding (RoPE-ViT, arXiv 2403.13298): every frequency has a learned direction."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from photophone.kernels import rotary


def rotate_pairs(x: Tensor, angles: Tensor) -> Tensor:
    """Turn adjacent channel pairs of x ``(B, H, N, d)`` by angles ``(H, N, d/2)``, in float32; the dtype stays."""
    return rotary.rotate(x, torch.stack([angles.cos(), angles.sin()], dim=-1))


def random_directions(depth: int, num_heads: int, head_dim: int, theta: float) -> Tensor:
    """Start of the frequencies, ``(2, depth, H * head_dim / 2)``: two perpendicular sets a head, turned at random."""
    sizes = theta ** -(torch.arange(0, head_dim, 4).float() / head_dim)  # (d/4,)
    turn = 2 * math.pi * torch.rand(depth, num_heads, 1)
    angles = torch.cat([turn.expand(-1, -1, len(sizes)), turn.expand(-1, -1, len(sizes)) + math.pi / 2], dim=-1)
    return torch.stack([sizes.repeat(2) * angles.cos(), sizes.repeat(2) * angles.sin()]).flatten(2)


class MixedRope2d(nn.Module):
    """Rotations of the tokens of a square grid in all blocks; tokens before and after the grid stay as they are.

    Args:
        depth, num_heads, head_dim: of the transformer; head_dim a multiple of 4.
        grid: tokens per side; token i lies in row ``i // grid``, column ``i % grid``.
        before: tokens in front of the grid.
        theta: ratio of the largest frequency to the smallest at the start.

    Attributes:
        frequencies: Parameter ``(2, depth, H * head_dim / 2)``, along columns and along rows.

    Raises:
        ValueError: for a head_dim that is not a multiple of 4.
    """

    def __init__(self, depth: int, num_heads: int, head_dim: int, grid: int, before: int, theta: float = 10.0) -> None:
        super().__init__()
        if head_dim % 4:
            raise ValueError(f"mixed rotary embedding needs a head width that is a multiple of 4, got {head_dim}")
        self.num_heads = num_heads
        self.grid = grid
        self.before = before
        self.frequencies = nn.Parameter(random_directions(depth, num_heads, head_dim, theta))

    def rotation(self, block: int):
        """The function that turns queries or keys ``(B, H, N, d)`` of a block."""
        place = torch.arange(self.grid**2, device=self.frequencies.device)
        column = (place % self.grid).float()
        row = (place // self.grid).float()
        along_x, along_y = self.frequencies[:, block].float()
        angles = column[:, None] * along_x + row[:, None] * along_y  # (hw, H d/2)
        angles = angles.unflatten(-1, (self.num_heads, -1)).transpose(0, 1)  # (H, hw, d/2)
        end = self.before + self.grid**2

        def rotate(x: Tensor) -> Tensor:
            return torch.cat([x[:, :, : self.before], rotate_pairs(x[:, :, self.before:end], angles), x[:, :, end:]],
                             dim=2)

        return rotate
