"""Guidance, temperature, top-k, top-p, min-p and the draw over a vocabulary.

For M rows of V logits of b bytes: guided rows read ``2 V b`` and the noise ``4 V``, and write 8: ``M V (2 b + 4)``
bytes. Filters are thresholds, found by bisection over the bits of the floats: at most 32 sums over the row each for
top-k and for top-p, about ``130 V`` operations a row with both, at 2 to 16 a byte. They read the row again from the
cache of its processor (64 kB at V = 16,384), not from memory. A decode step has few rows, one a processor, so the
latency of these 64 reductions, about 1 microsecond each, is the limit; sorting takes more than ten launches instead.

There is one rule of top-p, with ties, and it is that of the kernel; the other ``TOP_P_RULES`` are those of official
code, whose sets depend on the order of equal logits, and always take the reference. The kernel equals the reference up
to rounding at a threshold.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from photophone.core.noise import Noise
from photophone.kernels.dispatch import choose
from photophone.kernels.solver import Guidance, combine_guidance

TOP_P_RULES = ("reach", "llamagen", "cosyvoice")
"""What :func:`filter_top_p` keeps, by name."""
REACHED = 1 - 2**-20
"""Of p: a sum of float32 probabilities that misses p by rounding alone reaches it, and one beyond it has not passed
it."""


def filter_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k largest logits ``(..., V)`` and all that equal the k-th, the rest -inf; 0, or k >= V, keeps all.

    Raises:
        ValueError: for a negative k.
    """
    _check_filters(top_k=k)
    if k == 0 or k >= logits.shape[-1]:
        return logits
    return logits.masked_fill(logits < logits.topk(k).values[..., -1:], float("-inf"))


def filter_top_p(logits: Tensor, p: float, rule: str = "reach") -> Tensor:
    """Keep the fewest likeliest tokens whose probabilities reach p (arXiv 1904.09751), and all as likely as the last.

    In other words: a token stays while the tokens that are likelier than it have less than p. With probabilities 0.5,
    0.25 and 0.25, p = 0.5 keeps one token and p = 0.6 all three. Rules of official code, which differ in what happens
    at p and among equals, of which those with lower numbers come first:

    - "llamagen": a token stays while those before it in falling order have at most p: p = 0.5 keeps two;
    - "cosyvoice": while those before it in falling order have less than p: p = 0.5 keeps one, p = 0.6 two.

    Args:
        logits: ``(..., V)``.
        p: in (0, 1]; 1 keeps all.
        rule: one of ``TOP_P_RULES``.

    Returns:
        Logits ``(..., V)``, -inf where they are not kept.

    Raises:
        ValueError: for p outside (0, 1], or an unknown rule.
    """
    _check_filters(top_p=p, top_p_rule=rule)
    if p == 1:
        return logits
    return _filter_ordered(logits, p, 0, rule)


def _filter_ordered(logits: Tensor, p: float, k: int, rule: str) -> Tensor:
    """:func:`filter_top_p`; with k > 0 at most that many tokens in falling order as well."""
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    wide = torch.promote_types(ordered.dtype, torch.float32)
    before = F.pad(ordered.to(wide).softmax(dim=-1).cumsum(dim=-1)[..., :-1], (1, 0))  # mass of what comes before
    if rule == "reach":
        last = (before < p * REACHED).sum(dim=-1, keepdim=True) - 1
        return logits.masked_fill(logits < ordered.gather(-1, last), float("-inf"))
    kept = before <= p / REACHED if rule == "llamagen" else before < p * REACHED
    if k:
        kept &= torch.arange(logits.shape[-1], device=logits.device) < k
    return logits.masked_fill(~torch.zeros_like(kept).scatter(-1, order, kept), float("-inf"))


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
                  min_p: float = 0.0, top_p_rule: str = "reach") -> Tensor:
    """Logits ``(..., V)`` over temperature (> 0), then top-k, top-p and min-p in this order.

    With the rule "cosyvoice" top-k and top-p count together, as there: p is of the probabilities of all tokens, and at
    most k are kept, of equals those with lower numbers.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive to scale logits, got {temperature}")
    logits = logits / temperature
    if top_p_rule == "cosyvoice":
        _check_filters(top_k, top_p)
        return filter_min_p(_filter_ordered(logits, top_p if top_p < 1 else math.inf, top_k, top_p_rule), min_p)
    return filter_min_p(filter_top_p(filter_top_k(logits, top_k), top_p, top_p_rule), min_p)


def draw_categorical(logits: Tensor, noise: Noise) -> Tensor:
    """One draw a row from softmax(logits), logits ``(B, ..., V)`` to Long ``(B, ...)``: the Gumbel-max trick.

    The argmax of logits plus Gumbel noise has exactly the softmax's distribution and needs uniform draws only.
    """
    logits = logits.float()
    return (logits + noise.gumbel(*logits.shape)).argmax(dim=-1)


def draw(cond: Tensor, uncond: Tensor | None, guidance: Guidance, noise: Noise, *, temperature: float = 1.0,
         top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0, top_p_rule: str = "reach") -> Tensor:
    """One guided and filtered draw a row; temperature 0 takes the likeliest token and draws nothing.

    Args:
        cond, uncond: logits ``(B, ..., V)``, uncond None without guidance.
        guidance: a number, or ``(B,)``.
        noise: uniform draws ``(B, ..., V)`` are taken from it.
        temperature, top_k, top_p, min_p, top_p_rule: see :func:`filter_logits`.

    Returns:
        Long ``(B, ...)``.

    Raises:
        ValueError: for settings out of range.
    """
    strength = guidance if isinstance(guidance, Tensor) else None
    _check_filters(top_k, top_p, min_p, top_p_rule)
    by_threshold = top_p_rule == "reach" or (top_p == 1 and (not top_k or top_p_rule == "llamagen"))
    if by_threshold and choose("sampling", cond, uncond, strength) == "triton":
        from photophone.kernels.fused import sampling

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
    return draw_categorical(filter_logits(logits, temperature, top_k, top_p, min_p, top_p_rule), noise)


def _check_filters(top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0, top_p_rule: str = "reach") -> None:
    if top_k < 0:
        raise ValueError(f"top_k must not be negative, got {top_k}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], got {top_p}")
    if not 0 <= min_p <= 1:
        raise ValueError(f"min_p must lie in [0, 1], got {min_p}")
    if top_p_rule not in TOP_P_RULES:
        raise ValueError(f"top_p_rule must be one of {', '.join(TOP_P_RULES)}, got {top_p_rule!r}")
