"""Convolutions over time and linear layers of frames on the processor, with activations and residual in one pass.

A layer of ``in k`` inputs and N outputs does ``2 N in k`` operations for each frame and reads and writes ``4 (in + N)``
bytes: from a few dozen channels on, arithmetic is the limit. Torch reaches it in products of large matrices, but
unfolds convolutions, orders weights anew in each call, and passes over the signal again for padding, activations and
residuals. Here signals stay (B, C, T), nothing is unfolded, and the rest happens while a block lies in the cache. Each
output is summed up in one order, whatever stands beside it, so a batch equals single runs to the last bit.

The code is C++ that is compiled on first use (:mod:`photophone.kernels.native`). The reference is plain torch, and is
taken for gradients, other dtypes and devices, groups, and under ``torch.compile``.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from photophone.kernels import dispatch, native

ACTIVATIONS = {None: 0, "elu": 1, "gelu": 2}
FILLS = {"zeros": 0, "mirrored": 1}
"""What lies outside a signal: zeros, or the signal mirrored at its first and last value."""
FEWEST_FRAMES = 8
"""With fewer most of each vector would be empty, and torch is faster."""
_POINTER, _INT = ctypes.c_void_p, ctypes.c_int64


class Layer(ctypes.Structure):
    """A layer as the C++ code has it; ``None`` stands for a null pointer."""

    _fields_ = [*((name, _POINTER) for name in ("weight", "ordered", "bias", "scale")),
                *((name, _INT) for name in ("out", "in_", "taps", "w_out", "w_in", "kernel", "phases", "stride",
                                            "dilation", "left", "fill", "before", "after"))]


class Signal(ctypes.Structure):
    """What goes through it, and where the results are put."""

    _fields_ = [*((name, _POINTER) for name in ("x", "y", "add")),
                *((name, _INT) for name in ("rows", "length", "made", "steps", "trim", "x_row", "x_channel", "x_time",
                                            "y_row", "y_channel", "y_time", "add_row", "add_channel", "add_time"))]


@cache
def library() -> tuple[ctypes.CDLL | None, str]:
    """The compiled code or None, and why; None too when the environment asks for the reference."""
    if dispatch.MODE == "reference":
        return None, f"{dispatch.ENVIRONMENT}=reference"
    code, reason = native.load("frames")
    if code is not None:
        code.frames_product.argtypes = [_POINTER, _POINTER, ctypes.c_int]
        code.frames_order.argtypes = [_POINTER, _POINTER]
        code.depthwise_norm.argtypes = [_POINTER, _POINTER, ctypes.c_int]
        code.lstm_order.argtypes = [_POINTER, _INT, _POINTER]
        code.lstm.argtypes = [_POINTER]
        for function in (code.frames_product, code.frames_order, code.depthwise_norm, code.lstm_order, code.lstm):
            function.restype = None
        code.frames_mark.argtypes = [_POINTER, _INT]
        code.frames_mark.restype = _INT
    return code, reason


def runs_native(x: Tensor, *weights: Tensor | None) -> bool:
    """Whether the C++ code takes x (B, C, T) and what it meets: plain float32 tensors with values on the processor, of
    FEWEST_FRAMES or more, and no gradient wanted."""
    if x.dim() != 3 or x.shape[2] < FEWEST_FRAMES:
        return False
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu") or torch._C._len_torch_dispatch_stack():
        return False
    for tensor in (x, *weights):
        if tensor is None:
            continue
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu" or tensor.layout != torch.strided:
            return False
        if not tensor.numel() or (tensor.requires_grad and torch.is_grad_enabled()):
            return False
        if type(tensor) not in (Tensor, torch.nn.Parameter) or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            return False
    return library()[0] is not None


def activated(x: Tensor, kind: str | None) -> Tensor:
    """``x`` through an activation of ACTIVATIONS."""
    return x if kind is None else F.elu(x) if kind == "elu" else F.gelu(x)


def conv_reference(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, dilation: int = 1,
                   groups: int = 1, left: int = 0, right: int = 0, fill: str = "zeros", before: str | None = None,
                   after: str | None = None, scale: Tensor | None = None, add: Tensor | None = None) -> Tensor:
    """:func:`frames_conv` in plain torch."""
    x = activated(x, before)
    if fill == "zeros" and left == right:
        y = F.conv1d(x, weight, bias, stride, left, dilation, groups)
    else:
        x = F.pad(x, (left, right), mode="reflect" if fill == "mirrored" else "constant")
        y = F.conv1d(x, weight, bias, stride, 0, dilation, groups)
    return finished(y, after, scale, add)


def finished(y: Tensor, after: str | None, scale: Tensor | None, add: Tensor | None) -> Tensor:
    """``add + scale * after(y)`` of y (B, C, T)."""
    y = activated(y, after)
    if scale is not None and add is not None:
        return torch.addcmul(add, y, scale[:, None])
    y = y if scale is None else y * scale[:, None]
    return y if add is None else y + add


def frames_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, ordered: Tensor | None = None,
                stride: int = 1, dilation: int = 1, left: int = 0, right: int = 0, fill: str = "zeros",
                before: str | None = None, after: str | None = None, scale: Tensor | None = None,
                add: Tensor | None = None, into_add: bool = False) -> Tensor:
    """``add + scale * after(conv(before(x)))``, where :func:`runs_native`.

    Args:
        x: float32 (B, C, T), any strides.
        weight: (C', C, k), or (C', C) for k = 1.
        bias, scale: (C',), or None.
        ordered: :func:`ordered_weight` of the weight, or None: it is ordered for this call.
        stride, dilation: of the convolution.
        left, right: values outside the signal on either side.
        fill: what they are, a name of FILLS; mirrored ones must be fewer than T.
        before, after: activations, see ACTIVATIONS.
        add: (B, C', T'), or None.
        into_add: write the result to ``add``.

    Returns:
        (B, C', T') with T' = (T + left + right - (k - 1) dilation - 1) // stride + 1.
    """
    kernel = 1 if weight.dim() == 2 else weight.shape[2]
    made = (x.shape[2] + left + right - (kernel - 1) * dilation - 1) // stride + 1
    weight = weight.contiguous()
    y = add if into_add else x.new_empty(x.shape[0], weight.shape[0], made)
    layer = Layer(out=weight.shape[0], in_=weight.shape[1], taps=kernel, w_out=weight.stride(0), w_in=kernel,
                  kernel=kernel, phases=1, stride=stride, dilation=dilation, left=left, fill=FILLS[fill])
    return _run(layer, x, y, weight, bias, ordered, made, 0, before, after, scale, add)


def frames_conv_transpose(x: Tensor, weight: Tensor | None, bias: Tensor | None = None, *, stride: int, kernel: int,
                          out: int, made: int, trim: int = 0, ordered: Tensor | None = None,
                          before: str | None = None) -> Tensor:
    """A transposed convolution where :func:`runs_native`: ``conv_transpose(before(x))[..., trim:trim + made]``.

    Args:
        x: float32 (B, C, T), any strides.
        weight: (C, C', k) with k a multiple of the stride, which is above 1; None where ``ordered`` is given.
        bias: (C',), or None.
        stride, kernel, out: k and C'.
        made: outputs that are wanted, at most those there are: (T - 1) stride + k - trim.
        trim: outputs that are cut in front.
        ordered, before: see :func:`frames_conv`.
    """
    taps = kernel // stride
    y = x.new_empty(x.shape[0], out, made)
    layer = _transposed(x.shape[1], out, kernel, stride)
    steps = min(x.shape[2] + taps - 1, -(-(made + trim) // stride))
    return _run(layer, x, y, weight, bias, ordered, steps, trim, before, None, None, None)


def _transposed(channels: int, out: int, kernel: int, stride: int) -> Layer:
    """A transposed convolution: an ordinary one of k / stride taps with a phase for each output of a stride."""
    taps = kernel // stride
    return Layer(out=out, in_=channels, taps=taps, w_out=kernel, w_in=out * kernel, kernel=kernel, phases=stride,
                 stride=1, dilation=1, left=taps - 1, fill=0)


def _run(layer: Layer, x: Tensor, y: Tensor, weight: Tensor | None, bias: Tensor | None, ordered: Tensor | None,
         steps: int, trim: int, before: str | None, after: str | None, scale: Tensor | None,
         add: Tensor | None) -> Tensor:
    weight = None if weight is None else weight.contiguous()
    held = [weight, ordered, *(None if each is None else each.contiguous() for each in (bias, scale))]
    layer.weight, layer.ordered, layer.bias, layer.scale = (None if each is None else each.data_ptr() for each in held)
    layer.before, layer.after = ACTIVATIONS[before], ACTIVATIONS[after]
    signal = Signal(x.data_ptr(), y.data_ptr(), None if add is None else add.data_ptr(), x.shape[0], x.shape[2],
                    y.shape[2], steps, trim, *x.stride(), *y.stride(), *((0, 0, 0) if add is None else add.stride()))
    if y.numel():
        library()[0].frames_product(ctypes.addressof(layer), ctypes.addressof(signal), torch.get_num_threads())
    return y


def ordered_weight(weight: Tensor, transposed_stride: int | None = None) -> Tensor:
    """All weights in the order in which they are read, for ``ordered`` of the functions above; as many numbers.

    Args:
        weight: (C', C, k) or (C', C), or (C, C', k) of a transposed convolution.
        transposed_stride: its stride.
    """
    weight = weight.detach().contiguous()
    kernel = 1 if weight.dim() == 2 else weight.shape[2]
    if transposed_stride is None:
        layer = Layer(out=weight.shape[0], in_=weight.shape[1], taps=kernel, w_out=weight.stride(0), w_in=kernel,
                      kernel=kernel, phases=1)
    else:
        layer = _transposed(weight.shape[0], weight.shape[1], kernel, transposed_stride)
    layer.weight = weight.data_ptr()
    to = torch.empty(weight.numel())
    library()[0].frames_order(ctypes.addressof(layer), to.data_ptr())
    return to


class Depthwise(ctypes.Structure):
    """A depthwise convolution, and the norm of each frame behind it, as the C++ code has them."""

    _fields_ = [*((name, _POINTER) for name in ("weight", "bias", "gain", "shift")),
                *((name, _INT) for name in ("channels", "kernel", "dilation", "left")), ("eps", ctypes.c_float)]


def depthwise_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, gain: Tensor | None, shift: Tensor | None,
                   eps: float, *, left: int = 0, right: int = 0, dilation: int = 1) -> Tensor:
    """A depthwise convolution and a layer normalisation of each frame, where :func:`runs_native`.

    Args:
        x: float32 (B, C, T).
        weight: (C, 1, k) with left + right = (k - 1) dilation, or left alone for chunks with their past in front; None:
            the norm alone.
        bias: (C,), or None.
        gain, shift: (C,), or None for 1 and 0.
        eps: of the norm.
        left, right, dilation: see :func:`frames_conv`.

    Returns:
        (B, C, T').
    """
    kernel = 1 if weight is None else weight.shape[2]
    x = x.contiguous()
    made = x.shape[2] + left + right - (kernel - 1) * dilation
    y = x.new_empty(x.shape[0], x.shape[1], made)
    held = [None if each is None else each.contiguous() for each in (weight, bias, gain, shift)]
    layer = Depthwise(*(None if each is None else each.data_ptr() for each in held), x.shape[1], kernel, dilation, left,
                      eps)
    signal = Signal(x=x.data_ptr(), y=y.data_ptr(), rows=x.shape[0], length=x.shape[2], made=made)
    if y.numel():
        library()[0].depthwise_norm(ctypes.addressof(layer), ctypes.addressof(signal), torch.get_num_threads())
    return y


def mark(x: Tensor) -> int:
    """A number made of a few values of contiguous float32 x, which shows that they were changed."""
    return library()[0].frames_mark(x.data_ptr(), x.numel())


class Recurrent(ctypes.Structure):
    """A layer of an LSTM as the C++ code has it."""

    _fields_ = [*((name, _POINTER) for name in ("weight", "gates", "y")),
                *((name, _INT) for name in ("rows", "steps", "units"))]


def ordered_recurrence(weight: Tensor) -> Tensor:
    """The weights (4 H, H) of an LSTM's state, in the order in which :func:`lstm_layer` reads them.

    Raises:
        ValueError: H is not a multiple of the processor's lanes, :func:`lstm_lanes`.
    """
    units = weight.shape[1]
    if units % lstm_lanes():
        raise ValueError(f"the units of an LSTM must be a multiple of {lstm_lanes()} here, got {units}")
    weight, to = weight.detach().contiguous(), torch.empty(weight.numel())
    library()[0].lstm_order(weight.data_ptr(), units, to.data_ptr())
    return to


def lstm_lanes() -> int:
    """Units that are computed at once."""
    return library()[0].frames_lanes()


def lstm_layer(gates: Tensor, ordered: Tensor) -> Tensor:
    """A layer of an LSTM from zeros, on one thread: each step waits for the one before.

    Args:
        gates: float32 (T, B, 4 H): what the inputs and biases give to the gates i, f, g, o.
        ordered: of :func:`ordered_recurrence`.

    Returns:
        (T, B, H).
    """
    gates = gates.contiguous()
    y = gates.new_empty(*gates.shape[:2], gates.shape[2] // 4)
    layer = Recurrent(ordered.data_ptr(), gates.data_ptr(), y.data_ptr(), gates.shape[1], gates.shape[0], y.shape[2])
    library()[0].lstm(ctypes.addressof(layer))
    return y
