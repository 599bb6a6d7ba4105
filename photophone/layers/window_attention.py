"""Causal self-attention over a window of the past that works on whole sequences and chunk by chunk."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.kernels.rotary import rotate
from photophone.layers.attention import attend, merge_heads
from photophone.layers.rotary import sequence_rotary
from photophone.layers.self_attention import SelfAttention
from photophone.layers.streaming import StreamingLayer
from photophone.layers.transformer import LayerScale

TABLE = 1024
"""Positions of the least rotary table; longer ones double, so that few are made. Tables begin at multiples of it, so
that an endless stream needs no more memory than a short one."""


def rotary_slice(start: int, end: int, head_dim: int, base: float, device: torch.device) -> Tensor:
    """The table (end - start, head_dim / 2, 2) of positions start .. end - 1."""
    first, length = start - start % TABLE, TABLE
    while first + length < end:
        length *= 2
    return sequence_rotary(length, head_dim, base, device=device, start=first)[start - first:end - first]


def window_mask(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    """Bool (queries, keys): a query sees itself and the ``window - 1`` keys before it; the last query is the last key.

    Args:
        window: None: all keys before it.
    """
    back = torch.arange(keys - queries, keys, device=device)[:, None] - torch.arange(keys, device=device)
    return (back >= 0) if window is None else (back >= 0) & (back < window)


class WindowAttention(StreamingLayer, SelfAttention):
    """Self-attention (B, N, C) -> (B, N, C) without biases, rotary by position, over a window of the past.

    Args:
        dim, num_heads, options: see :class:`photophone.layers.self_attention.SelfAttention`.
        window: positions that a position sees, itself included; None: all before it.
        rotary_base: of the rotary frequencies.
    """

    def __init__(self, dim: int, num_heads: int, window: int | None = None, rotary_base: float = 10_000.0,
                 **options) -> None:
        super().__init__(dim, num_heads, bias=False, out_bias=False, **options)
        self.window = window
        self.rotary_base = rotary_base

    def initial_state(self, batch_size: int) -> tuple[Tensor, Tensor, int]:
        """No keys, no values, and position 0."""
        empty = self.to_qkv.weight.new_zeros(batch_size, self.num_kv_heads, 0, self.head_dim)
        return empty, empty, 0

    def forward(self, x: Tensor) -> Tensor:
        """x (B, N, C) -> (B, N, C); in a stream, the next N positions."""
        heads = self.to_qkv(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        queries, keys, values = heads.split([self.num_heads, self.num_kv_heads, self.num_kv_heads], dim=1)
        start = 0 if self.stream_state is None else self.stream_state[2]
        end = start + x.shape[1]
        rotary = rotary_slice(start, end, self.head_dim, self.rotary_base, x.device)
        queries, keys = (rotate(part, rotary, self.rotary_halves) for part in (queries, keys))
        if self.stream_state is not None:
            past_keys, past_values, _ = self.stream_state
            keys = torch.cat([past_keys.to(keys), keys], dim=2)
            values = torch.cat([past_values.to(values), values], dim=2)
            kept = keys.shape[2] if self.window is None else min(self.window - 1, keys.shape[2])
            first = keys.shape[2] - kept
            self.stream_state = keys[:, :, first:], values[:, :, first:], end
        mask = window_mask(x.shape[1], keys.shape[2], self.window, x.device)
        return self.to_out(merge_heads(attend(queries, keys, values, mask)))


class LayerNormBlock(nn.Module):
    """Pre-norm attention and feed-forward with layer norms, GELU, and no other biases.

    Args:
        attention: maps (B, N, C), and what else it takes, to (B, N, C).
        dim: width C.
        hidden: width of the feed-forward.
        layer_scale: start of a learned factor on what each residual adds; None: no factor.
        exact: the exact GELU instead of its tanh form.
    """

    def __init__(self, attention: nn.Module, dim: int, hidden: int, *, layer_scale: float | None = None,
                 exact: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = attention
        self.norm2 = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, hidden, bias=False),
                                          nn.GELU(approximate="none" if exact else "tanh"),
                                          nn.Linear(hidden, dim, bias=False))
        self.scale1 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.scale2 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)

    def forward(self, x: Tensor, *arguments) -> Tensor:
        """x (B, N, C) -> (B, N, C); ``arguments`` are those of the attention behind its x."""
        x = x + self.scale1(self.attention(self.norm1(x), *arguments))
        return x + self.scale2(self.feed_forward(self.norm2(x)))


KYUTAI_NAMES = [(r"\.layers\.", ".blocks."), (r"\.self_attn\.in_proj(_|\.)weight$", ".attention.to_qkv.weight"),
                (r"\.self_attn\.out_proj\.", ".attention.to_out."), (r"\.linear1\.", ".feed_forward.0."),
                (r"\.linear2\.", ".feed_forward.2."), (r"\.layer_scale_(\d)\.scale$", r".scale\1.gamma")]
"""Official names of such a block, in a stack named "layers", and ours: rules of
:func:`photophone.loading.checkpoints.rename_keys`."""
