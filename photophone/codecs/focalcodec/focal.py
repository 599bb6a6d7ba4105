"""Focal modulation over time (arXiv 2203.11926), and the compressor and decompressor of FocalCodec made of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.codecs.focalcodec.semantic import FeedForward
from photophone.kernels.snake import snake
from photophone.layers.causal_conv import CausalConv1d
from photophone.layers.lengths import keep_valid, length_mask
from photophone.layers.streaming import StreamingLayer


class DynamicTanh(nn.Module):
    """``tanh(alpha x)`` in place of a norm (arXiv 2503.10622): it needs no statistics."""

    def __init__(self, alpha: float = 0.5) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), alpha))

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape to the same."""
        return torch.tanh(self.alpha * x)


class FrameSnake(nn.Module):
    """The Snake activation of frames (B, T, C); ``alpha`` is stored as (C, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) to the same."""
        return snake(x, self.alpha[:, 0])


def frame_norm(width: int, causal: bool) -> nn.Module:
    """The causal models have :class:`DynamicTanh`, the others LayerNorm."""
    return DynamicTanh() if causal else nn.LayerNorm(width)


class FocalModulation(nn.Module):
    """Each frame is multiplied with a summary of ever wider contexts: (B, T, C) to the same.

    Args:
        width: channels C.
        window, levels, factor: level k has a depthwise convolution of kernel ``window + factor * k``.
        post_norm: normalise before the last Linear.
        normalize: divide the summary by ``levels + 1``.
        causal: all convolutions see the past, and the last level is one more convolution of kernel ``span`` instead
            of the mean over the clip.
        span: see ``causal``.
    """

    def __init__(self, width: int, window: int, levels: int, factor: int, *, post_norm: bool = False,
                 normalize: bool = False, causal: bool = False, span: int = 512) -> None:
        super().__init__()
        self.width, self.levels, self.causal = width, levels, causal
        self.divisor = levels + 1 if normalize else 1
        self.in_proj = nn.Linear(width, 2 * width + levels + 1)
        kernels = [window + factor * level for level in range(levels)] + ([span] if causal else [])
        self.layers = nn.ModuleList(nn.Sequential(self._conv(kernel), nn.GELU()) for kernel in kernels)
        self.context_proj = nn.Conv1d(width, width, 1)
        self.norm = frame_norm(width, causal) if post_norm else None
        self.out_proj = nn.Linear(width, width)

    def _conv(self, kernel: int) -> nn.Conv1d:
        if self.causal:
            return CausalConv1d(self.width, self.width, kernel, groups=self.width, repeat_first=True)
        return nn.Conv1d(self.width, self.width, kernel, padding="same", groups=self.width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``mask`` Bool (B, T), False where a row has ended: nothing there is seen."""
        query, context, gates = self.in_proj(x).transpose(1, 2).split([self.width, self.width, self.levels + 1], 1)
        total = 0.0
        for level, layer in enumerate(self.layers):
            context = layer(keep_valid(context, mask))
            total = total + context * gates[:, level:level + 1]
        if not self.causal:
            count = context.shape[-1] if mask is None else mask.sum(1)[:, None, None]
            mean = keep_valid(context, mask).sum(-1, keepdim=True) / count  # (B, C, 1)
            total = total + functional.gelu(mean.to(context.dtype)) * gates[:, self.levels:]
        y = (query * self.context_proj(total / self.divisor)).transpose(1, 2)
        return self.out_proj(y if self.norm is None else self.norm(y))


class FocalBlock(nn.Module):
    """Modulation and feed-forward, each behind a norm and with a residual: (B, T, C) to the same.

    Args:
        width: channels C.
        layer_scale: initial scale of both branches, or None for none.
        post_norm: both norms stand behind, and a third one before the last Linear of the modulation.
        **focal: of :class:`FocalModulation`.
    """

    def __init__(self, width: int, *, causal: bool, layer_scale: float | None = None, post_norm: bool = False,
                 **focal) -> None:
        super().__init__()
        self.post_norm = post_norm
        self.modulation_norm = frame_norm(width, causal)
        self.modulation = FocalModulation(width, causal=causal, post_norm=post_norm, **focal)
        self.feed_forward_norm = frame_norm(width, causal)
        self.feed_forward = FeedForward(width, 4 * width)
        self.scaled = layer_scale is not None
        if self.scaled:
            self.modulation_gamma = nn.Parameter(torch.full((width,), layer_scale))
            self.feed_forward_gamma = nn.Parameter(torch.full((width,), layer_scale))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, T, C) to the same; ``mask`` Bool (B, T), False where a row has ended."""
        y = self.modulation_norm(self.modulation(x, mask)) if self.post_norm else \
            self.modulation(self.modulation_norm(x), mask)
        x = x + (y * self.modulation_gamma if self.scaled else y)
        y = self.feed_forward_norm(self.feed_forward(x)) if self.post_norm else \
            self.feed_forward(self.feed_forward_norm(x))
        return x + (y * self.feed_forward_gamma if self.scaled else y)


class DownScale(nn.Module):
    """A convolution of kernel and stride ``factor``, then Snake: (B, T, C) to (B, T', C')."""

    def __init__(self, in_width: int, out_width: int, factor: int, causal: bool) -> None:
        super().__init__()
        self.factor, self.causal = factor, causal
        if causal:
            self.downscale = CausalConv1d(in_width, out_width, factor, stride=factor, delay=factor - 1,
                                          repeat_first=True)
        else:
            self.downscale = nn.Conv1d(in_width, out_width, factor, factor)
        self.activation = FrameSnake(out_width)

    def frames(self, lengths: Tensor) -> Tensor:
        """Outputs of ``lengths`` frames. The official padding of ``T % factor`` zeros loses a rest of one frame when
        the factor is above 2."""
        if self.causal:
            return -(-lengths // self.factor)
        return ((lengths + lengths % self.factor) // self.factor).clamp(min=1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, T, C) to (B, T', C'); ``mask`` Bool (B, T), False where a row has ended."""
        x = keep_valid(x.transpose(1, 2), mask)
        missing = -x.shape[-1] % self.factor if self.causal else max(x.shape[-1] % self.factor,
                                                                     self.factor - x.shape[-1])
        return self.activation(self.downscale(functional.pad(x, (0, missing))).transpose(1, 2))


class UpScale(nn.Module):
    """Snake, then a transposed convolution of kernel and stride ``factor``: (B, T, C) to (B, T * factor, C')."""

    def __init__(self, in_width: int, out_width: int, factor: int) -> None:
        super().__init__()
        self.activation = FrameSnake(in_width)
        self.upscale = nn.ConvTranspose1d(in_width, out_width, factor, factor)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) to (B, T * factor, C')."""
        return self.upscale(self.activation(x).transpose(1, 2)).transpose(1, 2)


class ChunkRefiner(StreamingLayer):
    """Linear, GELU, Linear over the frames of a chunk together, with a residual: (B, T, C) to the same."""

    def __init__(self, width: int, chunk: int) -> None:
        super().__init__()
        self.chunk = chunk
        self.in_proj = nn.Linear(chunk * width, chunk * width)
        self.out_proj = nn.Linear(chunk * width, chunk * width)

    def initial_state(self, batch_size: int) -> int:
        """Frames of an unfinished chunk."""
        return 0

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, T, C) to the same; ``mask`` Bool (B, T), False where a row has ended."""
        if self.stream_state is not None:
            if self.stream_state:
                raise ValueError(f"a stream goes on in steps of {self.chunk} frames; only the last chunk may be "
                                 f"shorter, but {self.stream_state} frames more came before")
            self.stream_state = x.shape[1] % self.chunk
        known = x if mask is None else torch.where(mask[..., None], x, 0)
        groups = functional.pad(known, (0, 0, 0, -x.shape[1] % self.chunk)).unflatten(1, (-1, self.chunk)).flatten(2)
        change = self.out_proj(functional.gelu(self.in_proj(groups)))  # (B, T / chunk, chunk * C)
        return x + change.unflatten(2, (self.chunk, -1)).flatten(1, 2)[:, :x.shape[1]]


class FocalEncoder(nn.Module):
    """Features (B, T, in_width) to latents (B, T', out_width): stages of :class:`DownScale` and :class:`FocalBlock`.

    Args:
        in_width, out_width: channels.
        widths, factors: of the stages.
        **block: of :class:`FocalBlock`.
    """

    def __init__(self, in_width: int, out_width: int, widths: Sequence[int], factors: Sequence[int], *, causal: bool,
                 **block) -> None:
        super().__init__()
        sizes = zip([in_width, *widths[:-1]], widths, factors, strict=True)
        self.layers = nn.ModuleList(nn.ModuleDict({"downscale": DownScale(*size, causal=causal),
                                                   "focal_block": FocalBlock(size[1], causal=causal, **block)})
                                    for size in sizes)
        self.out_proj = nn.Linear(widths[-1], out_width)

    def frames(self, lengths: Tensor) -> Tensor:
        """Latents of ``lengths`` frames, Long (B,)."""
        for layer in self.layers:
            lengths = layer["downscale"].frames(lengths)
        return lengths

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``lengths`` Long (B,): frames of each row; nothing behind them is seen."""
        for layer in self.layers:
            x = layer["downscale"](x, None if lengths is None else length_mask(lengths, x.shape[1]))
            if lengths is not None:
                lengths = layer["downscale"].frames(lengths)
            x = layer["focal_block"](x, None if lengths is None else length_mask(lengths, x.shape[1]))
        return self.out_proj(x)


class FocalDecoder(nn.Module):
    """Codes (B, T, in_width) to features (B, T', out_width): stages of :class:`FocalBlock` and :class:`UpScale`.

    Args:
        in_width, out_width: channels.
        widths, factors: of the stages.
        chunk: frames that a :class:`ChunkRefiner` sees together at the end; 1 for none.
        span, last_span: kernels of the widest causal context of the stages, and of the last one.
        **block: of :class:`FocalBlock`.
    """

    def __init__(self, in_width: int, out_width: int, widths: Sequence[int], factors: Sequence[int], *, chunk: int = 1,
                 span: int = 512, last_span: int = 512, **block) -> None:
        super().__init__()
        self.in_proj = nn.Linear(in_width, widths[0])
        spans = [span] * (len(widths) - 1) + [last_span]
        sizes = zip(widths, [*widths[1:], out_width], factors, spans, strict=True)
        self.layers = nn.ModuleList(nn.ModuleDict({"focal_block": FocalBlock(size[0], span=size[3], **block),
                                                   "upscale": UpScale(*size[:3])}) for size in sizes)
        self.refiner = ChunkRefiner(out_width, chunk) if chunk > 1 else None

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``lengths`` Long (B,): codes of each row; nothing behind them is seen."""
        x = self.in_proj(x)
        for layer in self.layers:
            x = layer["upscale"](layer["focal_block"](x, None if lengths is None else
                                                      length_mask(lengths, x.shape[1])))
            if lengths is not None:
                lengths = lengths * layer["upscale"].upscale.stride[0]
        if self.refiner is None:
            return x
        return self.refiner(x, None if lengths is None else length_mask(lengths, x.shape[1]))
