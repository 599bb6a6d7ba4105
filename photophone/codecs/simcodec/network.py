"""The two halves of SimCodec: HiFi-GAN's shape (arXiv 2010.05646) on both sides of its codes."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.1


class ResidualConvs(nn.Module):
    """Pairs of a dilated and a plain convolution, each with a residual: (B, C, T) -> (B, C, T)."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(nn.Conv1d(channels, channels, kernel, dilation=dilation, padding="same")
                                    for dilation in dilations)
        self.convs2 = nn.ModuleList(nn.Conv1d(channels, channels, kernel, padding="same") for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to the same."""
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, SLOPE)), SLOPE))
        return x


class SimEncoder(nn.Module):
    """Audio (B, 1, T) of whole hops to values (B, dim, N).

    The results of a stage's residual blocks are added one by one, and the sum so far is normalised each time.

    Args:
        filters: channels of the first layer; each stage doubles them.
        dim: channels of the result.
        rates, kernels: of the stages of the decoder; here they come in the opposite order.
        block_kernels, block_dilations: of the residual blocks of a stage, in the opposite order too.
    """

    def __init__(self, filters: int, dim: int, rates: Sequence[int], kernels: Sequence[int],
                 block_kernels: Sequence[int], block_dilations: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.conv_pre = nn.Conv1d(1, filters, 7, padding=3)
        self.downs, self.blocks, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.num_blocks, width = len(block_kernels), filters
        for rate, kernel in zip(reversed(rates), reversed(kernels), strict=True):
            self.downs.append(nn.Conv1d(width, 2 * width, kernel, rate, padding=(kernel - rate) // 2))
            width *= 2
            for size, dilations in zip(reversed(block_kernels), reversed(block_dilations), strict=True):
                self.blocks.append(ResidualConvs(width, size, dilations))
                self.norms.append(nn.LayerNorm(width, eps=1e-6))
        self.conv_post = nn.Conv1d(width, dim, 3, padding=1)

    def forward(self, audio: Tensor) -> Tensor:
        """(B, 1, T) to (B, dim, N)."""
        x = self.conv_pre(audio)
        for stage, down in enumerate(self.downs):
            x, total = down(x), 0
            for index in range(stage * self.num_blocks, (stage + 1) * self.num_blocks):
                total = total + self.blocks[index](x)
                total = self.norms[index](total.transpose(1, 2)).transpose(1, 2)
            x = total / self.num_blocks
        return self.conv_post(F.leaky_relu(x, SLOPE))


class SimDecoder(nn.Module):
    """Values (B, dim, N) to audio (B, 1, N * hop) in [-1, 1].

    Args:
        filters: channels of the last stage; each stage before it has twice as many.
        dim: channels of the values.
        rates, kernels: of the stages.
        block_kernels, block_dilations: of the residual blocks of a stage, whose mean it is.
    """

    def __init__(self, filters: int, dim: int, rates: Sequence[int], kernels: Sequence[int],
                 block_kernels: Sequence[int], block_dilations: Sequence[Sequence[int]]) -> None:
        super().__init__()
        width = filters * 2 ** len(rates)
        self.conv_pre = nn.Conv1d(dim, width, 7, padding=3)
        self.ups, self.blocks, self.num_blocks = nn.ModuleList(), nn.ModuleList(), len(block_kernels)
        for rate, kernel in zip(rates, kernels, strict=True):
            self.ups.append(nn.ConvTranspose1d(width, width // 2, kernel, rate, padding=(kernel - rate) // 2))
            width //= 2
            self.blocks.extend(ResidualConvs(width, size, dilations)
                               for size, dilations in zip(block_kernels, block_dilations, strict=True))
        self.conv_post = nn.Conv1d(width, 1, 7, padding=3)

    def forward(self, values: Tensor) -> Tensor:
        """(B, dim, N) to (B, 1, N * hop)."""
        x = self.conv_pre(values)
        for stage, up in enumerate(self.ups):
            x = up(x)
            blocks = self.blocks[stage * self.num_blocks:(stage + 1) * self.num_blocks]
            x = sum(block(x) for block in blocks) / self.num_blocks
        return self.conv_post(F.leaky_relu(x, SLOPE)).tanh()
