"""ConvNeXt blocks over time (Vocos, arXiv 2306.00814, after ConvNeXt, 2201.03545)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.kernels.frames import depthwise_norm, runs_native
from photophone.layers.causal_conv import CausalConv1d
from photophone.layers.frames import Conv1d, convolve
from photophone.layers.lengths import keep_valid

NORM_EPS = 1e-6


class AdaptiveLayerNorm(nn.Module):
    """Layer normalisation whose scale and shift come from a condition: one of a few numbers, or a vector.

    Args:
        width: channels.
        num_conditions: of embeddings, where the condition is Long (B,) or (1,).
        condition_dim: of the vector, where the condition is float (B, condition_dim).
        eps: of the normalisation.
    """

    def __init__(self, width: int, *, num_conditions: int | None = None, condition_dim: int | None = None,
                 eps: float = NORM_EPS) -> None:
        super().__init__()
        if (num_conditions is None) == (condition_dim is None):
            raise ValueError("give one of num_conditions and condition_dim, "
                             f"got num_conditions={num_conditions} and condition_dim={condition_dim}")
        self.width = width
        self.eps = eps
        if condition_dim is None:
            self.scale = nn.Embedding(num_conditions, width)
            self.shift = nn.Embedding(num_conditions, width)
            scale = self.scale.weight
        else:
            self.scale = nn.Linear(condition_dim, width)
            self.shift = nn.Linear(condition_dim, width)
            scale = self.scale.bias
            nn.init.zeros_(self.scale.weight)
            nn.init.zeros_(self.shift.bias)
        nn.init.ones_(scale)  # the start is a plain layer normalisation
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, T, C) to the same."""
        x = functional.layer_norm(x, (self.width,), eps=self.eps)
        return x * self.scale(condition)[:, None] + self.shift(condition)[:, None]  # (B, 1, C) against (B, T, C)


def frame_norm(width: int, num_conditions: int | None = None, condition_dim: int | None = None) -> nn.Module:
    """A LayerNorm of frames (B, T, C), or an :class:`AdaptiveLayerNorm` when there is a condition."""
    if num_conditions is None and condition_dim is None:
        return nn.LayerNorm(width, eps=NORM_EPS)
    return AdaptiveLayerNorm(width, num_conditions=num_conditions, condition_dim=condition_dim)


def apply_norm(norm: nn.Module, x: Tensor, condition: Tensor | None, conv: nn.Conv1d | None = None) -> Tensor:
    """``norm`` of :func:`frame_norm` on x (B, C, T), or on what a depthwise :func:`frame_conv` makes of it."""
    adaptive = isinstance(norm, AdaptiveLayerNorm)
    gain, shift = (norm.scale(condition), norm.shift(condition)) if adaptive else (norm.weight[None], norm.bias[None])
    streams = isinstance(conv, CausalConv1d) and conv.stream_state is not None and conv.groups == conv.in_channels
    if streams:
        x = conv.behind_past(x)
    ends = (0, 0) if conv is None or streams else _zeros_outside(conv)
    weights = (None, None) if conv is None else (conv.weight, conv.bias)
    if ends is not None and len(gain) == 1 and runs_native(x, *weights, gain, shift):
        return depthwise_norm(x, *weights, gain[0], shift[0], norm.eps, left=ends[0], right=ends[1],
                              dilation=1 if conv is None else conv.dilation[0])
    if conv is not None:
        x = conv.run_chunk(x) if streams else conv(x)
    frames = x.transpose(1, 2)  # (B, T, C)
    return (norm(frames, condition) if adaptive else norm(frames)).transpose(1, 2)


def _zeros_outside(conv: nn.Conv1d) -> tuple[int, int] | None:
    """How many a :func:`frame_conv` sees on either side; None where it must be run by itself."""
    if isinstance(conv, CausalConv1d):
        plain = not conv.repeat_first and conv.groups == conv.in_channels
        return (conv.past, 0) if plain else None
    return (conv.padding[0], conv.padding[0]) if isinstance(conv, DepthwiseConv1d) else None


class DepthwiseConv1d(nn.Conv1d):
    """A depthwise convolution (B, C, T) to the same, for frames whose channels lie together in memory.

    That is how the norm and the MLP around it want them, so nothing is copied, and the processor takes half the time.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to the same, as a 2D convolution of height 1 computes it."""
        x = x[:, :, None].contiguous(memory_format=torch.channels_last)
        return functional.conv2d(x, self.weight[:, :, None], self.bias, padding=(0, self.padding[0]),
                                 groups=self.groups)[:, :, 0]


def frame_conv(in_channels: int, out_channels: int, kernel_size: int, *, causal: bool = False,
               groups: int = 1, dilation: int = 1) -> nn.Conv1d:
    """A convolution (B, C, T) of odd kernel that keeps the length, with zeros on both sides or only before."""
    if causal:
        return CausalConv1d(in_channels, out_channels, kernel_size, groups=groups, dilation=dilation)
    if kernel_size % 2 == 0:
        raise ValueError(f"a kernel that sees both sides must be odd, got {kernel_size}")
    kind = DepthwiseConv1d if groups == in_channels == out_channels and dilation == 1 else Conv1d
    return kind(in_channels, out_channels, kernel_size, padding=kernel_size // 2 * dilation, groups=groups,
                dilation=dilation)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, norm, Linear, GELU, Linear, layer scale, residual: (B, C, T) to the same.

    Args:
        width: channels C.
        hidden: channels inside the MLP.
        kernel_size: of the depthwise convolution.
        causal: the convolution sees the past only, and can stream.
        layer_scale: initial value of the scale of each channel, or None for no scale.
        num_conditions, condition_dim: make the norm adaptive; see :class:`AdaptiveLayerNorm`.
        dilation: frames between the inputs of the depthwise convolution.
    """

    def __init__(self, width: int, hidden: int, kernel_size: int = 7, *, causal: bool = False,
                 layer_scale: float | None = None, num_conditions: int | None = None,
                 condition_dim: int | None = None, dilation: int = 1) -> None:
        super().__init__()
        self.dwconv = frame_conv(width, width, kernel_size, causal=causal, groups=width, dilation=dilation)
        self.norm = frame_norm(width, num_conditions, condition_dim)
        self.pwconv1 = nn.Linear(width, hidden)
        self.pwconv2 = nn.Linear(hidden, width)
        self.gamma = None if layer_scale is None else nn.Parameter(torch.full((width,), float(layer_scale)))

    def forward(self, x: Tensor, condition: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """x (B, C, T); mask Bool (B, T), False where a row has ended, whose frames other frames do not see."""
        y = convolve(apply_norm(self.norm, keep_valid(x, mask), condition, self.dwconv), self.pwconv1, after="gelu")
        return convolve(y, self.pwconv2, scale=self.gamma, add=x)
