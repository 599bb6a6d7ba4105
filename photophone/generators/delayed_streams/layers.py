"""Embeddings and transformer blocks of delayed streams."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from photophone.layers.attention import attend, merge_heads, split_heads
from photophone.layers.llama_block import GatedFeedForward
from photophone.layers.window_attention import WindowAttention

KeysValues = tuple[Tensor, Tensor]


class WideRMSNorm(nn.Module):
    """An RMS norm in float32, whatever the weights are.

    Args:
        dim: channels.
        eps: added to the mean square.
    """

    def __init__(self, dim: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x (..., dim) to the same."""
        wide = x.float()
        square = self.eps + wide.square().mean(dim=-1, keepdim=True)
        return (wide * (self.weight.float() * torch.rsqrt(square))).to(x.dtype)


class StreamEmbedding(nn.Module):
    """Codes to vectors; code -1 to zeros.

    Args:
        num_codes: rows of the table.
        dim: channels of the result.
        rank: width of the table, which is then projected; None: ``dim``, and no projection.
        two: a code holds two, ``(second + 1) * num_codes + first``: both read the same table and have a projection of
            their own.
    """

    def __init__(self, num_codes: int, dim: int, rank: int | None = None, two: bool = False) -> None:
        super().__init__()
        width = rank or dim
        self.num_codes = num_codes
        self.weight = nn.Parameter(torch.randn(num_codes, width) / width**0.5)
        self.out1 = nn.Linear(width, dim, bias=False) if two else None
        self.out2 = nn.Linear(width, dim, bias=False) if two else None
        self.low_rank = nn.Linear(width, dim, bias=False) if rank is not None and not two else None

    def forward(self, codes: Tensor) -> Tensor:
        """Codes Long (...) to (..., dim)."""
        if self.out1 is None:
            x = self._look_up(codes, codes < 0)
            return x if self.low_rank is None else self.low_rank(x)
        second = codes.clamp(min=0) // self.num_codes - 1
        first = self.out1(self._look_up(codes.clamp(min=0) % self.num_codes, codes < 0))
        ahead = self.out2(self._look_up(second, torch.zeros_like(codes, dtype=torch.bool)))
        return first + torch.where((second < 0)[..., None], 0, ahead)

    def _look_up(self, codes: Tensor, zero: Tensor) -> Tensor:
        return torch.where(zero[..., None], 0, nn.functional.embedding(codes.clamp(min=0), self.weight))


class CrossAttention(nn.Module):
    """Attention to a condition that stays the same for a whole stream; no biases, no positions.

    Args:
        dim: channels of both.
        num_heads: heads.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def keys_values(self, context: Tensor) -> KeysValues:
        """Keys and values (B, H, M, C/H) of a condition (B, M, C)."""
        keys, values = self.to_kv(context).chunk(2, dim=-1)
        return split_heads(keys, self.num_heads), split_heads(values, self.num_heads)

    def forward(self, x: Tensor, known: KeysValues) -> Tensor:
        """x (B, N, C) to the same."""
        return self.to_out(merge_heads(attend(split_heads(self.to_q(x), self.num_heads), *known)))


class StreamBlock(nn.Module):
    """Windowed attention, perhaps cross-attention, and a gated feed-forward, each behind a norm and with a residual.

    Args:
        dim, num_heads, hidden: of the block.
        window: positions that a position sees.
        rotary_base: of the rotary frequencies.
        num_kv_heads: see :class:`photophone.layers.self_attention.SelfAttention`.
        cross: it has cross-attention.
    """

    def __init__(self, dim: int, num_heads: int, hidden: int, window: int | None, rotary_base: float,
                 num_kv_heads: int | None = None, cross: bool = False) -> None:
        super().__init__()
        self.norm1 = WideRMSNorm(dim)
        self.attention = WindowAttention(dim, num_heads, window, rotary_base, num_kv_heads=num_kv_heads)
        self.norm_cross = nn.LayerNorm(dim) if cross else None
        self.cross = CrossAttention(dim, num_heads) if cross else None
        self.norm2 = WideRMSNorm(dim)
        self.feed_forward = GatedFeedForward(dim, hidden)

    def forward(self, x: Tensor, known: KeysValues | None = None) -> Tensor:
        """x (B, N, C) to the same; ``known`` of :meth:`CrossAttention.keys_values`."""
        x = x + self.attention(self.norm1(x))
        if self.cross is not None:
            x = x + self.cross(self.norm_cross(x), known)
        return x + self.feed_forward(self.norm2(x))


class DepthBlock(nn.Module):
    """A block over the codebooks of a frame, which differ in their weights instead of knowing positions.

    Args:
        dim, num_heads, hidden: of the block.
        sets: the set of weights of each codebook.
    """

    def __init__(self, dim: int, num_heads: int, hidden: int, sets: Sequence[int]) -> None:
        super().__init__()
        count = max(sets) + 1
        self.sets = list(sets)
        self.num_heads = num_heads
        self.norm1 = WideRMSNorm(dim)
        self.in_projs = nn.ModuleList(nn.Linear(dim, 3 * dim, bias=False) for _ in range(count))
        self.out_projs = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(count))
        self.norm2 = WideRMSNorm(dim)
        self.feed_forwards = nn.ModuleList(GatedFeedForward(dim, hidden) for _ in range(count))

    def forward(self, x: Tensor, start: int = 0, past: KeysValues | None = None) -> tuple[Tensor, KeysValues]:
        """x (M, K, C) of codebooks ``start`` .. start + K - 1 to the same, and all keys and values so far."""
        heads = split_heads(self._each(self.in_projs, self.norm1(x), start), 3 * self.num_heads)
        queries, keys, values = heads.chunk(3, dim=1)
        if past is not None:
            keys, values = (torch.cat(pair, dim=2) for pair in zip(past, (keys, values)))
        mask = torch.ones(x.shape[1], keys.shape[2], dtype=torch.bool, device=x.device).tril(start)
        x = x + self._each(self.out_projs, merge_heads(attend(queries, keys, values, mask)), start)
        return x + self._each(self.feed_forwards, self.norm2(x), start), (keys, values)

    def _each(self, layers: nn.ModuleList, x: Tensor, start: int) -> Tensor:
        return torch.stack([layers[self.sets[start + place]](x[:, place]) for place in range(x.shape[1])], dim=1)
