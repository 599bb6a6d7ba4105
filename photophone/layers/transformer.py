"""The transformer block that tokenizers, generators and caption encoders share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from photophone.layers.attention import attend, merge_heads, split_heads

Rotation = Callable[[Tensor], Tensor]  # queries or keys (B, H, N, d) to the same, turned by their positions
MakeFeedForward = Callable[[int, int], nn.Module]  # width and hidden width to a module (B, N, C) -> (B, N, C)


class Attention(nn.Module):
    """Multi-head attention with optional RMS-normalised queries and keys.

    Args:
        dim: width C of queries and output.
        num_heads: heads H; C must be a multiple of it.
        context_dim: width of keys and values when they come from another sequence (cross-attention).
        qk_norm: RMS-normalise queries and keys per head (arXiv 2302.05442), which keeps logits bounded.
        qkv_bias: biases of queries, keys and values. A bias of the keys alone changes nothing, because it adds the
            same to all scores of a query: official layers without it have zeros there.
        inner_dim: width of all heads together, C when None.
        out_dim: width of the output, C when None.
    """

    def __init__(self, dim: int, num_heads: int, context_dim: int | None = None, qk_norm: bool = False, *,
                 qkv_bias: bool = True, inner_dim: int | None = None, out_dim: int | None = None) -> None:
        super().__init__()
        inner_dim = inner_dim or dim
        if inner_dim % num_heads:
            raise ValueError(f"width {inner_dim} is not a multiple of {num_heads} heads")
        self.num_heads = num_heads
        self.head_dim = inner_dim // num_heads
        self.to_q = nn.Linear(dim, inner_dim, bias=qkv_bias)
        self.to_kv = nn.Linear(context_dim or dim, 2 * inner_dim, bias=qkv_bias)
        self.to_out = nn.Linear(inner_dim, out_dim or dim)
        self.q_norm = nn.RMSNorm(self.head_dim) if qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(self.head_dim) if qk_norm else nn.Identity()

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values ``(B, H, M, C/H)`` each of a context ``(B, M, C)``; what a cache stores."""
        keys, values = self.to_kv(context).chunk(2, dim=-1)
        return self.k_norm(split_heads(keys, self.num_heads)), split_heads(values, self.num_heads)

    def forward(self, x: Tensor, mask: Tensor | None = None, keys_values: tuple[Tensor, Tensor] | None = None,
                rotate: Rotation | None = None) -> Tensor:
        """``x`` (B, N, C) -> (B, N, C).

        Args:
            mask: bool, broadcastable to (B, H, N, M); True where attention is allowed.
            keys_values: from :meth:`keys_values`, of a context or a cache; None attends to ``x`` itself.
            rotate: rotary embedding of queries and keys.
        """
        keys, values = self.keys_values(x) if keys_values is None else keys_values
        queries = self.q_norm(split_heads(self.to_q(x), self.num_heads))
        if rotate is not None:
            queries = rotate(queries)
            keys = rotate(keys)
        return self.to_out(self.merge(attend(queries, keys, values, mask)))

    def merge(self, heads: Tensor) -> Tensor:
        """The outputs of all heads (B, H, N, C/H) as what the last layer reads: side by side, (B, N, C)."""
        return merge_heads(heads)


def hidden_width(dim: int, ratio: float) -> int:
    """``dim * ratio``, cut off; a ratio that was computed from two widths gives the second one again."""
    return int(dim * ratio + 1e-6)  # such a ratio may lie just below


class FeedForward(nn.Sequential):
    """Linear, GELU (tanh form, or exact), Linear: (B, N, C) -> (B, N, C)."""

    def __init__(self, dim: int, ratio: float = 4.0, exact: bool = False) -> None:
        hidden = hidden_width(dim, ratio)
        super().__init__(nn.Linear(dim, hidden), nn.GELU(approximate="none" if exact else "tanh"),
                         nn.Linear(hidden, dim))


FEED_FORWARDS = ("gelu_tanh", "gelu")
"""Names of the plain feed-forwards: :class:`FeedForward` with the tanh form of GELU, and with the exact one."""


class LayerScale(nn.Module):
    """One learned factor a channel (arXiv 2103.17239): (B, N, C) -> (B, N, C)."""

    def __init__(self, dim: int, start: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), start))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, N, C) to the same."""
        return x * self.gamma


class TransformerBlock(nn.Module):
    """Attention, optional cross-attention, feed-forward, each with a norm in front and a residual.

    Args:
        dim: width C.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward over C.
        context_dim: adds cross-attention to a context of this width.
        qk_norm, qkv_bias: see :class:`Attention`.
        feed_forward: a name of FEED_FORWARDS, or what makes another one from C and its hidden width.
        norm_eps: of all layer normalisations.
        layer_scale: start of a learned factor on what each residual adds; None: no factor.
        post_norm: normalise after each residual instead, as BERT does; without cross-attention.
        inner_dim: width of all heads of the self-attention together, C when None.

    Raises:
        ValueError: for settings that are unknown or exclude each other.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0, context_dim: int | None = None,
                 qk_norm: bool = False, *, qkv_bias: bool = True, feed_forward: str | MakeFeedForward = "gelu_tanh",
                 norm_eps: float = 1e-5, layer_scale: float | None = None, post_norm: bool = False,
                 inner_dim: int | None = None) -> None:
        super().__init__()
        if isinstance(feed_forward, str) and feed_forward not in FEED_FORWARDS:
            raise ValueError(f"feed_forward must be one of {', '.join(FEED_FORWARDS)}, got {feed_forward!r}")
        if post_norm and context_dim is not None:
            raise ValueError("post_norm=True has no cross-attention: leave context_dim=None")
        self.post_norm = post_norm
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attention = Attention(dim, num_heads, qk_norm=qk_norm, qkv_bias=qkv_bias, inner_dim=inner_dim)
        self.cross = None
        if context_dim is not None:
            self.norm_cross = nn.LayerNorm(dim, eps=norm_eps)
            self.cross = Attention(dim, num_heads, context_dim, qk_norm, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        if isinstance(feed_forward, str):
            self.feed_forward = FeedForward(dim, mlp_ratio, exact=feed_forward == "gelu")
        else:
            self.feed_forward = feed_forward(dim, hidden_width(dim, mlp_ratio))
        self.scale1 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.scale2 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None,
                context_mask: Tensor | None = None, cache: LayerCache | None = None,
                rotate: Rotation | None = None) -> Tensor:
        """``x`` (B, N, C) -> (B, N, C).

        Args:
            mask: bool, broadcastable to (B, H, N, M), True where attention is allowed.
            context: (B, L, context_dim) for cross-attention, with ``context_mask`` broadcastable to (B, H, N, L).
            cache: keys and values of the positions before ``x``; those of ``x`` are appended to it.
            rotate: rotary embedding of queries and keys, for calls without a cache.
        """
        if self.post_norm:
            x = self.norm1(x + self.scale1(self.attention(x, mask, rotate=rotate)))
            return self.norm2(x + self.scale2(self.feed_forward(x)))
        normed = self.norm1(x)
        keys_values = self.attention.keys_values(normed)
        if cache is not None:
            keys_values = cache.append(*keys_values)
        x = x + self.scale1(self.attention(normed, mask, keys_values, rotate))
        if self.cross is not None:
            x = x + self.cross(self.norm_cross(x), context_mask, self.cross.keys_values(context))
        return x + self.scale2(self.feed_forward(self.norm2(x)))


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
        start = self.reserve(keys.shape[2])
        self.buffer[0, :, :, start:self.length] = keys
        self.buffer[1, :, :, start:self.length] = values
        return self.stored()

    def reserve(self, count: int) -> int:
        """Make ``count`` more positions part of the cache, for a caller that writes them; the place of the first."""
        start = self.length
        end = self.length + count
        if end > self.buffer.shape[3]:
            raise ValueError(f"{end} positions do not fit a cache of {self.buffer.shape[3]}")
        self.length = end
        return start

    def is_like(self, other: LayerCache) -> bool:
        """Whether the next keys go to the same places of the same kind of buffer as those of another layer."""
        ours, theirs = self.buffer, other.buffer
        return (self.place == other.place and self.seen == other.seen and ours.shape == theirs.shape
                and ours.stride() == theirs.stride() and ours.dtype == theirs.dtype and ours.device == theirs.device)

    @property
    def place(self) -> int:
        """Equal for caches whose next keys go to the same places."""
        return self.length

    @property
    def seen(self) -> int:
        """Places that :meth:`stored` gives."""
        return self.length

    def stored(self) -> tuple[Tensor, Tensor]:
        """All keys and values so far, (B, H, length, head_dim) each."""
        return self.buffer[0, :, :, :self.length], self.buffer[1, :, :, :self.length]

    def truncate(self, length: int) -> None:
        """Forget all positions from ``length`` on: a context that was fed only to be scored, or a rejected draft."""
        self.length = min(self.length, length)


class StaticLayerCache(LayerCache):
    """A cache whose rows have places of their own, in a buffer of one shape: nothing of a step depends on the host.

    A step writes at ``positions`` and sees the first ``span`` places; the caller masks what a row has not filled.

    Attributes:
        positions: Long (B,), where the next keys of each row go; set before each step.
        span: places that :meth:`stored` gives.
    """

    def __init__(self, rows: int, num_heads: int, max_length: int, head_dim: int,
                 device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        super().__init__(rows, num_heads, max_length, head_dim, device, dtype)
        self.positions = torch.zeros(rows, dtype=torch.long, device=device)
        self.span = max_length

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        place = self.positions[:, None] + torch.arange(keys.shape[2], device=keys.device)  # (B, N)
        row = torch.arange(len(place), device=keys.device)[:, None]
        for buffer, new in zip(self.buffer, (keys, values)):
            buffer[row, :, place] = new.transpose(1, 2).to(buffer.dtype)
        return self.stored()

    def rows(self, chosen: slice) -> StaticLayerCache:
        """The same memory, seen as a cache of some rows."""
        part = StaticLayerCache.__new__(StaticLayerCache)
        part.buffer = self.buffer[:, chosen]
        part.positions = self.positions[chosen]
        part.span = self.span
        return part

    def reserve(self, count: int) -> Tensor:
        """The places of the next keys, Long (B,); the caller writes ``count`` from there on."""
        return self.positions

    @property
    def place(self) -> int:
        return id(self.positions)

    @property
    def seen(self) -> int:
        return self.span

    def stored(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the first ``span`` places, (B, H, span, head_dim) each."""
        return self.buffer[0, :, :, :self.span], self.buffer[1, :, :, :self.span]

    def truncate(self, length: int) -> None:
        raise TypeError("a static cache forgets nothing: set the positions back instead")
