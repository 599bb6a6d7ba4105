"""Convolutions over time and linear layers of frames: the one place that chooses between torch and the code of
:mod:`photophone.kernels.frames`, for inference in float32 on the processor.

The functions take layers of torch, weight-normalised or not, of whatever family. Weights that are normalised, lie in an
order that costs time, or meet only a few frames, are put in order once and kept beside the layer; they are made again
when the parameters change.
"""

from __future__ import annotations

import weakref
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from photophone.kernels.frames import (
    activated,
    conv_reference,
    finished,
    frames_conv,
    frames_conv_transpose,
    ordered_weight,
    runs_native,
)

FEW_FRAMES = 256
"""Up to so many, ordering the weights costs more than a twentieth of the product."""
SAMPLE = 64


class Kept(NamedTuple):
    """Ordered weights, and what they were made of: the parameters, their versions and a few of their values."""

    sources: tuple[weakref.ref, ...]
    versions: tuple[tuple[int, int], ...]
    samples: tuple[Tensor, ...]
    ordered: Tensor


_kept: weakref.WeakKeyDictionary[nn.Module, Kept] = weakref.WeakKeyDictionary()


def _sources(layer: nn.Module) -> tuple[Tensor, ...]:
    """The parameters that make the weight of a layer."""
    if parametrize.is_parametrized(layer, "weight"):
        made = layer.parametrizations.weight
        return tuple(getattr(made, name) for name in ("original0", "original1", "original") if hasattr(made, name))
    return (layer.weight,)


def _sample(tensor: Tensor) -> Tensor:
    values = tensor.detach().flatten()
    return values[::max(1, len(values) // SAMPLE)]


def _ordered(layer: nn.Module, sources: tuple[Tensor, ...], transposed_stride: int | None = None) -> Tensor:
    """The kept weights of a layer, made if there are none or the parameters changed.

    A change in place through ``.data``, which torch does not count, is seen by the samples where it changes one.
    """
    versions = tuple((source._version, source.data_ptr()) for source in sources)
    kept = _kept.get(layer)
    if kept is not None and kept.versions == versions and len(kept.sources) == len(sources) \
            and all(old() is new for old, new in zip(kept.sources, sources)) \
            and all(torch.equal(old, _sample(new)) for old, new in zip(kept.samples, sources)):
        return kept.ordered
    ordered = ordered_weight(layer.weight, transposed_stride)
    _kept[layer] = Kept(tuple(map(weakref.ref, sources)), versions, tuple(_sample(each).clone() for each in sources),
                        ordered)
    return ordered


def _can_keep(sources: tuple[Tensor, ...]) -> bool:
    return not any(source.is_inference() for source in sources)  # torch counts no versions of those


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
    if linear and (type(layer) is not nn.Linear or layer._forward_hooks or layer._forward_pre_hooks):
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
    ordered = None
    if _can_keep(sources) and (len(sources) > 1 or layer in _kept or x.shape[0] * x.shape[2] <= FEW_FRAMES):
        ordered = _ordered(layer, sources)
    weight = sources[0] if len(sources) == 1 else sources[1] if ordered is not None else layer.weight
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
    if layer.groups != 1 or kernel % stride or layer.dilation[0] != 1 or not runs_native(x, *sources, layer.bias):
        y = functional.conv_transpose1d(activated(x, before), layer.weight, layer.bias, stride, 0, 0, layer.groups,
                                        layer.dilation)
        return y[..., trim:trim + made]
    ordered = _ordered(layer, sources, stride) if _can_keep(sources) else None
    weight = None if ordered is not None else layer.weight
    return frames_conv_transpose(x, weight, layer.bias, stride=stride, kernel=kernel, out=layer.out_channels, made=made,
                                 trim=trim, ordered=ordered, before=before)


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
