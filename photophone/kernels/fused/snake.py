"""Triton code of the Snake activation; see :mod:`photophone.kernels.snake`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from photophone.kernels.fused.launch import blocks, launch, power_of_two


@triton.jit
def _place(C, T, BLOCK_C: tl.constexpr, BLOCK_T: tl.constexpr):
    """Row, channels and times of a program of the grid (blocks of times, blocks of channels, B)."""
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    return tl.program_id(2).to(tl.int64), c, t, (c < C)[:, None] & (t < T)[None, :]


@triton.jit
def forward_kernel(x, alpha, y, C, T, x_b, x_c, x_t, y_b, y_c, y_t, tiny, BLOCK_C: tl.constexpr,
                   BLOCK_T: tl.constexpr):
    """``x + sin(alpha x)^2 / (alpha + tiny)`` of a tile of channels and times."""
    b, c, t, mask = _place(C, T, BLOCK_C, BLOCK_T)
    place = c.to(tl.int64)[:, None] * x_c + t.to(tl.int64)[None, :] * x_t
    value = tl.load(x + b * x_b + place, mask=mask, other=0.0).to(tl.float32)
    a = tl.load(alpha + c, mask=c < C, other=1.0).to(tl.float32)[:, None]
    s = tl.sin(a * value)
    place = c.to(tl.int64)[:, None] * y_c + t.to(tl.int64)[None, :] * y_t
    tl.store(y + b * y_b + place, (value + s * s / (a + tiny)).to(y.dtype.element_ty), mask=mask)


@triton.jit
def backward_kernel(x, alpha, d_y, d_x, d_alpha, C, T, x_b, x_c, x_t, y_b, y_c, y_t, d_b, d_c, d_t, tiny,
                    BLOCK_C: tl.constexpr, BLOCK_T: tl.constexpr):
    """Gradients of a tile; those of alpha are summed over its times, to ``d_alpha`` (B, blocks of times, C)."""
    b, c, t, mask = _place(C, T, BLOCK_C, BLOCK_T)
    place = c.to(tl.int64)[:, None] * x_c + t.to(tl.int64)[None, :] * x_t
    value = tl.load(x + b * x_b + place, mask=mask, other=0.0).to(tl.float32)
    slope = tl.load(d_y + b * y_b + c.to(tl.int64)[:, None] * y_c + t.to(tl.int64)[None, :] * y_t, mask=mask, other=0.0)
    slope = slope.to(tl.float32)
    a = tl.load(alpha + c, mask=c < C, other=1.0).to(tl.float32)[:, None]
    inverse = 1.0 / (a + tiny)
    s, double = tl.sin(a * value), tl.sin(2.0 * a * value)
    place = c.to(tl.int64)[:, None] * d_c + t.to(tl.int64)[None, :] * d_t
    tl.store(d_x + b * d_b + place, (slope * (1.0 + double * (a * inverse))).to(d_x.dtype.element_ty), mask=mask)
    part = tl.sum(slope * (value * double - s * s * inverse) * inverse, 1)
    tl.store(d_alpha + (b * tl.num_programs(0) + tl.program_id(0)) * C + c, part, mask=c < C)


def _tile(x: Tensor) -> tuple[int, int]:
    """Channels and times of a tile of x (B, C, T): long where memory is dense."""
    if x.stride(1) == 1 and x.stride(2) != 1:
        block_c = min(64, power_of_two(x.shape[1]))
        return block_c, 1024 // block_c
    return 1, min(1024, power_of_two(x.shape[2]))


class FusedSnake(torch.autograd.Function):
    """Snake of x (B, C, T), any strides, with a frequency (C,) for each channel."""

    @staticmethod
    def forward(ctx, x: Tensor, alpha: Tensor, tiny: float) -> Tensor:
        """The activation of x, in its dtype."""
        rows, channels, length = x.shape
        alpha = alpha.contiguous()
        y = torch.empty_like(x)
        block_c, block_t = _tile(x)
        launch(forward_kernel, (blocks(length, block_t), blocks(channels, block_c), rows), x, alpha, y, channels,
               length, *x.stride(), *y.stride(), tiny, BLOCK_C=block_c, BLOCK_T=block_t, num_warps=4)
        ctx.save_for_backward(x, alpha)
        ctx.tiny = tiny
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, d_y: Tensor):
        """Gradients of x and of the frequencies."""
        x, alpha = ctx.saved_tensors
        rows, channels, length = x.shape
        d_x = torch.empty_like(x)
        block_c, block_t = _tile(x)
        parts = blocks(length, block_t)
        d_alpha = x.new_empty(rows, parts, channels, dtype=torch.float32)
        launch(backward_kernel, (parts, blocks(channels, block_c), rows), x, alpha, d_y, d_x, d_alpha, channels,
               length, *x.stride(), *d_y.stride(), *d_x.stride(), ctx.tiny, BLOCK_C=block_c, BLOCK_T=block_t,
               num_warps=4)
        return d_x, d_alpha.sum((0, 1)).to(alpha.dtype), None
