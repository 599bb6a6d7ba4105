"""Orders in which the tokens of a grid are read cell by cell."""

from __future__ import annotations

import torch
from torch import Tensor


def cell_order(height: int, width: int, cell: int) -> Tensor:
    """Long (N,): the raster place of each token when the grid is read in squares of ``cell``, rows first in both.

    Raises:
        ValueError: the grid does not split into such squares.
    """
    check_cells(height, width, cell)
    places = torch.arange(height * width).view(height // cell, cell, width // cell, cell)
    return places.transpose(1, 2).flatten()  # (cell row, row, cell column, column) -> cells first


def check_cells(height: int, width: int, cell: int) -> None:
    """Raise ValueError for a grid that does not split into squares of ``cell``."""
    if cell < 1 or height % cell or width % cell:
        raise ValueError(f"a grid of {height} x {width} does not split into cells of {cell} x {cell}")
