"""Convolutions over time and linear layers of frames: the one place that chooses between torch and the code of
:mod:`photophone.kernels.frames`, for inference in float32 on the processor.

The functions take layers of torch, weight-normalised or not, of whatever family. Weights are put in order, and their
norms folded, in the first call; that copy is kept beside the layer, and made again when the parameters change.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from photophone.kernels.frames import (
    FEWEST_FRAMES,
    activated,
    conv_reference,
    finished,
    frames_conv,
    frames_conv_transpose,
    lstm_lanes,
    lstm_layer,
    mark,
    ordered_recurrence,
    ordered_weight,
    runs_native,
)

FEW_ROWS = 3
"""Up to so many, a step of an LSTM waits for its weights; torch multiplies more rows as fast."""


class Kept(NamedTuple):
    """Ordered weights, and what they were made of: parameters, their versions, and marks of their values."""

    sources: tuple[weakref.ref, ...]
    versions: tuple[tuple[int, int], ...]
    ordered: Tensor


_kept: weakref.WeakKeyDictionary[nn.Module, dict[str, Kept]] = weakref.WeakKeyDictionary()


def _sources(layer: nn.Module, name: str = "weight") -> tuple[Tensor, ...]:
    """The parameters that make the weight of a layer."""
    if parametrize.is_parametrized(layer, name):
        made = layer.parametrizations[name]
        return tuple(getattr(made, part) for part in ("original0", "original1", "original") if hasattr(made, part))
    return (getattr(layer, name),)


def _ordered(layer: nn.Module, sources: tuple[Tensor, ...], make: Callable[[Tensor], Tensor],
             name: str = "weight") -> Tensor | None:
    """The kept weights of a layer, made if there are none or the parameters changed; None for weights that torch does
    not watch.

    A change in place through ``.data``, which torch does not count, is seen where it meets one of the marked values.
    """
    if any(source.is_inference() or not source.is_contiguous() for source in sources):
        return None
    versions = tuple((source._version, source.data_ptr(), mark(source)) for source in sources)
    kept = _kept.setdefault(layer, {}).get(name)
    if kept is not None and kept.versions == versions and all(old() is new for old, new in zip(kept.sources, sources)):
        return kept.ordered
    ordered = make(getattr(layer, name))
    _kept[layer][name] = Kept(tuple(map(weakref.ref, sources)), versions, ordered)
    return ordered


def convolve(x: Tensor, layer: nn.Conv1d | nn.Linear, *, left: int = 0, right: int = 0, fill: str = "zeros",
             before: str | None = None, after: str | None = None, scale: Tensor | None = None,
             add: Tensor | None = None, into_add: bool = False) -> Tensor:
    """``add + scale * after(layer(before(x)))`` with values outside the signal on either side.

    Args:
        x: (B, C, T).
        layer: a convolution, whose own padding is not applied, or a linear layer of each frame.
        left, right: values outside; mirrored ones must be fewer than T.
        fill: "zeros" or "mirrored".
        before, after: activations: None, "elu" or "gelu".
        scale: (C',), or None.
        add: (B, C', T'), or None.
        into_add: ``add`` is not needed any more, and may be overwritten.

    Returns:
        (B, C', T'), contiguous on the fast path.
    """
    linear = isinstance(layer, nn.Linear)
    changed = linear and type(layer) is not Linear and (
        type(layer) is not nn.Linear or layer._forward_hooks or layer._forward_pre_hooks)
    if changed:
        y = layer(activated(x, before).transpose(1, 2)).transpose(1, 2)  # it does more than it seems
        return finished(y, after, scale, add)
    options = {"left": left, "right": right, "fill": fill, "before": before, "after": after, "scale": scale, "add": add}
    shape = {} if linear else {"stride": layer.stride[0], "dilation": layer.dilation[0]}
    sources = _sources(layer)
    if (not linear and layer.groups != 1) or not runs_native(x, *sources, layer.bias, scale, add):
        if linear:
            y = functional.linear(activated(x, before).transpose(1, 2), layer.weight, layer.bias).transpose(1, 2)
            return finished(y, after, scale, add)
        return conv_reference(x, layer.weight, layer.bias, **shape, groups=layer.groups, **options)
    ordered = _ordered(layer, sources, ordered_weight)
    weight = sources[-1] if ordered is not None else layer.weight  # for its shape alone, where it is ordered
    return frames_conv(x, weight, layer.bias, ordered=ordered, into_add=into_add, **shape, **options)


def convolve_up(x: Tensor, layer: nn.ConvTranspose1d, *, trim: int = 0, made: int | None = None,
                before: str | None = None) -> Tensor:
    """``layer(before(x))[..., trim:trim + made]``; the layer's own padding is not applied.

    Args:
        x: (B, C, T).
        layer: a transposed convolution.
        trim: outputs cut in front.
        made: outputs that are kept; all behind ``trim`` when None.
        before: an activation, None, "elu" or "gelu".
    """
    (kernel,), (stride,) = layer.kernel_size, layer.stride
    total = (x.shape[2] - 1) * stride + kernel
    made = total - trim if made is None else made
    sources = _sources(layer)
    plain = layer.groups == layer.dilation[0] == 1 and stride > 1 and kernel % stride == 0
    if plain and not torch.compiler.is_compiling() and x.device.type == "cpu" and x.shape[2] < FEWEST_FRAMES:
        return few_frames_up(activated(x, before), layer)[..., trim:trim + made]
    if not plain or not runs_native(x, *sources, layer.bias):
        y = functional.conv_transpose1d(activated(x, before), layer.weight, layer.bias, stride, 0, 0, layer.groups,
                                        layer.dilation)
        return y[..., trim:trim + made]
    ordered = _ordered(layer, sources, partial(ordered_weight, transposed_stride=stride))
    weight = None if ordered is not None else layer.weight
    return frames_conv_transpose(x, weight, layer.bias, stride=stride, kernel=kernel, out=layer.out_channels, made=made,
                                 trim=trim, ordered=ordered, before=before)


def few_frames_up(x: Tensor, layer: nn.ConvTranspose1d) -> Tensor:
    """``layer(x)`` as one product and a sum of shifted parts, for a kernel of whole strides; torch's own takes much
    longer on a few frames."""
    (kernel,), (stride,) = layer.kernel_size, layer.stride
    batch, _, count = x.shape
    parts = x.transpose(1, 2) @ layer.weight.flatten(1)
    parts = parts.view(batch, count, layer.out_channels, kernel // stride, stride)
    made = x.new_zeros(batch, layer.out_channels, (count - 1) * stride + kernel, dtype=parts.dtype)
    for number, part in enumerate(parts.permute(3, 0, 2, 1, 4)):  # (B, C', T, stride) each
        made[..., number * stride:(number + count) * stride] += part.flatten(2)
    return made if layer.bias is None else made + layer.bias[:, None]


def run_lstm(x: Tensor, layer: nn.LSTM) -> Tensor:
    """An LSTM from zeros on x (B, C, T), to (B, H, T)."""
    weights = layer._flat_weights
    plain = not (layer.bidirectional or layer.proj_size or (layer.training and layer.dropout)) and layer.bias
    if not plain or len(x) > FEW_ROWS or not runs_native(x, *weights) or layer.hidden_size % lstm_lanes():
        frames = x.transpose(1, 2) if layer.batch_first else x.permute(2, 0, 1)
        y, _ = layer(frames)
        return y.transpose(1, 2) if layer.batch_first else y.permute(1, 2, 0)
    for number in range(layer.num_layers):
        names = [f"{name}_l{number}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        inputs, state, bias_inputs, bias_state = (getattr(layer, name) for name in names)
        gates = frames_conv(x, inputs, bias_inputs + bias_state).permute(2, 0, 1)  # (T, B, 4 H)
        ordered = _ordered(layer, (state,), ordered_recurrence, names[1])
        y = lstm_layer(gates, ordered_recurrence(state) if ordered is None else ordered)
        x = y.permute(1, 2, 0)
    return x


class Linear(nn.Linear):
    """``torch.nn.Linear`` of frames, by :func:`convolve`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C'), or (..., C) to (..., C')."""
        if x.dim() != 3:
            return super().forward(x)
        return convolve(x.transpose(1, 2), self).transpose(1, 2)


class Conv1d(nn.Conv1d):
    """``torch.nn.Conv1d`` with zeros outside, by :func:`convolve`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) to (B, C', T')."""
        return convolve(x, self, left=self.padding[0], right=self.padding[0])


class ConvTranspose1d(nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d``, by :func:`convolve_up`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) to (B, C', T')."""
        made = (x.shape[2] - 1) * self.stride[0] + self.kernel_size[0] - 2 * self.padding[0] + self.output_padding[0]
        return convolve_up(x, self, trim=self.padding[0], made=made)
