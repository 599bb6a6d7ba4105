"""Linear layers on a few rows: the decode step of a transformer, on the processor.

M rows of ``in`` channels through ``out x in`` weights of b bytes (4, 2, 1 or 9/16) read ``out in b`` bytes and do
``2 M out in`` operations: M / 2 a byte in float32. Up to about 4 rows the memory is the limit, and torch's own product
reads it at a third of its speed with two rows. Here weights are packed in the order of reading, once, and each is read
once for all rows. A row's result is the same to the last bit whatever other rows there are. What an 8-bit or 4-bit
weight costs beside its products is one mask and one conversion for each vector of them.

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
from photophone.kernels.large_pages import in_large_pages

WEIGHTS = ("float32", "bfloat16", "int8", "int4")
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1, "int4": 0.5 + 2 / 32}
"""Of a weight, with its share of a scale where groups of weights have one."""
GROUP = 32
"""Neighbouring channels of an output that share a scale in int4."""
SCALES = torch.linspace(0.8, 1.1, 7)
"""Scales of a group in int4 that are tried, over the one whose levels -7 to 7 reach its largest weight."""
MAX_ROWS = 64
"""Rows from which on torch's own product is as fast."""
WEIGHTS_AT_A_TIME = 2**20
"""That are rounded to int4 together: what is tried for them stays in the processor's caches."""


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (out, in) to int8, and the scales float32 (out,): symmetric, the largest of each output is 127."""
    weight = weight.float()
    scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
    return (weight / scale[:, None]).round().to(torch.int8), scale


def quantize_groups(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (out, in) to int8 from -8 to 7, and scales bfloat16 (out, groups of GROUP channels).

    Of some scales a group gets the one with the least squared error; the sign of the scale is free, so that the level
    -8, which has no counterpart, can serve either end. Zero stays zero.
    """
    groups = F.pad(weight.float(), (0, -weight.shape[1] % GROUP)).unflatten(1, (-1, GROUP))  # (out, groups, GROUP)
    parts = [_quantize(part) for part in groups.split(max(1, WEIGHTS_AT_A_TIME // max(1, groups[0].numel())))]
    values = torch.cat([part[0] for part in parts]).flatten(1)[:, :weight.shape[1]]
    return values, torch.cat([part[1] for part in parts])


def _quantize(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Groups (..., GROUP) to int8 and bfloat16 (...)."""
    extreme = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    values = torch.zeros_like(groups, dtype=torch.int8)
    scales = torch.zeros_like(extreme, dtype=torch.bfloat16)
    least = torch.full_like(extreme, torch.inf)
    for factor in SCALES:
        scale = (extreme / -7 * factor).bfloat16()
        tried = scale.float()
        levels = (groups / tried).nan_to_num_(0, 7, -8).round_().clamp_(-8, 7)
        error = (levels * tried - groups).square_().sum(-1, keepdim=True)
        better = error < least
        values = torch.where(better, levels.to(torch.int8), values)
        scales = torch.where(better, scale, scales)
        least = torch.where(better, error, least)
    return values, scales[..., 0]


def round_weight(weight: Tensor, kind: str) -> tuple[Tensor, Tensor | None]:
    """Weights (out, in) in the form of ``kind``, a name of WEIGHTS, and their scales.

    Returns:
        Float32 or bfloat16 and None; int8 and float32 (out,) for int8; int8 from -8 to 7 and bfloat16
        (out, groups of GROUP channels) for int4.

    Raises:
        ValueError: for a kind that is not in WEIGHTS.
    """
    if kind not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, got {kind!r}")
    if kind == "int4":
        return quantize_groups(weight)
    return quantize_rows(weight) if kind == "int8" else (weight.to(getattr(torch, kind)), None)


def scaled(values: Tensor, scale: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """What rounded weights (out, in) stand for, from their scales (out,) or (out, groups)."""
    if scale.ndim == 1:
        return values.to(dtype) * scale.to(dtype)[:, None]
    return values.to(dtype) * scale.to(dtype).repeat_interleave(GROUP, dim=1)[:, :values.shape[1]]


def linear_reference(x: Tensor, weight: Tensor, scale: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """What :class:`FewRowsWeight` computes: x (..., in) through rounded weights (out, in), in the dtype of x.

    Few float32 rows on the processor are multiplied from the other side, which torch does in two thirds of the time.
    """
    if scale is not None and scale.ndim == 2:
        weight, scale = scaled(weight, scale, x.dtype), None
    rows = x.shape[:-1].numel()
    if scale is None and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and 1 < rows <= 16:
        y = (weight @ x.flatten(0, -2).T).T.unflatten(0, x.shape[:-1])
    else:
        y = F.linear(x, weight.to(x.dtype))
    if scale is not None:
        y = y * scale.to(y.dtype)
    return y if bias is None else y + bias.to(y.dtype)


STORAGE = (torch.float32, torch.bfloat16, torch.int8, torch.uint8)
"""How packed weights of each of WEIGHTS are kept: in a uint8 lie two of int4."""


class Matrix(ctypes.Structure):
    """Packed weights as the C++ code has them; ``None`` stands for a null pointer."""

    _fields_ = [("weight", ctypes.c_void_p), ("scale", ctypes.c_void_p), ("bias", ctypes.c_void_p),
                ("in_", ctypes.c_int64), ("out", ctypes.c_int64), ("kind", ctypes.c_int64)]


@cache
def library() -> tuple[ctypes.CDLL | None, str]:
    """The compiled code or None, and why; None too when the environment asks for the reference."""
    if dispatch.MODE == "reference":
        return None, f"{dispatch.ENVIRONMENT}=reference"
    code, reason = native.load("decode")
    return None if code is None else declare(code), reason


def declare(code: ctypes.CDLL) -> ctypes.CDLL:
    """The compiled code, told what its functions take and give."""
    pointer = ctypes.c_void_p
    code.few_rows_linear.argtypes = [pointer, pointer, pointer, ctypes.c_int64, ctypes.c_int]
    code.unpack.argtypes = [pointer, pointer, ctypes.c_int]
    code.llama_blocks.argtypes = [pointer, ctypes.c_int64, pointer, ctypes.c_int]
    code.few_rows_linear.restype = None
    code.unpack.restype = None
    code.llama_blocks.restype = ctypes.c_int
    return code


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
    return Matrix(packed.data_ptr(), scale, bias, channels, outputs, STORAGE.index(packed.dtype))


def _run(x: Tensor, matrix: Matrix) -> Tensor:
    y = torch.empty(len(x), matrix.out)
    library()[0].few_rows_linear(ctypes.addressof(matrix), x.data_ptr(), y.data_ptr(), len(x), torch.get_num_threads())
    return y


def _padded(values: Tensor, rows: int, columns: int) -> Tensor:
    """A matrix with zeros behind it, up to multiples of ``rows`` and ``columns``; itself where none are missing."""
    missing = -len(values) % rows, -values.shape[1] % columns
    return F.pad(values, (0, missing[1], 0, missing[0])) if any(missing) else values.contiguous()


def _pack(values: Tensor, dtype: torch.dtype, lanes: int, block: int) -> Tensor:
    """Weights (out, in) in the order of ``Matrix`` in ``native/decode.cpp``: (blocks, tiles, block, lanes,
    parts of a word)."""
    parts = 4 // dtype.itemsize
    values = _padded(values, block, parts * lanes)
    ordered = values.view(len(values) // block, block, -1, parts, lanes).permute(0, 2, 1, 4, 3)
    packed = in_large_pages(ordered, dtype)
    if parts == 4:
        packed.view(torch.uint8)[..., :3] ^= 128  # all but the highest part of a word are read without sign
    return packed


def _pack_nibbles(values: Tensor, scale: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """The same for int4: uint8 (blocks, tiles, words of a group, block, groups of a tile, 4), two weights in each; and
    scales (blocks, tiles, block, groups of a tile)."""
    groups, nibbles = 8, 8  # of a tile, and of a word
    values = _padded(values, block, groups * GROUP)
    words = values.view(len(values) // block, block, -1, groups, GROUP // nibbles, nibbles).permute(0, 2, 4, 1, 3, 5)
    words = words.contiguous()
    words[..., :nibbles - 1] += 8
    packed = (words[..., ::2] & 15).to(torch.uint8) | (words[..., 1::2].to(torch.uint8) << 4)
    scale = F.pad(scale, (0, values.shape[1] // GROUP - scale.shape[1], 0, len(values) - len(scale)))
    scale = scale.view(len(values) // block, block, -1, groups).transpose(1, 2)
    return in_large_pages(packed), in_large_pages(scale)


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
        self.outputs, self.channels = weight.shape
        weight = weight.detach()
        rounded = kind in ("int8", "int4")  # other kinds are cast while they are packed: no copy in between
        values, scale = round_weight(weight, kind) if rounded else (weight, None)
        self.bias = None if bias is None else bias.detach().float().contiguous()
        self.packed, self.scale = (_pack_nibbles(values, scale, code.packed_outputs()) if kind == "int4" else
                                   (_pack(values, getattr(torch, kind), code.packed_lanes(), code.packed_outputs()),
                                    scale))
        self._matrix: Matrix | None = None

    @property
    def matrix(self) -> Matrix:
        """What the C++ code wants to know; valid as long as this object lives."""
        if self._matrix is None:
            self._matrix = _matrix(self.packed, self.scale, self.bias, self.channels, self.outputs)
        return self._matrix

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_matrix": None}  # addresses are worth nothing in a copy

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.packed = in_large_pages(self.packed)

    def unpacked(self) -> Tensor:
        """The rounded weights float32 (out, in), times their scales."""
        weight = torch.empty(self.outputs, self.channels)
        library()[0].unpack(ctypes.addressof(self.matrix), weight.data_ptr(), torch.get_num_threads())
        return weight

    def __call__(self, x: Tensor) -> Tensor:
        """x float (..., in) -> (..., out), computed in float32 and given in the dtype of x; no gradients."""
        rows = x.shape[:-1].numel()
        if rows > MAX_ROWS:
            return F.linear(x.float(), self.unpacked(), self.bias).to(x.dtype)
        x_rows = x.reshape(rows, self.channels).float().contiguous()
        if torch.compiler.is_compiling():
            y = compiled_linear(x_rows, self.packed, self.scale, self.bias, self.outputs)
        else:
            y = _run(x_rows, self.matrix)
        return y.view(*x.shape[:-1], self.outputs).to(x.dtype)
