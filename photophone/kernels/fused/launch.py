"""How all kernels are launched, and how launches are recorded instead, so that they can be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Launch:
    """What a launch was called with: the kernel, the grid, positional arguments, constants and options by name."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    named: dict[str, Any]


_RECORD: ContextVar[list[Launch] | None] = ContextVar("recorded_launches", default=None)


@contextmanager
def recording() -> Iterator[list[Launch]]:
    """Inside the block launches are collected in the list and not run; tensors may be on the meta device."""
    launches: list[Launch] = []
    token = _RECORD.set(launches)
    try:
        yield launches
    finally:
        _RECORD.reset(token)


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **named: Any) -> None:
    """Run ``kernel[grid](*arguments, **named)`` on the device of the first tensor."""
    record = _RECORD.get()
    if record is not None:
        record.append(Launch(kernel, grid, arguments, named))
        return
    first = next(argument for argument in arguments if isinstance(argument, Tensor))
    with torch.cuda.device_of(first):
        kernel[grid](*arguments, **named)


def power_of_two(number: int) -> int:
    """The smallest power of two that is at least ``number``."""
    return 1 << max(number - 1, 0).bit_length()


def blocks(count: int, size: int) -> int:
    """How many blocks of ``size`` cover ``count``."""
    return -(-count // size)


def two_axes(x: Tensor, shape: torch.Size) -> Tensor:
    """``x`` expanded to ``shape`` and seen as (B, N, W), its last axis dense; a copy only where strides forbid a view.

    Expanded axes keep their stride 0, so nothing is repeated in memory.
    """
    x = x.expand(shape)
    x = x.reshape(1, 1, -1) if x.ndim == 1 else x[None] if x.ndim == 2 else x.flatten(0, -3)  # (..., W) -> (B, N, W)
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()
