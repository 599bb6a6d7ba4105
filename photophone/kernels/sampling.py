"""Guidance, temperature, top-k, top-p, min-p and the draw over a vocabulary.

For M rows of V logits of b bytes: guided rows read ``2 V b`` and the noise ``4 V``, and write 8: ``M V (2 b + 4)``
bytes. Filters are thresholds, found by bisection over the bits of the floats: at most 32 sums over the row each for
top-k and for top-p, about ``130 V`` operations a row with both, at 2 to 16 a byte. They read the row again from the
cache of its processor (64 kB at V = 16,384), not from memory. A decode step has few rows, one a processor, so the
latency of these 64 reductions, about 1 microsecond each, is the limit; sorting takes more than ten launches instead.

The kernel equals the reference up to ties and rounding at a threshold: it keeps all tokens that equal the last one kept
by top-p, where a sort keeps some of them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from photophone.core.noise import Noise
from photophone.kernels.dispatch import choose
from photophone.kernels.solver import Guidance, combine_guidance


def filter_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k largest logits ``(..., V)`` and all that equal the k-th, the rest -inf; 0, or k >= V, keeps all.

    Raises:
        ValueError: for a negative k.
    """
    _check_filters(top_k=k)
    if k == 0 or k >= logits.shape[-1]:
        return logits
    return logits.masked_fill(logits < logits.topk(k).values[..., -1:], float("-inf"))


def filter_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the likeliest tokens whose probabilities reach p, the crossing one included (arXiv 1904.09751).

    Logits ``(..., V)``; p in (0, 1], where 1 keeps all; the rest becomes -inf.

    Raises:
        ValueError: for p outside (0, 1].
    """
    _check_filters(top_p=p)
    if p == 1:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True)
    reached = ordered.softmax(dim=-1).cumsum(dim=-1)[..., :-1] > p
    beyond = F.pad(reached, (1, 0))  # shifted: the token that crosses p stays
    return logits.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), float("-inf"))


def filter_min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens with at least p times the probability of the likeliest (arXiv 2407.01082); the rest -inf.

    Logits ``(..., V)``; p in [0, 1], where 0 keeps all.

    Raises:
        ValueError: for p outside [0, 1].
    """
    _check_filters(min_p=p)
    if p == 0:
        return logits
    log_probabilities = logits.log_softmax(dim=-1)
    least = log_probabilities.amax(dim=-1, keepdim=True) + math.log(p)
    return logits.masked_fill(log_probabilities < least, float("-inf"))


def filter_logits(logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
                  min_p: float = 0.0) -> Tensor:
    """Logits ``(..., V)`` over temperature (> 0), then top-k, top-p and min-p in this order."""
    if not temperature > 0:
        raise ValueError(f"temperature must be positive to scale logits, got {temperature}")
    return filter_min_p(filter_top_p(filter_top_k(logits / temperature, top_k), top_p), min_p)


def draw_categorical(logits: Tensor, noise: Noise) -> Tensor:
    """One draw a row from softmax(logits), logits ``(B, ..., V)`` to Long ``(B, ...)``: the Gumbel-max trick.

    The argmax of logits plus Gumbel noise has exactly the softmax's distribution and needs uniform draws only.
    """
    logits = logits.float()
    return (logits + noise.gumbel(*logits.shape)).argmax(dim=-1)


def draw(cond: Tensor, uncond: Tensor | None, guidance: Guidance, noise: Noise, *, temperature: float = 1.0,
         top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> Tensor:
    """One guided and filtered draw a row; temperature 0 takes the likeliest token and draws nothing.

    Args:
        cond, uncond: logits ``(B, ..., V)``, uncond None without guidance.
        guidance: a number, or ``(B,)``.
        noise: uniform draws ``(B, ..., V)`` are taken from it.
        temperature, top_k, top_p, min_p: see :func:`filter_logits`.

    Returns:
        Long ``(B, ...)``.

    Raises:
        ValueError: for settings out of range.
    """
    strength = guidance if isinstance(guidance, Tensor) else None
    if choose("sampling", cond, uncond, strength) == "triton":
        from photophone.kernels.fused import sampling

        _check_filters(top_k, top_p, min_p)
        if temperature == 0:
            return sampling.sample(cond, uncond, guidance, 1.0, 0, 1.0, None, None)
        if not temperature > 0:
            raise ValueError(f"temperature must not be negative, got {temperature}")
        uniform = noise.uniform(*cond.shape).to(cond.device)
        return sampling.sample(cond, uncond, guidance, temperature, top_k, top_p, math.log(min_p) if min_p else None,
                               uniform)
    logits = combine_guidance(cond, uncond, guidance)
    if temperature == 0:
        return logits.argmax(dim=-1)
    return draw_categorical(filter_logits(logits, temperature, top_k, top_p, min_p), noise)


def _check_filters(top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> None:
    if top_k < 0:
        raise ValueError(f"top_k must not be negative, got {top_k}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], got {top_p}")
    if not 0 <= min_p <= 1:
        raise ValueError(f"min_p must lie in [0, 1], got {min_p}")
