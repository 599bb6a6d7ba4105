"""WavLM's encoder (arXiv 2110.13900), which can also be causal and stream, as FocalCodec-Stream's is (2509.16195).

transformers has the model that sees the whole clip; its attention cannot be windowed or continued, so this one is our
own. There is no final normalisation: FocalCodec takes the output of an inner layer of WavLM-large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.layers.causal_conv import CausalConv1d
from photophone.layers.lengths import keep_valid, length_mask
from photophone.layers.streaming import StreamingLayer


class ConvBlock(nn.Module):
    """Convolution without padding, or causal; LayerNorm over channels; GELU: (B, C, T) to (B, C', T')."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, causal: bool) -> None:
        super().__init__()
        if causal:
            self.conv = CausalConv1d(in_channels, out_channels, kernel_size, stride=stride, bias=False,
                                     delay=stride - 1, repeat_first=True)
        else:
            self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, stride, bias=False)
        self.norm = nn.LayerNorm(out_channels)
        self.causal = causal

    def frames(self, lengths: Tensor) -> Tensor:
        """Outputs of inputs of ``lengths``, at least one."""
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        return -(-lengths // stride) if self.causal else ((lengths - kernel) // stride + 1).clamp(min=1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to (B, C', T')."""
        if not self.causal:
            x = functional.pad(x, (0, max(0, self.conv.kernel_size[0] - x.shape[-1])))
        return functional.gelu(self.norm(self.conv(x).transpose(1, 2))).transpose(1, 2)


class ConvPosition(nn.Module):
    """The grouped convolution whose output is added as a position embedding: (B, C, T) to the same."""

    def __init__(self, width: int, kernel_size: int, groups: int, causal: bool) -> None:
        super().__init__()
        if causal:
            self.conv = CausalConv1d(width, width, kernel_size, groups=groups, repeat_first=True)
        else:
            self.conv = nn.Conv1d(width, width, kernel_size, padding=kernel_size // 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to the same."""
        return functional.gelu(self.conv(x)[..., :x.shape[-1]])  # an even kernel makes one frame too many


class GatedAttention(StreamingLayer):
    """Self-attention with a relative position bias that a gate of each query scales: (B, T, C) to the same.

    Args:
        width: channels C.
        num_heads: of the attention.
        memory: past frames that a stream keeps; 0 when it cannot stream.
    """

    def __init__(self, width: int, num_heads: int, memory: int) -> None:
        super().__init__()
        self.num_heads, self.head_width, self.memory = num_heads, width // num_heads, memory
        self.qkv_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.gru_rel_pos_linear = nn.Linear(self.head_width, 8)
        self.gru_rel_pos_const = nn.Parameter(torch.ones(1, num_heads, 1, 1))

    def initial_state(self, batch_size: int) -> Tensor:
        """No keys and values yet: (2, batch_size, heads, 0, head_width)."""
        return self.out_proj.weight.new_zeros(2, batch_size, self.num_heads, 0, self.head_width)

    def forward(self, x: Tensor, bias: Tensor, seen: Tensor | None) -> Tensor:
        """``bias`` (heads, T, K) of the K kept and new frames; ``seen`` Bool (1 or B, 1, 1 or T, K); None: all."""
        query, key, value = self.qkv_proj(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if self.stream_state is not None:
            past = self.stream_state.to(x.dtype)
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
            kept = min(self.memory, key.shape[2])
            self.stream_state = torch.stack([key, value])[..., key.shape[2] - kept:, :]
        gates = self.gru_rel_pos_linear(x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2))  # (B, heads, T, 8)
        first, second = gates.unflatten(-1, (2, 4)).sum(-1).sigmoid().chunk(2, dim=-1)
        scores = (first * (second * self.gru_rel_pos_const - 1) + 2) * bias  # (B, heads, T, K)
        if seen is not None:
            scores = scores.masked_fill(~seen, -math.inf)
        y = functional.scaled_dot_product_attention(query, key, value, attn_mask=scores.to(query.dtype))
        return self.out_proj(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(width, hidden)
        self.out_proj = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) to the same."""
        return self.out_proj(functional.gelu(self.in_proj(x)))


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each behind a LayerNorm and with a residual."""

    def __init__(self, width: int, hidden: int, num_heads: int, memory: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = GatedAttention(width, num_heads, memory)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden)

    def forward(self, x: Tensor, bias: Tensor, seen: Tensor | None) -> Tensor:
        """x (B, T, C) to the same; ``bias`` and ``seen`` as :class:`GatedAttention` takes them."""
        x = x + self.attention(self.attention_norm(x), bias, seen)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Transformer(StreamingLayer):
    """Convolutional positions and the layers; see :class:`WavLM` for the arguments."""

    def __init__(self, width: int, hidden: int, depth: int, num_heads: int, num_buckets: int, max_distance: int,
                 conv_pos: int, conv_pos_groups: int, causal: bool, window: int, lookahead: int) -> None:
        super().__init__()
        self.num_buckets, self.max_distance = num_buckets, max_distance
        self.causal, self.window, self.chunk = causal, window, 1 + lookahead
        if causal and window <= self.chunk:
            raise ValueError(f"window must exceed lookahead + 1 = {self.chunk}, got {window}")
        self.positional_embedding = ConvPosition(width, conv_pos, conv_pos_groups, causal)
        self.relative_embedding = nn.Embedding(num_buckets, num_heads)
        self.layers = nn.ModuleList(EncoderLayer(width, hidden, num_heads, window - 1) for _ in range(depth))

    def initial_state(self, batch_size: int) -> int:
        """Frames seen so far."""
        return 0

    def bucket(self, distance: Tensor) -> Tensor:
        """T5's buckets of key - query: half for later keys, exact up to a quarter of them, logarithmic beyond."""
        half = self.num_buckets // 2
        exact = half // 2
        size = distance.abs()
        ratio = torch.log(size.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        far = (exact + ratio * (half - exact)).clamp(max=half - 1).long()
        return (distance > 0).long() * half + torch.where(size < exact, size, far)

    def position_bias(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(heads, T, K) of positions Long (T,) and (K,)."""
        return self.relative_embedding(self.bucket(keys - queries[:, None])).permute(2, 0, 1)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, T, C) to the same; frames behind ``lengths`` Long (B,) are not seen."""
        start, count, device = self.stream_state or 0, x.shape[1], x.device
        if start % self.chunk:
            raise ValueError(f"a stream goes on in steps of {self.chunk} frames, but {start} came before; "
                             "only the last chunk may be shorter")
        kept = min(start, self.window - 1) if self.causal else 0  # all of it only for a last chunk of one frame
        queries = torch.arange(start, start + count, device=device)
        keys = torch.arange(start - kept, start + count, device=device)
        total = torch.tensor([start + count], device=device) if lengths is None else lengths
        seen = None
        if self.causal:
            ends = torch.minimum((queries // self.chunk + 1) * self.chunk, total[:, None])[..., None]  # (B, T, 1)
            seen = ((keys < ends) & (keys >= ends - self.window))[:, None]  # (B, 1, T, K)
            if self.stream_state is not None:
                self.stream_state = start + count
        elif lengths is not None:
            mask = length_mask(lengths, count)
            x, seen = torch.where(mask[..., None], x, 0), mask[:, None, None]
        bias = self.position_bias(queries, keys)
        x = x + self.positional_embedding(x.transpose(1, 2)).transpose(1, 2)
        for layer in self.layers:
            x = layer(x, bias, seen)
        return x


class WavLM(nn.Module):
    """Waveforms (B, T) to features (B, F, width).

    Args:
        conv_dims, conv_kernels, conv_strides: of the convolutions.
        width, hidden, depth, num_heads: of the transformer.
        num_buckets, max_distance: of its relative positions.
        conv_pos, conv_pos_groups: kernel and groups of the convolutional positions.
        causal: convolutions see the past (before it, the first frame is repeated), and a frame sees ``window`` frames
            up to the end of its chunk of ``1 + lookahead``; such a model streams in whole chunks.
        window, lookahead: see ``causal``.
    """

    def __init__(self, conv_dims: Sequence[int], conv_kernels: Sequence[int], conv_strides: Sequence[int], *,
                 width: int, hidden: int, depth: int, num_heads: int, num_buckets: int = 320,
                 max_distance: int = 800, conv_pos: int = 128, conv_pos_groups: int = 16, causal: bool = False,
                 window: int = 512, lookahead: int = 3) -> None:
        super().__init__()
        sizes = zip([1, *conv_dims[:-1]], conv_dims, conv_kernels, conv_strides, strict=True)
        self.feature_extractor = nn.ModuleDict({"layers": nn.ModuleList(
            ConvBlock(*size, causal=causal) for size in sizes)})
        self.norm = nn.LayerNorm(conv_dims[-1])
        self.feature_proj = nn.Linear(conv_dims[-1], width)
        self.encoder = Transformer(width, hidden, depth, num_heads, num_buckets, max_distance, conv_pos,
                                   conv_pos_groups, causal, window, lookahead)

    def frames(self, lengths: Tensor) -> Tensor:
        """Frames of clips of ``lengths`` samples, Long (B,)."""
        for layer in self.feature_extractor["layers"]:
            lengths = layer.frames(lengths)
        return lengths

    def convolve(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, T) to (B, F, width), what the transformer reads; ``lengths`` in samples."""
        x = audio[:, None]
        for layer in self.feature_extractor["layers"]:
            x = layer(x if lengths is None else keep_valid(x, length_mask(lengths, x.shape[-1])))
            lengths = None if lengths is None else layer.frames(lengths)
        return self.feature_proj(self.norm(x.transpose(1, 2)))

    def forward(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Features; those behind ``frames(lengths)`` mean nothing."""
        frames = None if lengths is None else self.frames(lengths)
        return self.encoder(self.convolve(audio, lengths), frames)
