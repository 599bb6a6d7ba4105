"""Norm, modulation, gate and residual: what stands between the linear layers of a block that a condition modulates.

For M rows of W channels of b bytes, with a modulation for each row (with one for many rows it drops out):

- :func:`norm_modulate` reads x, shift and scale and writes y: ``4 M W b`` bytes, about 10 operations a number;
- :func:`gate_residual` reads x, gate and h and writes the sum: ``4 M W b``, 2 operations;
- :func:`gate_residual_norm` does both without reading the sum again: ``7 M W b`` instead of ``8 M W b``;
- the backward pass reads x, h, gate, scale and two gradients and writes d_x, d_h and three sums: ``11 M W b``.

About 1 to 3 operations a byte, so bandwidth is the limit. Eager torch takes 5 kernels and ``13 M W b`` for the first,
2 and ``6 M W b`` for the second. Statistics and sums are float32 in every dtype.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from photophone.kernels.dispatch import choose


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """``x * (1 + scale) + shift``; all broadcast against x ``(..., W)``. Plain torch."""
    return x * (1 + scale) + shift


def norm_modulate(x: Tensor, shift: Tensor | None = None, scale: Tensor | None = None, *,
                  weight: Tensor | None = None, bias: Tensor | None = None, eps: float | None = 1e-5,
                  rms: bool = False, silu: bool = False) -> Tensor:
    """``norm(x) * (1 + scale) + shift``, and SiLU of it on demand; without shift and scale the norm alone.

    Args:
        x: float ``(..., W)``.
        shift, scale: both or none, broadcastable to x.
        weight, bias: ``(W,)`` of the norm, or None.
        eps: of the norm; None, with ``rms`` only: see :func:`default_eps`.
        rms: the root mean square instead of mean and variance; has no bias.
        silu: apply SiLU to the result.

    Returns:
        ``(..., W)`` in the dtype that the formula has in torch, under autocast too.

    Raises:
        ValueError: when only one of shift and scale is given, a bias with ``rms``, or no eps without it.
    """
    _check(shift, scale, bias, rms, eps)
    if _fused(x, None, None, shift, scale, weight, bias):
        return _run(x, None, None, shift, scale, weight, bias, eps, rms, silu)[1]
    return _modulated(_normed(x, weight, bias, eps, rms), shift, scale, silu)


def gate_residual(x: Tensor, gate: Tensor | float, h: Tensor) -> Tensor:
    """``x + gate * h``; x and h ``(..., W)``, gate a number or a tensor broadcastable to x."""
    if _fused(x, gate, h, None, None, None, None):
        return _run(x, gate, h, None, None, None, None, 0.0, None, False)[0]
    return _plus(x, gate, h)


def gate_residual_norm(x: Tensor, gate: Tensor | float, h: Tensor, shift: Tensor | None = None,
                       scale: Tensor | None = None, *, weight: Tensor | None = None, bias: Tensor | None = None,
                       eps: float | None = 1e-5, rms: bool = False) -> tuple[Tensor, Tensor]:
    """:func:`gate_residual`, then :func:`norm_modulate` of the sum: (sum, normalised sum)."""
    _check(shift, scale, bias, rms, eps)
    if _fused(x, gate, h, shift, scale, weight, bias):
        return _run(x, gate, h, shift, scale, weight, bias, eps, rms, False)
    x = _plus(x, gate, h)
    return x, _modulated(_normed(x, weight, bias, eps, rms), shift, scale, False)


def _plus(x: Tensor, gate: Tensor | float, h: Tensor) -> Tensor:
    """``x + gate * h``, in one pass for a number."""
    return x + gate * h if isinstance(gate, Tensor) else torch.add(x, h, alpha=gate)


def default_eps(dtype: torch.dtype) -> float:
    """What ``F.rms_norm`` and ``nn.RMSNorm`` add where no eps is given: the epsilon of the type in which they compute,
    which is float32 for float16 and bfloat16."""
    return torch.finfo(torch.promote_types(dtype, torch.float32)).eps


def _check(shift: Tensor | None, scale: Tensor | None, bias: Tensor | None, rms: bool, eps: float | None) -> None:
    if (shift is None) != (scale is None):
        raise ValueError("give both shift and scale, or neither")
    if rms and bias is not None:
        raise ValueError("an RMS norm has no bias: rms=True needs bias=None")
    if eps is None and not rms:
        raise ValueError("a layer norm has no default eps: give a number, or rms=True")


def _normed(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float | None, rms: bool) -> Tensor:
    if rms:
        return F.rms_norm(x, x.shape[-1:], weight, eps)
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def _modulated(x: Tensor, shift: Tensor | None, scale: Tensor | None, silu: bool) -> Tensor:
    x = x if scale is None else modulate(x, shift, scale)
    return F.silu(x) if silu else x


def _fused(x: Tensor, gate: Tensor | float | None, h: Tensor | None, shift: Tensor | None, scale: Tensor | None,
           weight: Tensor | None, bias: Tensor | None) -> bool:
    gate = gate if isinstance(gate, Tensor) else None
    if choose("adaln", x, gate, h, shift, scale, weight, bias, backward=True) != "triton":
        return False
    from photophone.kernels.fused import adaln

    # the sum has the shape of x: a gate or h that is larger than x is left to torch
    others = [t.shape for t in (gate, h, shift, scale) if t is not None]
    return x.shape[-1] <= adaln.MAX_WIDTH and torch.broadcast_shapes(x.shape, *others) == x.shape


def _run(x: Tensor, gate: Tensor | float | None, h: Tensor | None, shift: Tensor | None, scale: Tensor | None,
         weight: Tensor | None, bias: Tensor | None, eps: float | None, rms: bool | None,
         silu: bool) -> tuple[Tensor, Tensor]:
    """Call the kernel; ``rms`` None is no norm."""
    from photophone.kernels.fused import adaln

    factor = 1.0
    if gate is not None and not isinstance(gate, Tensor):
        factor = float(gate)
        gate = None
    out_type = _promoted(x.dtype, h, gate)
    # torch's formula would give these dtypes; its norms run in float32 under autocast
    result = _promoted(out_type, shift, scale, weight, bias if weight is not None else None)
    if torch.is_autocast_enabled(x.device.type):
        result = torch.float32
    norm = adaln.NO if rms is None else adaln.RMS if rms else adaln.LAYER
    eps = default_eps(out_type) if eps is None else eps
    weight = None if weight is None else weight.contiguous()
    bias = None if bias is None else bias.contiguous()
    return adaln.FusedBlock.apply(x, h, gate, shift, scale, weight, bias, factor, norm, eps, silu, (out_type, result))


def _promoted(dtype: torch.dtype, *tensors: Tensor | None) -> torch.dtype:
    """The dtype of a sum of a tensor of this dtype and others."""
    for tensor in tensors:
        if tensor is not None:
            dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype
