"""Triton code of norm, modulation, gate and residual; see :mod:`photophone.kernels.adaln`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from photophone.kernels.fused.launch import blocks, launch, power_of_two, two_axes

MAX_WIDTH = 4096
"""Wider rows would spill registers in the backward pass."""
TILE = 4096
"""Numbers that a program of the forward pass holds of each tensor."""
BACKWARD_PROGRAMS = 1024
"""About how many programs share the rows of a backward pass: each adds up gradients of the modulation on its own."""
NO = 0  # neither a residual nor a norm
SCALAR = 1  # RESIDUAL in the kernels: the gate is a number
TENSOR = 2  # RESIDUAL: the gate is a tensor
LAYER = 1  # NORM in the kernels: mean and variance
RMS = 2  # NORM: the root mean square


@triton.jit
def forward_kernel(x, h, gate, shift, scale, weight, bias, out, y, mean_out, rstd_out, M, N, W, x_b, x_n, h_b, h_n,
                   gate_b, gate_n, shift_b, shift_n, scale_b, scale_n, factor, eps, RESIDUAL: tl.constexpr,
                   NORM: tl.constexpr, MODULATE: tl.constexpr, WEIGHT: tl.constexpr, BIAS: tl.constexpr,
                   SILU: tl.constexpr, SAVE: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_W: tl.constexpr):
    """``out = x + gate * h`` and ``y = silu?(modulate(norm(out)))`` of BLOCK_R rows a program."""
    r = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    w = tl.arange(0, BLOCK_W)[None, :]
    mask = (r < M)[:, None] & (w < W)
    b = (r // N).to(tl.int64)[:, None]
    n = (r % N).to(tl.int64)[:, None]
    row = r.to(tl.int64)[:, None] * W
    value = tl.load(x + b * x_b + n * x_n + w, mask=mask, other=0.0).to(tl.float32)
    if RESIDUAL > 0:
        update = tl.load(h + b * h_b + n * h_n + w, mask=mask, other=0.0).to(tl.float32)
        if RESIDUAL == 2:
            update *= tl.load(gate + b * gate_b + n * gate_n + w, mask=mask, other=0.0).to(tl.float32)
        else:
            update *= factor
        value += update
        tl.store(out + row + w, value.to(out.dtype.element_ty), mask=mask)
    if NORM > 0:
        if RESIDUAL > 0:  # the norm sees what the next layer will read
            value = value.to(out.dtype.element_ty).to(tl.float32)
        if NORM == 1:
            mean = tl.sum(value, 1) / W
            value = tl.where(mask, value - mean[:, None], 0.0)
            if SAVE:
                tl.store(mean_out + r, mean, mask=r < M)
        rstd = 1.0 / tl.sqrt(tl.sum(value * value, 1) / W + eps)
        if SAVE:
            tl.store(rstd_out + r, rstd, mask=r < M)
        value *= rstd[:, None]
        if WEIGHT:
            value *= tl.load(weight + w, mask=w < W, other=0.0).to(tl.float32)
        if BIAS:
            value += tl.load(bias + w, mask=w < W, other=0.0).to(tl.float32)
        if MODULATE:
            value *= 1.0 + tl.load(scale + b * scale_b + n * scale_n + w, mask=mask, other=0.0).to(tl.float32)
            value += tl.load(shift + b * shift_b + n * shift_n + w, mask=mask, other=0.0).to(tl.float32)
        if SILU:
            value *= tl.sigmoid(value)
        tl.store(y + row + w, value.to(y.dtype.element_ty), mask=mask)


@triton.jit
def _read(place, mask):
    return tl.load(place, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _silu_slope(x):
    s = tl.sigmoid(x)
    return s * (1.0 + x * (1.0 - s))


@triton.jit
def backward_kernel(x, h, gate, shift, scale, weight, bias, mean_in, rstd_in, d_out, d_y, d_x, d_h, d_shift, d_scale,
                    d_gate, d_weight, d_bias, R, N, W, ROWS, x_b, x_n, h_b, h_n, gate_b, gate_n, shift_b, shift_n,
                    scale_b, scale_n, factor, RESIDUAL: tl.constexpr, NORM: tl.constexpr, MODULATE: tl.constexpr,
                    WEIGHT: tl.constexpr, BIAS: tl.constexpr, SILU: tl.constexpr, GRADIENT: tl.constexpr,
                    PER_ROW: tl.constexpr, BLOCK_W: tl.constexpr):
    """Gradients of ROWS of the R rows of a group; x is what was normalised.

    Sums over the rows of a program go to (groups, programs of a group, W), but with PER_ROW the gradients of shift,
    scale and gate, which are those of single rows, to (R, W).
    """
    group, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    w = tl.arange(0, BLOCK_W)
    mask = w < W
    zero = tl.zeros([BLOCK_W], dtype=tl.float32)
    sum_shift, sum_scale, sum_gate, sum_weight, sum_bias = zero, zero, zero, zero, zero
    gain = _read(weight + w, mask) if WEIGHT else zero + 1.0
    base = _read(bias + w, mask) if BIAS else zero
    for i in range(part * ROWS, tl.minimum(part * ROWS + ROWS, R)):
        r = group * R + i
        b, n, row = r // N, r % N, r * W + w
        total = _read(d_out + row, mask) if GRADIENT else zero
        if NORM > 0:
            unit = _read(x + b * x_b + n * x_n + w, mask)
            rstd = tl.load(rstd_in + r)
            if NORM == 1:
                unit -= tl.load(mean_in + r)
            unit = tl.where(mask, unit * rstd, 0.0)
            slope = _read(d_y + row, mask)
            normed = unit * gain + base
            stretch = 1.0 + (_read(scale + b * scale_b + n * scale_n + w, mask) if MODULATE else zero)
            if SILU:
                inner = normed * stretch
                if MODULATE:
                    inner += _read(shift + b * shift_b + n * shift_n + w, mask)
                slope *= _silu_slope(inner)
            if MODULATE:
                if PER_ROW:
                    tl.store(d_shift + row, slope.to(d_shift.dtype.element_ty), mask=mask)
                    tl.store(d_scale + row, (slope * normed).to(d_scale.dtype.element_ty), mask=mask)
                else:
                    sum_shift += slope
                    sum_scale += slope * normed
            slope *= stretch
            sum_weight += slope * unit
            sum_bias += slope
            slope *= gain
            drift = unit * (tl.sum(slope * unit, 0) / W)
            if NORM == 1:
                drift += tl.sum(slope, 0) / W
            total += (slope - drift) * rstd
        tl.store(d_x + row, total.to(d_x.dtype.element_ty), mask=mask)
        strength = zero + factor
        if RESIDUAL == 2:
            strength = _read(gate + b * gate_b + n * gate_n + w, mask)
            part_gate = total * _read(h + b * h_b + n * h_n + w, mask)
            if PER_ROW:
                tl.store(d_gate + row, part_gate.to(d_gate.dtype.element_ty), mask=mask)
            else:
                sum_gate += part_gate
        if RESIDUAL > 0:
            tl.store(d_h + row, (total * strength).to(d_h.dtype.element_ty), mask=mask)
    place = (group * tl.num_programs(1) + part) * W + w
    if MODULATE and not PER_ROW:
        tl.store(d_shift + place, sum_shift, mask=mask)
        tl.store(d_scale + place, sum_scale, mask=mask)
    if RESIDUAL == 2 and not PER_ROW:
        tl.store(d_gate + place, sum_gate, mask=mask)
    if WEIGHT:
        tl.store(d_weight + place, sum_weight, mask=mask)
    if BIAS:
        tl.store(d_bias + place, sum_bias, mask=mask)


def _strides(x: Tensor | None) -> tuple[int, int]:
    return (0, 0) if x is None else x.stride()[:2]


def _warps(block_w: int, rows: int) -> int:
    return min(16, max(1, block_w * rows // 512))


class FusedBlock(torch.autograd.Function):
    """``out = x + gate * h``, ``y = silu?(modulate(norm(out)))``, and their gradients."""

    @staticmethod
    def forward(ctx, x: Tensor, h: Tensor | None, gate: Tensor | None, shift: Tensor | None, scale: Tensor | None,
                weight: Tensor | None, bias: Tensor | None, factor: float, norm: int, eps: float, silu: bool,
                dtypes: tuple[torch.dtype, torch.dtype]) -> tuple[Tensor | None, Tensor | None]:
        """The gated sum and the modulated norm of it, see :class:`FusedBlock`."""
        shape = x.shape
        width = x.shape[-1]
        residual = NO if h is None else SCALAR if gate is None else TENSOR
        seen = [None if t is None else two_axes(t, shape) for t in (x, h, gate, shift, scale)]
        rows = x.numel() // width
        count = seen[0].shape[1]
        out = x.new_empty(shape, dtype=dtypes[0]) if residual else None
        y = x.new_empty(shape, dtype=dtypes[1]) if norm else None
        save = norm != NO and any(ctx.needs_input_grad)
        mean = x.new_empty(rows, dtype=torch.float32) if save else None
        rstd = x.new_empty(rows, dtype=torch.float32) if save else None
        block_w = power_of_two(width)
        block_r = max(1, min(TILE // block_w, 16))
        launch(forward_kernel, (blocks(rows, block_r),), *seen, weight, bias, out, y, mean, rstd, rows, count, width,
               *(stride for t in seen for stride in _strides(t)), factor, eps, RESIDUAL=residual, NORM=norm,
               MODULATE=shift is not None, WEIGHT=weight is not None, BIAS=bias is not None, SILU=silu, SAVE=save,
               BLOCK_R=block_r, BLOCK_W=block_w, num_warps=_warps(block_w, block_r))
        if any(ctx.needs_input_grad):
            normed = out if residual else x
            ctx.save_for_backward(normed if norm else None, h, gate, shift, scale, weight, bias, mean, rstd)
            ctx.settings = (shape, x.dtype, residual, norm, silu, factor)
            ctx.set_materialize_grads(False)
        return out, y

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor | None, d_y: Tensor | None):
        """Gradients of all tensors of :meth:`forward`."""
        shape, dtype, residual, norm, silu, factor = ctx.settings
        normed, h, gate, shift, scale, weight, bias, mean, rstd = ctx.saved_tensors
        if d_y is None:  # nobody used the normalised output
            norm = NO
            shift = None
            scale = None
            weight = None
            bias = None
        if d_out is None and d_y is None:
            return (None,) * 12
        width = shape[-1]
        rows = shape.numel() // shape[-1]
        count = shape[-2] if len(shape) > 1 else 1
        first = d_y if d_out is None else d_out
        seen = [None if t is None else two_axes(t, shape) for t in (normed, h, gate, shift, scale)]
        # rows with one modulation are a group: their gradients are added up, each program's part first
        share = _shared_rows([t for t in seen[2:] if t is not None], rows, count)
        per_row = share == 1
        share = rows if per_row else share
        groups = rows // share
        size = blocks(share, max(1, BACKWARD_PROGRAMS // groups))
        parts = blocks(share, size)

        def sums(like: Tensor | None, row: bool = False) -> Tensor | None:
            if like is None:
                return None
            return like.new_empty(shape) if row else first.new_empty(groups, parts, width, dtype=torch.float32)

        d_x = first.new_empty(shape, dtype=dtype)
        d_h = None if h is None else h.new_empty(shape)
        shared = [sums(t, per_row) for t in (shift, scale, gate)]
        channels = [sums(t) for t in (weight, bias)]
        launch(backward_kernel, (groups, parts), *seen, weight, bias, mean, rstd,
               *(None if t is None else t.contiguous() for t in (d_out, d_y)), d_x, d_h, *shared, *channels, share,
               count, width, size, *(stride for t in seen for stride in _strides(t)), factor, RESIDUAL=residual,
               NORM=norm, MODULATE=shift is not None, WEIGHT=weight is not None, BIAS=bias is not None, SILU=silu,
               GRADIENT=d_out is not None, PER_ROW=per_row, BLOCK_W=power_of_two(width),
               num_warps=_warps(power_of_two(width), 1))
        d_shift, d_scale, d_gate = [None if t is None else _reduced(part, t, shape, per_row)
                                    for part, t in zip(shared, (shift, scale, gate))]
        d_weight, d_bias = [None if t is None else part.sum((0, 1)).to(t.dtype)
                            for part, t in zip(channels, (weight, bias))]
        d_h = None if h is None else d_h.sum_to_size(h.shape)
        return d_x, d_h, d_gate, d_shift, d_scale, d_weight, d_bias, None, None, None, None, None


def _shared_rows(modulation: list[Tensor], rows: int, count: int) -> int:
    """Neighbouring rows that have one modulation in common, from the zero strides of (B, N, W) views."""
    if all(t.stride(1) == 0 or t.shape[1] == 1 for t in modulation):
        return rows if all(t.stride(0) == 0 or t.shape[0] == 1 for t in modulation) else count
    return 1


def _reduced(sums: Tensor, like: Tensor, shape: torch.Size, per_row: bool) -> Tensor:
    """Gradients of all rows, or sums (groups, parts, W), as the gradient of a tensor broadcast to ``shape``."""
    if not per_row:
        sums = sums.sum(1)  # (groups, W)
        sums = sums.view(*[1] * (len(shape) - 1), -1) if len(sums) == 1 else sums.view(*shape[:-2], 1, shape[-1])
    return sums.sum_to_size(like.shape).to(like.dtype)
