"""Guidance and one solver step of a continuous head in one pass over the tokens.

For N numbers of state in float32 and network outputs of b bytes: reads x, cond, uncond and noise, writes x: with
guidance ``N (4 + 2 b + 4 + 4)`` bytes for an Euler-Maruyama step, ``N (4 + 3 b + 4 + 4)`` for DDPM, whose variance is
one more output, and ``N (8 + 2 b)`` for an Euler step. 5 to 15 operations a number, below 1 a byte: bandwidth is the
limit, and for the few thousand numbers of a decode step the launch itself, which is why one kernel replaces 6 to 20.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from photophone.kernels.dispatch import choose

Guidance = float | Tensor


def combine_guidance(cond: Tensor, uncond: Tensor | None, guidance: Guidance) -> Tensor:
    """Classifier-free guidance ``uncond + guidance * (cond - uncond)`` (arXiv 2207.12598); cond when uncond is None."""
    if uncond is None:
        return cond
    if isinstance(guidance, Tensor):
        guidance = guidance.to(cond).reshape(-1, *[1] * (cond.ndim - 1))  # (B,) -> (B, 1, ...)
    return uncond + guidance * (cond - uncond)


def linear_step(x: Tensor, cond: Tensor, uncond: Tensor | None, guidance: Guidance, a: float, b: float,
                noise: Tensor | None = None, c: float = 0.0) -> Tensor:
    """``a x + b v + c noise`` with the guided velocity v: an Euler step has a = 1 and no noise.

    Args:
        x, noise: float ``(B, ..., D)``.
        cond, uncond: outputs of the network for x, uncond None without guidance.
        guidance: a number, or ``(B,)``.
        a, b, c: of the step; for Euler-Maruyama see :func:`photophone.layers.flow.maruyama_coefficients`.

    Returns:
        ``(B, ..., D)``, in the dtype of x.
    """
    strength = guidance if isinstance(guidance, Tensor) else None
    if _same(x, cond, uncond, noise) and choose("solver", x, cond, uncond, noise, strength) == "triton":
        from photophone.kernels.fused import solver

        return solver.linear_step(x, cond, uncond, guidance, a, b, noise, c)
    result = (x if a == 1 else a * x) + b * combine_guidance(cond, uncond, guidance)
    return (result if noise is None else result + c * noise).to(x.dtype)


def ddpm_step(x: Tensor, cond: Tensor, uncond: Tensor | None, guidance: Guidance, numbers: tuple[float, ...],
              noise: Tensor, strength: float, *, clip: bool = False,
              observe: Callable[[Tensor, Tensor], None] | None = None) -> Tensor:
    """One step of DDPM with learned variance (arXiv 2102.09672); only the noise is guided, as in MAR.

    Args:
        x, noise: float ``(B, ..., D)``.
        cond, uncond: outputs ``(B, ..., 2 D)``: noise, then the variance's place v between its bounds.
        guidance: a number, or ``(B,)``.
        numbers: (p, q, c0, c1, lowest, highest): the predicted start is ``p x - q eps``, the mean ``c0 start + c1 x``,
            and the logarithm of the variance lies between the last two.
        strength: factor on the noise: the temperature, and 0 at the last step.
        clip: clamp the predicted start to [-1, 1].
        observe: called with the mean and the logarithm of the standard deviation.

    Returns:
        ``(B, ..., D)``.
    """
    number = guidance if isinstance(guidance, Tensor) else None
    fits = x.shape == noise.shape and cond.shape == (*x.shape[:-1], 2 * x.shape[-1]) and x.dtype == torch.float32
    if fits and choose("solver", x, cond, uncond, noise, number) == "triton":
        from photophone.kernels.fused import solver

        x, mean, log_std = solver.ddpm_step(x, cond, uncond, guidance, numbers, noise, strength, clip,
                                            observe is not None)
        if observe is not None:
            observe(mean, log_std)
        return x
    p, q, c0, c1, lowest, highest = numbers
    eps, v = cond.chunk(2, dim=-1)
    other = None if uncond is None else uncond.chunk(2, dim=-1)[0]
    start = p * x - q * combine_guidance(eps, other, guidance)
    start = start.clamp(-1, 1) if clip else start
    fraction = (v + 1) / 2
    mean = c0 * start + c1 * x
    log_std = 0.5 * (fraction * highest + (1 - fraction) * lowest)
    if observe is not None:
        observe(mean, log_std)
    return mean + strength * torch.exp(log_std) * noise


def _same(x: Tensor, *others: Tensor | None) -> bool:
    return x.dtype == torch.float32 and all(t is None or t.shape == x.shape for t in others)
