"""Triton code of guidance and solver steps; see :mod:`photophone.kernels.solver`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from photophone.kernels.fused.launch import blocks, launch

BLOCK = 1024


@triton.jit
def _strength(guidance, row, per_row, mask, GUIDED: tl.constexpr):
    """Guidance of each row: a number, or an entry of a tensor."""
    if GUIDED == 2:
        return tl.load(guidance + row // per_row, mask=mask, other=0.0).to(tl.float32)
    else:
        return guidance


@triton.jit
def linear_step_kernel(x, cond, uncond, noise, guidance, out, size, D, per_row, cond_n, uncond_n, a, b, c,
                       GUIDED: tl.constexpr, NOISY: tl.constexpr, BLOCK: tl.constexpr):
    """``a x + b v + c noise`` with ``v = uncond + guidance (cond - uncond)``."""
    e = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = e < size
    row = e // D
    d = e % D
    v = tl.load(cond + row * cond_n + d, mask=mask, other=0.0).to(tl.float32)
    if GUIDED > 0:
        u = tl.load(uncond + row * uncond_n + d, mask=mask, other=0.0).to(tl.float32)
        v = u + _strength(guidance, row, per_row, mask, GUIDED) * (v - u)
    result = a * tl.load(x + e, mask=mask, other=0.0).to(tl.float32) + b * v
    if NOISY:
        result += c * tl.load(noise + e, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + e, result, mask=mask)


@triton.jit
def ddpm_step_kernel(x, cond, uncond, noise, guidance, out, mean_out, std_out, size, D, per_row, cond_n, uncond_n, p, q,
                     c0, c1, lowest, highest, strength, GUIDED: tl.constexpr, CLIP: tl.constexpr, NOISY: tl.constexpr,
                     OBSERVED: tl.constexpr, BLOCK: tl.constexpr):
    """One ancestral step with learned variance; rows of ``cond`` hold D channels of noise, then D of variance."""
    e = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = e < size
    row = e // D
    d = e % D
    eps = tl.load(cond + row * cond_n + d, mask=mask, other=0.0).to(tl.float32)
    v = tl.load(cond + row * cond_n + D + d, mask=mask, other=0.0).to(tl.float32)
    if GUIDED > 0:
        u = tl.load(uncond + row * uncond_n + d, mask=mask, other=0.0).to(tl.float32)
        eps = u + _strength(guidance, row, per_row, mask, GUIDED) * (eps - u)
    now = tl.load(x + e, mask=mask, other=0.0).to(tl.float32)
    start = p * now - q * eps
    if CLIP:
        start = tl.minimum(tl.maximum(start, -1.0), 1.0)
    mean = c0 * start + c1 * now
    share = (v + 1.0) * 0.5
    log_std = 0.5 * (share * highest + (1.0 - share) * lowest)
    if OBSERVED:
        tl.store(mean_out + e, mean, mask=mask)
        tl.store(std_out + e, log_std, mask=mask)
    if NOISY:
        mean += strength * tl.exp(log_std) * tl.load(noise + e, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + e, mean, mask=mask)


def _rows(output: Tensor) -> Tensor:
    """(B, ..., C) as rows (M, C), its last axis dense."""
    output = output if output.stride(-1) == 1 else output.contiguous()
    return output.flatten(0, -2)


def _prepared(x: Tensor, cond: Tensor, uncond: Tensor | None, guidance: float | Tensor) -> tuple:
    """Inputs as the kernels want them: x, rows of cond and uncond, guidance and its kind, rows that share one."""
    kind = 0 if uncond is None else 2 if isinstance(guidance, Tensor) else 1
    rows = _rows(cond)
    other = None if uncond is None else _rows(uncond)
    strength = guidance.to(x.device).contiguous() if isinstance(guidance, Tensor) else float(guidance)
    return x.contiguous(), rows, other, strength, kind, max(1, len(rows) // max(1, len(x)))


def linear_step(x: Tensor, cond: Tensor, uncond: Tensor | None, guidance: float | Tensor, a: float, b: float,
                noise: Tensor | None, c: float) -> Tensor:
    """See :func:`photophone.kernels.solver.linear_step`."""
    x, rows, other, strength, kind, per_row = _prepared(x, cond, uncond, guidance)
    out = torch.empty_like(x)
    noise = None if noise is None else noise.contiguous()
    launch(linear_step_kernel, (blocks(x.numel(), BLOCK),), x, rows, other, noise, strength, out, x.numel(),
           x.shape[-1], per_row, rows.stride(0), 0 if other is None else other.stride(0), float(a), float(b), float(c),
           GUIDED=kind, NOISY=noise is not None, BLOCK=BLOCK, num_warps=4)
    return out


def ddpm_step(x: Tensor, cond: Tensor, uncond: Tensor | None, guidance: float | Tensor, numbers: tuple[float, ...],
              noise: Tensor, strength: float, clip: bool,
              observed: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """See :func:`photophone.kernels.solver.ddpm_step`."""
    x, rows, other, scale, kind, per_row = _prepared(x, cond, uncond, guidance)
    out = torch.empty_like(x)
    mean = torch.empty_like(x) if observed else None
    log_std = torch.empty_like(x) if observed else None
    launch(ddpm_step_kernel, (blocks(x.numel(), BLOCK),), x, rows, other, noise.contiguous(), scale, out, mean, log_std,
           x.numel(), x.shape[-1], per_row, rows.stride(0), 0 if other is None else other.stride(0),
           *map(float, numbers), float(strength), GUIDED=kind, CLIP=clip, NOISY=strength != 0, OBSERVED=observed,
           BLOCK=BLOCK, num_warps=4)
    return out, mean, log_std
