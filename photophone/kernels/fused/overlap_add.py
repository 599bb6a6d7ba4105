"""Triton code of the overlap-add; see :mod:`photophone.kernels.overlap_add`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from photophone.kernels.fused.launch import blocks, launch

BLOCK = 512


@triton.jit
def _envelope(window, shown, s, b, F, SIZE, HOP, shown_b, OVERLAP: tl.constexpr, SHOWN: tl.constexpr):
    """Sum of the squared windows over the samples ``s`` of row b."""
    total = s * 0.0
    last = s // HOP
    for i in tl.static_range(0, OVERLAP):
        f = last - i
        place = s - f * HOP
        there = (f >= 0) & (f < F) & (place < SIZE)
        w = tl.load(window + place, mask=there, other=0.0).to(tl.float32)
        if SHOWN:
            w *= tl.load(shown + b * shown_b + f, mask=there, other=0).to(tl.float32)
        total += w * w
    return total


@triton.jit
def forward_kernel(frames, window, shown, lengths, constant, y, F, SIZE, HOP, TRIM, T, frames_b, frames_l, frames_f,
                   shown_b, smallest, OVERLAP: tl.constexpr, SHOWN: tl.constexpr, DIVIDE: tl.constexpr,
                   BLOCK: tl.constexpr):
    """BLOCK samples of one row a program; each gathers the frames that lie over it."""
    b = tl.program_id(1).to(tl.int64)
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = t < T
    s = t + TRIM
    total = tl.zeros([BLOCK], dtype=tl.float32)
    last = s // HOP
    for i in tl.static_range(0, OVERLAP):
        f = last - i
        place = s - f * HOP
        there = inside & (f >= 0) & (f < F) & (place < SIZE)
        offset = place.to(tl.int64) * frames_l + f.to(tl.int64) * frames_f
        value = tl.load(frames + b * frames_b + offset, mask=there, other=0.0).to(tl.float32)
        total += value * tl.load(window + place, mask=there, other=0.0).to(tl.float32)
    if DIVIDE:
        envelope = _envelope(window, shown, s, b, F, SIZE, HOP, shown_b, OVERLAP, SHOWN)
        total = tl.where(envelope > smallest, total / tl.maximum(envelope, smallest), 0.0)
    else:
        total /= tl.load(constant)
    if SHOWN:
        total = tl.where(t < tl.load(lengths + b), total, 0.0)
    tl.store(y + b * T + t, total.to(y.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(d_y, window, shown, lengths, constant, d_frames, F, SIZE, HOP, TRIM, T, shown_b, smallest,
                    OVERLAP: tl.constexpr, SHOWN: tl.constexpr, DIVIDE: tl.constexpr, BLOCK: tl.constexpr):
    """BLOCK samples of one frame a program: the gradient (B, F, SIZE) is gathered from the signal's."""
    b, f = tl.program_id(2).to(tl.int64), tl.program_id(0)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    s = f * HOP + place
    t = s - TRIM
    there = (place < SIZE) & (t >= 0) & (t < T)
    slope = tl.load(d_y + b * T + t, mask=there, other=0.0).to(tl.float32)
    if DIVIDE:
        envelope = _envelope(window, shown, s, b, F, SIZE, HOP, shown_b, OVERLAP, SHOWN)
        slope = tl.where(envelope > smallest, slope / tl.maximum(envelope, smallest), 0.0)
    else:
        slope /= tl.load(constant)
    if SHOWN:
        slope = tl.where(t < tl.load(lengths + b), slope, 0.0)
    slope *= tl.load(window + place, mask=place < SIZE, other=0.0).to(tl.float32)
    row = d_frames + (b * F + f) * SIZE
    tl.store(row + place, slope.to(d_frames.dtype.element_ty), mask=place < SIZE)


class FusedOverlapAdd(torch.autograd.Function):
    """Windowed frames (B, L, F) added up and normalised: (B, T)."""

    @staticmethod
    def forward(ctx, frames: Tensor, window: Tensor, shown: Tensor | None, lengths: Tensor | None,
                constant: Tensor | None, hop: int, trim: int, total: int, smallest: float) -> Tensor:
        """The signal, see :func:`photophone.kernels.overlap_add.windowed_overlap_add`."""
        rows, size, count = frames.shape
        y = torch.empty(rows, total, dtype=frames.dtype, device=frames.device)
        constants = {"OVERLAP": blocks(size, hop), "SHOWN": shown is not None, "DIVIDE": constant is None,
                     "BLOCK": BLOCK}
        launch(forward_kernel, (blocks(total, BLOCK), rows), frames, window, shown, lengths, constant, y, count, size,
               hop, trim, total, *frames.stride(), 0 if shown is None else shown.stride(0), smallest, **constants,
               num_warps=4)
        ctx.save_for_backward(window, shown, lengths, constant)
        ctx.settings = (frames.shape, frames.dtype, (count, size, hop, trim, total), smallest, constants)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, d_y: Tensor):
        """The gradient of the frames."""
        window, shown, lengths, constant = ctx.saved_tensors
        (rows, size, count), dtype, numbers, smallest, constants = ctx.settings
        d_frames = d_y.new_empty(rows, count, size, dtype=dtype)
        launch(backward_kernel, (count, blocks(size, BLOCK), rows), d_y.contiguous(), window, shown, lengths, constant,
               d_frames, *numbers, 0 if shown is None else shown.stride(0), smallest, **constants, num_warps=4)
        return d_frames.transpose(1, 2), *[None] * 8
