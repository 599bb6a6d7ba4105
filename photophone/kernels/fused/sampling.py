"""Triton code of filters and draw over the vocabulary; see :mod:`photophone.kernels.sampling`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from photophone.kernels.fused.launch import launch, power_of_two
from photophone.kernels.sampling import REACHED

CONFIGS = {
    "small": {"BLOCK": 1024, "num_warps": 4},
    "middle": {"BLOCK": 2048, "num_warps": 8},
    "large": {"BLOCK": 8192, "num_warps": 16},
}
"""Tile shapes by name; :func:`pick` chooses."""


def pick(vocabulary: int) -> dict[str, int]:
    """The tile for rows of so many logits."""
    name = "small" if vocabulary <= 2048 else "middle" if vocabulary <= 8192 else "large"
    config = CONFIGS[name]
    return {**config, "BLOCK": min(config["BLOCK"], power_of_two(vocabulary))}


@triton.jit
def _scaled(cond, uncond, v, V, strength, temperature, GUIDED: tl.constexpr):
    """Guided logits of places ``v`` over the temperature, -inf outside the vocabulary."""
    z = tl.load(cond + v, mask=v < V, other=0.0).to(tl.float32)
    if GUIDED > 0:
        u = tl.load(uncond + v, mask=v < V, other=0.0).to(tl.float32)
        z = u + strength * (z - u)
    z = z / temperature + 0.0  # no -0.0, whose bits would order it below 0.0
    return tl.where(v < V, z, float("-inf"))


@triton.jit
def _order(z):
    """Integers that are ordered as the floats are."""
    bits = z.to(tl.int32, bitcast=True)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)


@triton.jit
def _mass(cond, uncond, V, strength, temperature, above, top, COUNT: tl.constexpr, GUIDED: tl.constexpr,
          BLOCK: tl.constexpr):
    """Sum over logits whose order is at least ``above``: of ones, or of exp(z - top)."""
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, V, BLOCK):
        v = start + tl.arange(0, BLOCK)
        z = _scaled(cond, uncond, v, V, strength, temperature, GUIDED)
        weight = tl.where(v < V, 1.0, 0.0) if COUNT else tl.exp(z - top)
        total += tl.where(_order(z) >= above, weight, 0.0)
    return tl.sum(total, 0)


@triton.jit
def sample_kernel(cond, uncond, uniform, guidance, indices, V, per_row, cond_m, uncond_m, temperature, top_k, top_p,
                  min_p_log, GUIDED: tl.constexpr, DRAW: tl.constexpr, TOP_K: tl.constexpr, TOP_P: tl.constexpr,
                  MIN_P: tl.constexpr, BLOCK: tl.constexpr):
    """One row a program. All filters keep what lies above a threshold; bisection over float bits finds it exactly."""
    m = tl.program_id(0).to(tl.int64)
    strength = 0.0
    if GUIDED == 1:
        strength = guidance
    if GUIDED == 2:
        strength = tl.load(guidance + m // per_row).to(tl.float32)
    cond += m * cond_m
    if GUIDED > 0:
        uncond += m * uncond_m
    highest = tl.full([BLOCK], float("-inf"), dtype=tl.float32)
    lowest = tl.full([BLOCK], float("inf"), dtype=tl.float32)
    for start in range(0, V, BLOCK):
        v = start + tl.arange(0, BLOCK)
        z = _scaled(cond, uncond, v, V, strength, temperature, GUIDED)
        highest = tl.maximum(highest, z)
        lowest = tl.minimum(lowest, tl.where(v < V, z, float("inf")))
    top = tl.max(highest, 0)
    low = _order(tl.min(lowest, 0))
    top_order = _order(top)
    kept = low
    if TOP_K:  # the largest threshold that at least k logits reach
        high = top_order
        while kept < high:
            middle = kept + (high - kept + 1) // 2
            if _mass(cond, uncond, V, strength, temperature, middle, top, True, GUIDED, BLOCK) >= top_k:
                kept = middle
            else:
                high = middle - 1
    if TOP_P:  # the smallest threshold above which the mass is below p
        limit = top_p * _mass(cond, uncond, V, strength, temperature, kept, top, False, GUIDED, BLOCK)
        high = top_order
        while kept < high:
            middle = kept + (high - kept) // 2
            if _mass(cond, uncond, V, strength, temperature, middle + 1, top, False, GUIDED, BLOCK) < limit:
                high = middle
            else:
                kept = middle + 1
    if MIN_P:
        kept = tl.maximum(kept, _order(top + min_p_log))
    best = tl.full([], float("-inf"), dtype=tl.float32)
    index = tl.zeros([], dtype=tl.int32)
    for start in range(0, V, BLOCK):
        v = start + tl.arange(0, BLOCK)
        z = _scaled(cond, uncond, v, V, strength, temperature, GUIDED)
        z = tl.where(_order(z) >= kept, z, float("-inf"))
        if DRAW:
            u = tl.load(uniform + m * V + v, mask=v < V, other=0.5)
            z += -tl.log(tl.maximum(-tl.log(tl.maximum(u, 1.1754943508222875e-38)), 1.1754943508222875e-38))
        value, place = tl.max(z, 0, return_indices=True)
        index = tl.where(value > best, start + place.to(tl.int32), index)
        best = tl.maximum(value, best)
    tl.store(indices + m, index.to(tl.int64))


def _rows(logits: Tensor) -> Tensor:
    logits = logits if logits.stride(-1) == 1 else logits.contiguous()
    return logits.flatten(0, -2)


def sample(cond: Tensor, uncond: Tensor | None, guidance: float | Tensor, temperature: float, top_k: int, top_p: float,
           min_p_log: float | None, uniform: Tensor | None, config: dict[str, int] | None = None) -> Tensor:
    """Long ``(B, ...)``; see :func:`photophone.kernels.sampling.draw`. ``uniform`` None takes the likeliest."""
    shape = cond.shape[:-1]
    vocabulary = cond.shape[-1]
    rows = _rows(cond)
    other = None if uncond is None else _rows(uncond)
    guided = 0 if uncond is None else 2 if isinstance(guidance, Tensor) else 1
    strength = guidance.to(cond.device).contiguous() if isinstance(guidance, Tensor) else float(guidance)
    indices = torch.empty(len(rows), dtype=torch.long, device=cond.device)
    launch(sample_kernel, (len(rows),), rows, other, None if uniform is None else uniform.contiguous(), strength,
           indices, vocabulary, len(rows) // len(cond), rows.stride(0), 0 if other is None else other.stride(0),
           float(temperature), top_k, float(top_p) * REACHED, 0.0 if min_p_log is None else min_p_log, GUIDED=guided,
           DRAW=uniform is not None, TOP_K=0 < top_k < vocabulary, TOP_P=top_p < 1, MIN_P=min_p_log is not None,
           **(config or pick(vocabulary)))
    return indices.view(shape)
