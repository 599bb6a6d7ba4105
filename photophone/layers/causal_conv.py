"""Causal convolutions over time that can work chunk by chunk.

Both are plain subclasses of torch's layers, so their keys are ``weight`` and ``bias``, and weight normalisation
applies as usual.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.layers.frames import convolve, convolve_up
from photophone.layers.streaming import StreamingLayer


class CausalConv1d(StreamingLayer, nn.Conv1d):
    """A convolution (B, C, T) whose output at a time sees inputs up to that time.

    The past before the signal is zero. With a stride, the length must be a multiple of it, and the output has
    ``T / stride`` frames; frame ``i`` sees inputs up to ``(i + 1) * stride - 1 - delay``.

    Args: those of ``torch.nn.Conv1d``, without padding, and

        delay: inputs that a frame could see and does not, below the stride; some weights were trained with more zeros
            in front than the kernel needs.
        repeat_first: the past before the signal is its first frame instead of zeros.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, dilation: int = 1,
                 groups: int = 1, bias: bool = True, delay: int = 0, repeat_first: bool = False) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, dilation=dilation, groups=groups,
                         bias=bias)
        if not 0 <= delay < stride:
            raise ValueError(f"delay must lie in 0..stride - 1, got {delay} at stride {stride}")
        self.delay = delay
        self.repeat_first = repeat_first
        if kernel_size * dilation < stride:
            raise ValueError(f"a kernel of {kernel_size} with dilation {dilation} skips inputs at stride {stride}")

    @property
    def past(self) -> int:
        """Inputs before a chunk that its first output sees."""
        return (self.kernel_size[0] - 1) * self.dilation[0] + 1 - self.stride[0] + self.delay

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros (batch_size, in_channels, past), or nothing yet where the first frame will be repeated."""
        return self.weight.new_zeros(batch_size, self.in_channels, 0 if self.repeat_first else max(self.past, 0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) to (B, C', T / stride)."""
        if x.shape[-1] % self.stride[0]:
            raise ValueError(f"the length must be a multiple of the stride {self.stride[0]}, got {x.shape[-1]}")
        if self.stream_state is None:
            if self.past < 0 or self.repeat_first:
                return convolve(self._with_past(x), self)
            return convolve(x, self, left=self.past)
        return self.run_chunk(self.behind_past(x))

    def behind_past(self, x: Tensor) -> Tensor:
        """A chunk of a stream (B, C, T) behind the ``past`` inputs before it; what the next chunk sees is kept."""
        begins = self.repeat_first and not self.stream_state.shape[-1]
        x = self._with_past(x) if begins else torch.cat([self.stream_state.to(x.dtype), x], dim=-1)
        self.stream_state = x[..., x.shape[-1] - self.past:]
        return x

    def run_chunk(self, x: Tensor) -> Tensor:
        """What :meth:`behind_past` gives (B, C, past + T) to (B, C', T / stride)."""
        if x.shape[-1] == self.past + 1 and self.groups == self.in_channels == self.out_channels:
            # one frame of a depthwise convolution is a product, and much faster as one
            made = (x[..., ::self.dilation[0]] * self.weight[:, 0]).sum(dim=-1, keepdim=True)
            return made if self.bias is None else made + self.bias[:, None]
        return convolve(x, self)

    def _with_past(self, x: Tensor) -> Tensor:
        if self.repeat_first:
            return torch.cat([x[..., :1].expand(-1, -1, self.past), x], dim=-1)
        return functional.pad(x, (self.past, 0))


class CausalConvTranspose1d(StreamingLayer, nn.ConvTranspose1d):
    """A transposed convolution (B, C, T) to (B, C', T * stride) whose output never sees later inputs.

    The tail that would reach past the end is cut, or waits for the next chunk when streaming.

    Args: those of ``torch.nn.ConvTranspose1d``, without padding; ``kernel_size`` is at least ``stride``.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1,
                 bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, groups=groups, bias=bias)
        if kernel_size < stride:
            raise ValueError(f"a kernel of {kernel_size} leaves gaps at stride {stride}")

    @property
    def tail(self) -> int:
        """Outputs that reach into the next chunk."""
        return self.kernel_size[0] - self.stride[0]

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros (batch_size, out_channels, tail)."""
        return self.weight.new_zeros(batch_size, self.out_channels, self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) to (B, C', T * stride)."""
        length = x.shape[-1] * self.stride[0]
        if self.stream_state is None:
            return convolve_up(x, self, made=length)
        y = convolve_up(x, self)
        y[..., :self.tail] += self.stream_state
        tail = y[..., length:]
        # The bias belongs to the outputs of each chunk once: what waits for the next chunk must not bring it again.
        self.stream_state = tail if self.bias is None else tail - self.bias[:, None]
        return y[..., :length]
