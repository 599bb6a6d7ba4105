"""SEANet's encoder of waveforms, as EnCodec has it (arXiv 2210.13438, after 2009.02095), seeing both sides.

The ends are mirrored, at each row's own end, so rows of a padded batch come out as alone. The keys are those of the
official code without its nesting: ``model.N...``. Weight normalisation is folded into the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from photophone.layers.frames import activated, convolve, run_lstm
from photophone.layers.lengths import keep_valid, length_mask, reflect_pad


class MirroredConv1d(nn.Conv1d):
    """A convolution (B, C, T) to (B, C', ceil(T / stride)) that mirrors the ends; uneven padding leans left."""

    def forward(self, x: Tensor, lengths: Tensor, before: str | None = None) -> tuple[Tensor, Tensor]:
        """x and Long (B,) to the output and its lengths; ``before`` is an activation of the input, None or "elu"."""
        (kernel,), (stride,) = self.kernel_size, self.stride
        total = kernel - stride
        frames = -(-lengths // stride)
        right = total // 2 + frames * stride - lengths  # the last frame is filled up
        size = x.shape[-1]
        count = -(-size // stride)
        most = total // 2 + count * stride - size
        if x.device.type == "cpu" and size > max(total, most) and int(lengths.min()) == size:
            y = convolve(x, self, left=total - total // 2, right=most, fill="mirrored", before=before)
            return y, frames
        x = activated(x, before)
        return super().forward(reflect_pad(x, total - total // 2, right, lengths))[..., :count], frames


class SEANetBlock(nn.Module):
    """ELU, convolution of 3 to half the channels, ELU, 1x1 convolution back, plus a 1x1 shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_in = MirroredConv1d(channels, channels // 2, 3)
        self.conv_out = nn.Conv1d(channels // 2, channels, 1)
        self.shortcut = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x (B, C, T) to the same; ``lengths`` Long (B,), behind which nothing is seen."""
        y, _ = self.conv_in(x, lengths, "elu")
        return convolve(y, self.conv_out, before="elu", add=convolve(x, self.shortcut), into_add=True)


class SEANetEncoder(nn.Module):
    """Waveforms (B, 1, T) to features (B, dim, ceil(T / prod(strides))).

    Args:
        channels: of the first convolution; each stage doubles them.
        strides: of the stages, in the order they run.
        dim: of the features.
        lstm_layers: of the recurrent network behind the stages.
    """

    def __init__(self, channels: int, strides: Sequence[int], dim: int, lstm_layers: int = 2) -> None:
        super().__init__()
        self.conv_in = MirroredConv1d(1, channels, 7)
        self.blocks, self.downs = nn.ModuleList(), nn.ModuleList()
        for stride in strides:
            self.blocks.append(SEANetBlock(channels))
            self.downs.append(MirroredConv1d(channels, 2 * channels, 2 * stride, stride=stride))
            channels *= 2
        self.lstm = nn.LSTM(channels, channels, lstm_layers, batch_first=True)
        self.conv_out = MirroredConv1d(channels, dim, 7)
        self.hop_length = math.prod(strides)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """lengths: Long (B,), samples of each row; features behind ``ceil(lengths / hop)`` are zero."""
        x, lengths = self.conv_in(x, lengths)
        for block, down in zip(self.blocks, self.downs, strict=True):
            x, lengths = down(block(x, lengths), lengths, "elu")
        y, lengths = self.conv_out(run_lstm(x, self.lstm) + x, lengths, "elu")
        return keep_valid(y, length_mask(lengths, y.shape[-1]))
