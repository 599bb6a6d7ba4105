"""The transformer block that tokenizers, generators and caption encoders share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.layers.attention import attend


class Attention(nn.Module):
    """Multi-head attention with optional RMS-normalised queries and keys.

    Args:
        dim: width C of queries and output.
        num_heads: heads H; C must be a multiple of it.
        context_dim: width of keys and values when they come from another sequence (cross-attention).
        qk_norm: RMS-normalise queries and keys per head (arXiv 2302.05442), which keeps logits bounded.
    """

    def __init__(self, dim: int, num_heads: int, context_dim: int | None = None, qk_norm: bool = False) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"width {dim} is not a multiple of {num_heads} heads")
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.to_q = nn.Linear(dim, dim)
        self.to_kv = nn.Linear(context_dim or dim, 2 * dim)
        self.to_out = nn.Linear(dim, dim)
        self.q_norm = nn.RMSNorm(self.head_dim) if qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(self.head_dim) if qk_norm else nn.Identity()

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values ``(B, H, M, C/H)`` each of a context ``(B, M, C)``; what a cache stores."""
        keys, values = self._heads(self.to_kv(context), 2)
        return self.k_norm(keys), values

    def forward(self, x: Tensor, mask: Tensor | None = None,
                keys_values: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """``x`` (B, N, C) -> (B, N, C).

        Args:
            mask: bool, broadcastable to (B, H, N, M); True where attention is allowed.
            keys_values: from :meth:`keys_values`, of a context or a cache; None attends to ``x`` itself.
        """
        keys, values = self.keys_values(x) if keys_values is None else keys_values
        (queries,) = self._heads(self.to_q(x), 1)
        out = attend(self.q_norm(queries), keys, values, mask)
        return self.to_out(out.transpose(1, 2).flatten(2))  # (B, H, N, C/H) -> (B, N, C)

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        rows, length, _ = x.shape
        x = x.view(rows, length, parts, self.num_heads, self.head_dim)
        return tuple(x.permute(2, 0, 3, 1, 4))  # parts x (B, H, N, C/H)


class FeedForward(nn.Sequential):
    """Linear, GELU (tanh form unless ``exact_gelu``), Linear: (B, N, C) -> (B, N, C)."""

    def __init__(self, dim: int, ratio: float = 4.0, exact_gelu: bool = False) -> None:
        hidden = int(dim * ratio)
        gelu = nn.GELU(approximate="none" if exact_gelu else "tanh")
        super().__init__(nn.Linear(dim, hidden), gelu, nn.Linear(hidden, dim))


class TransformerBlock(nn.Module):
    """Pre-norm attention, optional cross-attention, feed-forward, each with a residual.

    Args:
        dim: width C.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward over C.
        context_dim: adds cross-attention to a context of this width.
        qk_norm: see :class:`Attention`.
        eps: of the layer normalisations.
        exact_gelu: see :class:`FeedForward`.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0, context_dim: int | None = None,
                 qk_norm: bool = False, eps: float = 1e-5, exact_gelu: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attention = Attention(dim, num_heads, qk_norm=qk_norm)
        self.cross = None
        if context_dim is not None:
            self.norm_cross = nn.LayerNorm(dim, eps=eps)
            self.cross = Attention(dim, num_heads, context_dim, qk_norm)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.feed_forward = FeedForward(dim, mlp_ratio, exact_gelu)

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None,
                context_mask: Tensor | None = None, cache: LayerCache | None = None) -> Tensor:
        """``x`` (B, N, C) -> (B, N, C).

        Args:
            mask: bool, broadcastable to (B, H, N, M), True where attention is allowed.
            context: (B, L, context_dim) for cross-attention, with ``context_mask`` broadcastable to (B, H, N, L).
            cache: keys and values of the positions before ``x``; those of ``x`` are appended to it.
        """
        normed = self.norm1(x)
        keys_values = self.attention.keys_values(normed)
        if cache is not None:
            keys_values = cache.append(*keys_values)
        x = x + self.attention(normed, mask, keys_values)
        if self.cross is not None:
            x = x + self.cross(self.norm_cross(x), context_mask, self.cross.keys_values(context))
        return x + self.feed_forward(self.norm2(x))


class LayerCache:
    """Preallocated keys and values of one causal layer.

    Args:
        rows, num_heads, max_length, head_dim: the buffer's shape (B, H, max_length, head_dim), twice.
    """

    def __init__(self, rows: int, num_heads: int, max_length: int, head_dim: int,
                 device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        shape = (2, rows, num_heads, max_length, head_dim)
        self.buffer = torch.zeros(shape, device=device, dtype=dtype)
        self.length = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store (B, H, N, head_dim) after what is there and return all keys and values so far."""
        end = self.length + keys.shape[2]
        if end > self.buffer.shape[3]:
            raise ValueError(f"{end} positions do not fit a cache of {self.buffer.shape[3]}")
        self.buffer[0, :, :, self.length:end] = keys
        self.buffer[1, :, :, self.length:end] = values
        self.length = end
        return self.buffer[0, :, :, :end], self.buffer[1, :, :, :end]

    def truncate(self, length: int) -> None:
        """Forget all positions from ``length`` on: a context that was fed only to be scored, or a rejected draft."""
        self.length = min(self.length, length)
