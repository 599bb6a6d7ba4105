"""The Snake activation.

For N numbers of b bytes it reads and writes ``2 N b`` bytes with about 25 operations a number (a sine with range
reduction): 3 to 6 a byte, so bandwidth is the limit; torch's five kernels move ``10 N b``. The backward pass reads x
and the gradient and writes one: ``3 N b``, with two sines.
"""

from __future__ import annotations

import torch
from torch import Tensor

from photophone.kernels.dispatch import choose

SMALLEST = 1e-9  # added to the divisor, so that a frequency of 0 gives x


def snake(x: Tensor, alpha: Tensor) -> Tensor:
    """``x + sin(alpha x)^2 / alpha``; alpha broadcasts against x.

    The kernel takes x (B, C, T) with alpha (1, C, 1) or (C, 1), and x (B, T, C) with alpha (C,).
    """
    seen = _channels_middle(x, alpha)
    if seen is not None and choose("snake", x, alpha, backward=True) == "triton":
        from photophone.kernels.fused import snake as fused

        y = fused.FusedSnake.apply(seen, alpha.reshape(-1), SMALLEST)
        return y if alpha.ndim > 1 else y.transpose(1, 2)
    if x.dtype == alpha.dtype == torch.float16:  # which knows neither 1e-9 nor its inverse: as the kernel, in float32
        return snake(x.float(), alpha.float()).half()
    return x + (alpha + SMALLEST).reciprocal() * torch.sin(alpha * x).square()


def _channels_middle(x: Tensor, alpha: Tensor) -> Tensor | None:
    """x seen as (B, C, T), or None for another arrangement."""
    if x.ndim != 3 or x.dtype != alpha.dtype:
        return None
    if alpha.ndim == 1 and alpha.shape[0] == x.shape[2]:
        return x.transpose(1, 2)
    return x if tuple(alpha.shape) in ((1, x.shape[1], 1), (x.shape[1], 1)) else None
