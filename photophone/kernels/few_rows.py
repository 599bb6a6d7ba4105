"""Linear layers on a few rows: the decode step of a transformer, on the processor.

M rows of ``in`` channels through ``out x in`` weights of b bytes (4, 2 or 1) read ``out in b`` bytes and do
``2 M out in`` operations: M / 2 a byte in float32. Up to about 4 rows the memory is the limit, and torch's own product
reads it at a third of its speed with two rows. Here weights are packed in the order of reading, once, and each is read
once for all rows. A row's result is the same to the last bit whatever other rows there are.

The code is C++ that is compiled on first use (:mod:`photophone.kernels.native`). The reference is plain torch.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from photophone.kernels import dispatch, native

WEIGHTS = ("float32", "bfloat16", "int8")
MAX_ROWS = 64
"""Rows from which on torch's own product is as fast."""


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (out, in) to int8, and the scales float32 (out,): symmetric, the largest of each output is 127."""
    weight = weight.float()
    scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
    return (weight / scale[:, None]).round().to(torch.int8), scale


def round_weight(weight: Tensor, kind: str) -> tuple[Tensor, Tensor | None]:
    """Weights (out, in) in the form of ``kind``, a name of WEIGHTS, and their scales, None but for int8.

    Raises:
        ValueError: for a kind that is not in WEIGHTS.
    """
    if kind not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, got {kind!r}")
    return quantize_rows(weight) if kind == "int8" else (weight.to(getattr(torch, kind)), None)


def linear_reference(x: Tensor, weight: Tensor, scale: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """What :class:`FewRowsWeight` computes: x (..., in) through rounded weights (out, in), in the dtype of x.

    Few float32 rows on the processor are multiplied from the other side, which torch does in two thirds of the time.
    """
    rows = x.shape[:-1].numel()
    if scale is None and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and 1 < rows <= 16:
        y = (weight @ x.flatten(0, -2).T).T.unflatten(0, x.shape[:-1])
    else:
        y = F.linear(x, weight.to(x.dtype))
    if scale is not None:
        y = y * scale.to(y.dtype)
    return y if bias is None else y + bias.to(y.dtype)


class Matrix(ctypes.Structure):
    """Packed weights as the C++ code has them; ``None`` stands for a null pointer."""

    _fields_ = [("weight", ctypes.c_void_p), ("scale", ctypes.c_void_p), ("bias", ctypes.c_void_p),
                ("in_", ctypes.c_int64), ("out", ctypes.c_int64), ("bytes", ctypes.c_int64)]


@cache
def library() -> tuple[ctypes.CDLL | None, str]:
    """The compiled code or None, and why; None too when the environment asks for the reference."""
    if dispatch.MODE == "reference":
        return None, f"{dispatch.ENVIRONMENT}=reference"
    code, reason = native.load("decode")
    if code is not None:
        pointer = ctypes.c_void_p
        code.few_rows_linear.argtypes = [pointer, pointer, pointer, ctypes.c_int64, ctypes.c_int]
        code.llama_block.argtypes = [pointer, pointer, ctypes.c_int]
        code.few_rows_linear.restype = None
        code.llama_block.restype = ctypes.c_int
    return code, reason


@torch.library.custom_op("photophone::few_rows_linear", mutates_args=(), device_types="cpu")
def compiled_linear(x: Tensor, packed: Tensor, scale: Tensor | None, bias: Tensor | None, outputs: int) -> Tensor:
    """The C++ code on x float32 (M, in), contiguous, and packed weights: float32 (M, outputs).

    An operation of torch, so that ``torch.compile`` keeps it in its graph.
    """
    return _run(x, _matrix(packed, scale, bias, x.shape[1], outputs))


@compiled_linear.register_fake
def _(x: Tensor, packed: Tensor, scale: Tensor | None, bias: Tensor | None, outputs: int) -> Tensor:
    return x.new_empty(x.shape[0], outputs)


def _matrix(packed: Tensor, scale: Tensor | None, bias: Tensor | None, channels: int, outputs: int) -> Matrix:
    scale = None if scale is None else scale.data_ptr()
    bias = None if bias is None else bias.data_ptr()
    return Matrix(packed.data_ptr(), scale, bias, channels, outputs, packed.element_size())


def _run(x: Tensor, matrix: Matrix) -> Tensor:
    y = torch.empty(len(x), matrix.out)
    library()[0].few_rows_linear(ctypes.addressof(matrix), x.data_ptr(), y.data_ptr(), len(x), torch.get_num_threads())
    return y


class FewRowsWeight:
    """A matrix (out, in) on the processor, rounded and packed for the C++ code.

    Args:
        weight: float (out, in).
        kind: a name of WEIGHTS.
        bias: float (out,), or None.

    Raises:
        RuntimeError: there is no compiled code; see :func:`library`.
    """

    def __init__(self, weight: Tensor, kind: str, bias: Tensor | None = None) -> None:
        code, reason = library()
        if code is None:
            raise RuntimeError(f"no compiled code for few rows: {reason}")
        lanes = code.packed_lanes()
        block = code.packed_outputs()
        self.outputs, self.channels = weight.shape
        values, self.scale = round_weight(weight.detach(), kind)
        self.bias = None if bias is None else bias.detach().float().contiguous()
        values = F.pad(values, (0, -self.channels % lanes, 0, -self.outputs % block))
        # (out / block, block, in / lanes, lanes) -> (out / block, in / lanes, block, lanes)
        self.packed = values.view(len(values) // block, block, -1, lanes).transpose(1, 2).contiguous()

        self._matrix: Matrix | None = None

    @property
    def matrix(self) -> Matrix:
        """What the C++ code wants to know; valid as long as this object lives."""
        if self._matrix is None:
            self._matrix = _matrix(self.packed, self.scale, self.bias, self.channels, self.outputs)
        return self._matrix

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_matrix": None}  # addresses are worth nothing in a copy

    def unpacked(self) -> Tensor:
        """The rounded weights (out, in) without their scales."""
        return self.packed.transpose(1, 2).flatten(2).flatten(0, 1)[:self.outputs, :self.channels]

    def __call__(self, x: Tensor) -> Tensor:
        """x float (..., in) -> (..., out), computed in float32 and given in the dtype of x; no gradients."""
        rows = x.shape[:-1].numel()
        if rows > MAX_ROWS:
            return linear_reference(x.float(), self.unpacked(), self.scale, self.bias).to(x.dtype)
        x_rows = x.reshape(rows, self.channels).float().contiguous()
        if torch.compiler.is_compiling():
            y = compiled_linear(x_rows, self.packed, self.scale, self.bias, self.outputs)
        else:
            y = _run(x_rows, self.matrix)
        return y.view(*x.shape[:-1], self.outputs).to(x.dtype)
