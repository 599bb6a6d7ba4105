"""SEANet networks of transformers (EnCodec, Mimi), layer by layer through :mod:`photophone.layers.frames`.

Each activation and residual joins the convolution beside it.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from photophone.layers.frames import activated, convolve, convolve_up, run_lstm


def run_seanet(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """``x`` (B, C, T) through the layers of an encoder or decoder of transformers' EnCodec or Mimi.

    Args:
        layers: causal convolutions, transposed ones, residual blocks, LSTMs and ELUs, as those classes hold them.
    """
    before, given = None, x
    for layer in layers:
        if isinstance(layer, nn.ELU) and layer.alpha == 1 and before is None:
            before = "elu"  # of the convolution that follows
            continue
        x = _run(layer, x, before, x is not given)
        before = None
    return activated(x, before)


def _run(layer: nn.Module, x: Tensor, before: str | None, own: bool) -> Tensor:
    """``own``: x is needed by nobody else."""
    if hasattr(layer, "block"):
        x = given = activated(x, before)
        kept = x if isinstance(layer.shortcut, nn.Identity) else _convolve(layer.shortcut, x, None)
        *first, last = layer.block
        before = None
        for part in first:
            if isinstance(part, nn.ELU):
                before = "elu"
                continue
            x = _convolve(part, x, before)
            before = None
        return _convolve(last, x, before, kept, into_add=own or kept is not given)
    if isinstance(getattr(layer, "conv", None), nn.ConvTranspose1d) and layer.causal and not hasattr(layer, "norm"):
        length = x.shape[2] * layer.conv.stride[0]
        if getattr(layer, "trim_right_ratio", 1) == 1:
            return convolve_up(x, layer.conv, made=length, before=before)
    if isinstance(getattr(layer, "conv", None), nn.Conv1d):
        return _convolve(layer, x, before)
    x = activated(x, before)
    if isinstance(getattr(layer, "lstm", None), nn.LSTM):
        return run_lstm(x, layer.lstm) + x
    return layer(x)


def _convolve(layer: nn.Module, x: Tensor, before: str | None, add: Tensor | None = None,
              into_add: bool = False) -> Tensor:
    """A causal convolution of transformers, filled up to whole strides."""
    (kernel,), (stride,), (dilation,) = layer.conv.kernel_size, layer.conv.stride, layer.conv.dilation
    left = (kernel - 1) * dilation + 1 - stride
    right = -x.shape[2] % stride
    mirrored = layer.pad_mode == "reflect"
    plain = layer.causal and not hasattr(layer, "norm") and (mirrored or layer.pad_mode == "constant")
    if not plain or (mirrored and x.shape[2] <= max(left, right)):  # a short signal is extended by zeros first
        y = layer(activated(x, before))
        return y if add is None else add + y
    return convolve(x, layer.conv, left=left, right=right, fill="mirrored" if mirrored else "zeros", before=before,
                    add=add, into_add=into_add)
