"""The convolutional encoder and decoder of waveforms that DAC made common: strided convolutions between dilated
residual units with Snake, all with weight normalisation.

Paper: DAC (arXiv 2306.06546), after SoundStream (2107.03312). Causal, with depthwise units, it is the AudioVAE of
VoxCPM (2509.24650).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from photophone.layers.causal_conv import CausalConv1d, CausalConvTranspose1d
from photophone.layers.frames import Conv1d, ConvTranspose1d
from photophone.layers.snake import Snake

DILATIONS = (1, 3, 9)
"""Of the residual units of a stage."""


def normed_conv(in_channels: int, out_channels: int, kernel_size: int, *, causal: bool, dilation: int = 1,
                groups: int = 1) -> nn.Module:
    """A weight-normalised convolution (B, C, T) -> (B, C', T) with zeros outside the signal."""
    if causal:
        return weight_norm(CausalConv1d(in_channels, out_channels, kernel_size, dilation=dilation, groups=groups))
    padding = dilation * (kernel_size - 1) // 2
    return weight_norm(Conv1d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation,
                              groups=groups))


class ResidualUnit(nn.Sequential):
    """x plus Snake, dilated convolution, Snake, 1x1 convolution of it: (B, C, T) -> (B, C, T).

    Args:
        channels: C.
        dilation: of the first convolution, whose kernel is 7.
        depthwise: the first convolution keeps channels apart.
        causal: outputs see no later inputs.
    """

    def __init__(self, channels: int, dilation: int, *, depthwise: bool, causal: bool) -> None:
        super().__init__(Snake(channels),
                         normed_conv(channels, channels, 7, causal=causal, dilation=dilation,
                                     groups=channels if depthwise else 1),
                         Snake(channels), normed_conv(channels, channels, 1, causal=causal))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to the same."""
        return x + super().forward(x)


def residual_units(channels: int, depthwise: bool, causal: bool) -> list[ResidualUnit]:
    """The three units of a stage."""
    return [ResidualUnit(channels, dilation, depthwise=depthwise, causal=causal) for dilation in DILATIONS]


class DACEncoder(nn.Module):
    """Waveforms (B, 1, T) to features (B, C, T / prod(strides)); C is ``channels`` doubled at each stage.

    Args:
        channels: of the first convolution.
        strides: of the stages.
        depthwise, causal: see :class:`ResidualUnit`. T must be a multiple of the strides where it is causal.
        delay_odd: causal stages of odd stride are one input late, as the first AudioVAE was trained.
    """

    def __init__(self, channels: int, strides: Sequence[int], *, depthwise: bool = False, causal: bool = False,
                 delay_odd: bool = False) -> None:
        super().__init__()
        self.conv_in = normed_conv(1, channels, 7, causal=causal)
        self.stages = nn.ModuleList()
        for stride in strides:
            shape = (channels, 2 * channels, 2 * stride)
            down = CausalConv1d(*shape, stride=stride, delay=stride % 2 if delay_odd else 0) if causal else \
                Conv1d(*shape, stride=stride, padding=math.ceil(stride / 2))
            units = residual_units(channels, depthwise, causal)
            self.stages.append(nn.Sequential(*units, Snake(channels), weight_norm(down)))
            channels *= 2
        self.out_channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 1, T) to (B, C, T / prod(strides))."""
        x = self.conv_in(x)
        for stage in self.stages:
            x = stage(x)
        return x


class DACDecoder(nn.Module):
    """Features (B, D, N) to waveforms (B, 1, N * prod(strides)) in [-1, 1]; each stage halves the channels.

    Without ``causal`` a stage of odd stride loses a sample, as in DAC.

    Args:
        in_channels: D.
        channels: before the first stage.
        strides: of the stages.
        depthwise, causal: see :class:`ResidualUnit`; a depthwise decoder splits its first convolution in two.
        kernel_sizes: of the transposed convolutions, two strides each when None; those that differ from their strides
            by an even number lose no sample. Not with ``causal``.
    """

    def __init__(self, in_channels: int, channels: int, strides: Sequence[int], *, depthwise: bool = False,
                 causal: bool = False, kernel_sizes: Sequence[int] | None = None) -> None:
        super().__init__()
        if causal and kernel_sizes is not None:
            raise ValueError("a causal decoder has kernels of two strides; leave kernel_sizes out")
        if depthwise:
            self.conv_in = nn.Sequential(normed_conv(in_channels, in_channels, 7, causal=causal, groups=in_channels),
                                         normed_conv(in_channels, channels, 1, causal=causal))
        else:
            self.conv_in = nn.Sequential(normed_conv(in_channels, channels, 7, causal=causal))
        self.stages = nn.ModuleList()
        self.stage_channels = [channels // 2**index for index in range(len(strides))]
        kernels = [2 * stride for stride in strides] if kernel_sizes is None else kernel_sizes
        for width, stride, kernel in zip(self.stage_channels, strides, kernels, strict=True):
            shape = (width, width // 2, kernel)
            padding = math.ceil(stride / 2) if kernel_sizes is None else (kernel - stride) // 2
            up = CausalConvTranspose1d(*shape, stride=stride) if causal else \
                ConvTranspose1d(*shape, stride=stride, padding=padding)
            units = residual_units(width // 2, depthwise, causal)
            self.stages.append(nn.Sequential(Snake(width), weight_norm(up), *units))
        last = channels // 2**len(strides)
        self.snake_out = Snake(last)
        self.conv_out = normed_conv(last, 1, 7, causal=causal)

    def forward(self, x: Tensor, condition: Callable[[int, Tensor], Tensor] | None = None) -> Tensor:
        """``condition(stage, x)`` replaces the input (B, C, T) of each stage."""
        x = self.conv_in(x)
        for index, stage in enumerate(self.stages):
            x = stage(x if condition is None else condition(index, x))
        return self.conv_out(self.snake_out(x)).tanh()
