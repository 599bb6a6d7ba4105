"""The transformer block that tokenizers, generators and caption encoders share."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.layers.attention import attend

Rotation = Callable[[Tensor], Tensor]  # queries or keys (B, H, N, d) to the same, turned by their positions


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
        keys, values = self._heads(self.to_kv(context), 2)
        return self.k_norm(keys), values

    def forward(self, x: Tensor, mask: Tensor | None = None, keys_values: tuple[Tensor, Tensor] | None = None,
                rotate: Rotation | None = None) -> Tensor:
        """``x`` (B, N, C) -> (B, N, C).

        Args:
            mask: bool, broadcastable to (B, H, N, M); True where attention is allowed.
            keys_values: from :meth:`keys_values`, of a context or a cache; None attends to ``x`` itself.
            rotate: rotary embedding of queries and keys.
        """
        keys, values = self.keys_values(x) if keys_values is None else keys_values
        (queries,) = self._heads(self.to_q(x), 1)
        queries = self.q_norm(queries)
        if rotate is not None:
            queries, keys = rotate(queries), rotate(keys)
        return self.to_out(self.merge(attend(queries, keys, values, mask)))

    def merge(self, heads: Tensor) -> Tensor:
        """The outputs of all heads (B, H, N, C/H) side by side, (B, N, C)."""
        return heads.transpose(1, 2).flatten(2)

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        rows, length, _ = x.shape
        x = x.view(rows, length, parts, self.num_heads, self.head_dim)
        return tuple(x.permute(2, 0, 3, 1, 4))  # parts x (B, H, N, C/H)


class FeedForward(nn.Sequential):
    """Linear, GELU (tanh form, or exact), Linear: (B, N, C) -> (B, N, C)."""

    def __init__(self, dim: int, ratio: float = 4.0, exact: bool = False) -> None:
        hidden = int(dim * ratio + 1e-6)  # the ratio of two widths may lie just below
        super().__init__(nn.Linear(dim, hidden), nn.GELU(approximate="none" if exact else "tanh"),
                         nn.Linear(hidden, dim))


class GatedFeedForward(nn.Module):
    """``down(f(gate(x)) * up(x))`` (arXiv 2002.05202): (B, N, C) -> (B, N, C).

    Args:
        dim: width C.
        hidden: width inside.
        activation: f: "silu" for SwiGLU, "gelu_tanh" for GEGLU.
        norm_eps: adds a layer normalisation in front, as ViTamin has; None: none.
    """

    def __init__(self, dim: int, hidden: int, activation: str = "silu", norm_eps: float | None = None) -> None:
        super().__init__()
        if activation not in ("silu", "gelu_tanh"):
            raise ValueError(f"activation must be 'silu' or 'gelu_tanh', got {activation!r}")
        self.activation = activation
        self.norm = nn.Identity() if norm_eps is None else nn.LayerNorm(dim, eps=norm_eps)
        self.gate, self.up = nn.Linear(dim, hidden), nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        gate = self.gate(x)
        gate = F.silu(gate) if self.activation == "silu" else F.gelu(gate, approximate="tanh")
        return self.down(gate * self.up(x))


FEED_FORWARDS: dict[str, Callable[[int, float, float], nn.Module]] = {
    "gelu_tanh": lambda dim, ratio, _: FeedForward(dim, ratio),
    "gelu": lambda dim, ratio, _: FeedForward(dim, ratio, exact=True),
    "swiglu": lambda dim, ratio, _: GatedFeedForward(dim, int(dim * ratio + 1e-6)),
    "normed_geglu": lambda dim, ratio, eps: GatedFeedForward(dim, int(dim * ratio + 1e-6), "gelu_tanh", eps),
}
"""Feed-forwards by name, from (width, hidden width over it, eps of a norm inside)."""


class LayerScale(nn.Module):
    """One learned factor a channel (arXiv 2103.17239): (B, N, C) -> (B, N, C)."""

    def __init__(self, dim: int, start: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class TransformerBlock(nn.Module):
    """Attention, optional cross-attention, feed-forward, each with a norm in front and a residual.

    Args:
        dim: width C.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward over C.
        context_dim: adds cross-attention to a context of this width.
        qk_norm, qkv_bias: see :class:`Attention`.
        feed_forward: a name of FEED_FORWARDS.
        norm_eps: of all layer normalisations.
        layer_scale: start of a learned factor on what each residual adds; None: no factor.
        post_norm: normalise after each residual instead, as BERT does; without cross-attention.
        inner_dim: width of all heads of the self-attention together, C when None.

    Raises:
        ValueError: for settings that are unknown or exclude each other.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0, context_dim: int | None = None,
                 qk_norm: bool = False, *, qkv_bias: bool = True, feed_forward: str = "gelu_tanh",
                 norm_eps: float = 1e-5, layer_scale: float | None = None, post_norm: bool = False,
                 inner_dim: int | None = None) -> None:
        super().__init__()
        if feed_forward not in FEED_FORWARDS:
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
        self.feed_forward = FEED_FORWARDS[feed_forward](dim, mlp_ratio, norm_eps)
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
        start, end = self.length, self.length + count
        if end > self.buffer.shape[3]:
            raise ValueError(f"{end} positions do not fit a cache of {self.buffer.shape[3]}")
        self.length = end
        return start

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
        part.buffer, part.positions, part.span = self.buffer[:, chosen], self.positions[chosen], self.span
        return part

    def reserve(self, count: int) -> Tensor:
        """The places of the next keys, Long (B,); the caller writes ``count`` from there on."""
        return self.positions

    @property
    def seen(self) -> int:
        return self.span

    def stored(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the first ``span`` places, (B, H, span, head_dim) each."""
        return self.buffer[0, :, :, :self.span], self.buffer[1, :, :, :self.span]

    def truncate(self, length: int) -> None:
        raise TypeError("a static cache forgets nothing: set the positions back instead")
