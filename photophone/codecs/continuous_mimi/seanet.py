"""The causal convolutional encoder and decoder of SEANet (arXiv 2009.02095), as Mimi has them (2410.00037).

Layers lie in one list in the official order, so that official keys fit: "N.block.1" is a convolution of a residual
block.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from photophone.layers.causal_conv import CausalConv1d, CausalConvTranspose1d


class ResidualBlock(nn.Module):
    """``x + conv(elu(conv(elu(x))))`` over (B, C, T).

    Args:
        channels: C.
        kernel_size, dilation: of the first convolution; the second has a kernel of 1.
        compress: channels between are C over this.
    """

    def __init__(self, channels: int, kernel_size: int, dilation: int, compress: int) -> None:
        super().__init__()
        hidden = channels // compress
        self.block = nn.Sequential(nn.ELU(), CausalConv1d(channels, hidden, kernel_size, dilation=dilation), nn.ELU(),
                                   CausalConv1d(hidden, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to the same."""
        return x + self.block(x)


def seanet_encoder(width: int, filters: int, ratios: Sequence[int], residual_layers: int = 1, kernel_size: int = 7,
                   residual_kernel_size: int = 3, last_kernel_size: int = 3, dilation_base: int = 2,
                   compress: int = 2) -> nn.Sequential:
    """Audio (B, 1, T) to (B, width, T / product of the ratios).

    Args:
        width: channels of the result.
        filters: channels of the first convolution; they double at each ratio.
        ratios: strides in the order of the decoder; the encoder has them from behind.
        residual_layers: blocks of a stage, whose dilations are powers of ``dilation_base``.
        kernel_size, residual_kernel_size, last_kernel_size: of the first, the blocks' and the last convolution.
        compress: see :class:`ResidualBlock`.
    """
    layers: list[nn.Module] = [CausalConv1d(1, filters, kernel_size)]
    channels = filters
    for ratio in reversed(ratios):
        layers += [ResidualBlock(channels, residual_kernel_size, dilation_base**index, compress)
                   for index in range(residual_layers)]
        layers += [nn.ELU(), CausalConv1d(channels, 2 * channels, 2 * ratio, stride=ratio)]
        channels *= 2
    return nn.Sequential(*layers, nn.ELU(), CausalConv1d(channels, width, last_kernel_size))


def seanet_decoder(width: int, filters: int, ratios: Sequence[int], residual_layers: int = 1, kernel_size: int = 7,
                   residual_kernel_size: int = 3, last_kernel_size: int = 3, dilation_base: int = 2,
                   compress: int = 2) -> nn.Sequential:
    """(B, width, T) to audio (B, 1, T * product of the ratios); arguments as in :func:`seanet_encoder`."""
    channels = filters * 2**len(ratios)
    layers: list[nn.Module] = [CausalConv1d(width, channels, kernel_size)]
    for ratio in ratios:
        layers += [nn.ELU(), CausalConvTranspose1d(channels, channels // 2, 2 * ratio, stride=ratio)]
        channels //= 2
        layers += [ResidualBlock(channels, residual_kernel_size, dilation_base**index, compress)
                   for index in range(residual_layers)]
    return nn.Sequential(*layers, nn.ELU(), CausalConv1d(channels, 1, last_kernel_size))
