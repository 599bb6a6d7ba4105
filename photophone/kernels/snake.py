"""The Snake activation, and its form between two anti-aliasing filters.

For N numbers of b bytes:

- :func:`snake` reads and writes ``2 N b`` bytes with about 25 operations a number (a sine with range reduction): 3 to 6
  a byte, so bandwidth is the limit; torch's five kernels move ``10 N b``. Its backward pass reads x and the gradient
  and writes one: ``3 N b``, with two sines.
- :func:`alias_free_snake` needs ``2 N b`` bytes too; in torch, padding, two convolutions and the activation at twice
  the rate move about ``20 N b``. ``2 K`` multiply-adds for K taps and two sines a number: about 100 operations, 12 to
  25 a byte: near the ridge in float32, so arithmetic and the exchange between registers count as much as bandwidth.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from photophone.kernels.dispatch import choose

SMALLEST = 1e-9
"""Added to the divisor."""


def snake(x: Tensor, alpha: Tensor) -> Tensor:
    """``x + sin(alpha x)^2 / alpha``; alpha broadcasts against x.

    The kernel takes x (B, C, T) with alpha (1, C, 1) or (C, 1), and x (B, T, C) with alpha (C,).
    """
    seen = _channels_middle(x, alpha)
    if seen is not None and choose("snake", x, alpha, backward=True) == "triton":
        from photophone.kernels.fused import snake as fused

        y = fused.FusedSnake.apply(seen, alpha.reshape(-1), SMALLEST)
        return y if alpha.ndim > 1 else y.transpose(1, 2)
    return x + (alpha + SMALLEST).reciprocal() * torch.sin(alpha * x).square()


def _channels_middle(x: Tensor, alpha: Tensor) -> Tensor | None:
    """x seen as (B, C, T), or None for another arrangement."""
    if x.ndim != 3 or x.dtype != alpha.dtype:
        return None
    if alpha.ndim == 1 and alpha.shape[0] == x.shape[2]:
        return x.transpose(1, 2)
    return x if tuple(alpha.shape) in ((1, x.shape[1], 1), (x.shape[1], 1)) else None


def alias_free_snake(x: Tensor, alpha: Tensor, up: Tensor, down: Tensor, beta: Tensor | None = None) -> Tensor:
    """Snake at twice the rate (BigVGAN, arXiv 2206.04658): upsample, activate, low-pass and take every second sample.

    Both ends repeat their outermost sample. The kernel has no backward pass; where a gradient is needed torch runs.

    Args:
        x: float ``(B, C, T)``.
        alpha: ``(C,)``, the frequency.
        up, down: ``(K,)`` taps of the filters, K a multiple of 4; ``up`` sums to one.
        beta: ``(C,)``, its square root the size of the wave (SnakeBeta); alpha when None.

    Returns:
        ``(B, C, T)``.

    Raises:
        ValueError: for shapes that do not fit or a number of taps that is no multiple of 4.
    """
    beta = alpha if beta is None else beta
    channels, taps = x.shape[1], len(up)
    if x.ndim != 3 or tuple(alpha.shape) != (channels,) or tuple(beta.shape) != (channels,):
        raise ValueError(f"need x (B, C, T) and alpha, beta (C,), got {tuple(x.shape)}, {tuple(alpha.shape)} and "
                         f"{tuple(beta.shape)}")
    if taps % 4 or tuple(down.shape) != (taps,) or not taps:
        raise ValueError(f"need filters of the same number of taps, a multiple of 4, got {taps} and {len(down)}")
    inverse = (beta + SMALLEST).reciprocal()
    if choose("snake", x, alpha, up, down, beta) == "triton":
        from photophone.kernels.fused import snake as fused

        return fused.alias_free(x, alpha, inverse, up, down)
    half = taps // 2
    padded = F.pad(x, (half - 1, half - 1), mode="replicate")
    weight = up.to(x).expand(channels, 1, taps)
    fine = 2 * F.conv_transpose1d(padded, weight, stride=2, groups=channels)
    crop = 2 * (half - 1) + half - 1
    fine = fine[..., crop:fine.shape[-1] - crop]  # (B, C, 2 T)
    fine = fine + inverse[:, None] * torch.sin(alpha[:, None] * fine).square()
    fine = F.pad(fine, (half - 1, half), mode="replicate")
    return F.conv1d(fine, down.to(x).expand(channels, 1, taps), stride=2, groups=channels)
