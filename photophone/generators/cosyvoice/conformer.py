"""Conformer encoders without convolutions, as CosyVoice has them: relative positions, and chunks of attention.

Papers: Conformer (arXiv 2005.08100), relative positions of Transformer-XL (1901.02860) in ESPnet's two-sided form,
CosyVoice (2407.05407) and its streaming encoder (2412.10117).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.generators.cosyvoice.chunked import Sight, SightMemory, View, WindowCache
from photophone.layers.causal_conv import CausalConv1d
from photophone.layers.transformer import LayerCache


def relative_places(view: View) -> tuple[Tensor, Tensor]:
    """The distances of query and key that occur, Long (D,), and which of them each pair has, Long (N, M).

    In a stream the keys are the prompt and the last chunks, so D does not grow with the distance between these.
    """
    distances = view.queries[:, None] - view.keys
    if view.caches and view.caches[0] is not None:
        return torch.unique(distances, return_inverse=True)
    most = len(view.queries) - 1
    return torch.arange(-most, most + 1, device=distances.device), distances + most


def distance_waves(distances: Tensor, dim: int) -> Tensor:
    """Float32 (D, dim): sines (even channels) and cosines (odd) of signed distances (D,), query minus key."""
    rates = torch.exp(torch.arange(0, dim, 2, device=distances.device).float() * -(math.log(10_000.0) / dim))
    angles = distances.float()[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class RelativeAttention(nn.Module):
    """Self-attention (B, N, C) -> (B, N, C) whose logits add a learned look at the signed distance of query and key.

    Args:
        dim: width C.
        num_heads: heads H; C must be a multiple of it.
        key_bias: of the keys.
    """

    def __init__(self, dim: int, num_heads: int, key_bias: bool = True) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"width {dim} is not a multiple of {num_heads} heads")
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.to_q, self.to_v, self.to_out = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.to_k = nn.Linear(dim, dim, bias=key_bias)
        self.to_position = nn.Linear(dim, dim, bias=False)
        self.content_bias, self.position_bias = (nn.Parameter(torch.empty(num_heads, self.head_dim)) for _ in range(2))
        nn.init.xavier_uniform_(self.content_bias)
        nn.init.xavier_uniform_(self.position_bias)

    def forward(self, x: Tensor, places: tuple[Tensor, Tensor], cache: WindowCache | LayerCache | None = None,
                mask: Tensor | None = None) -> Tensor:
        """places: of :func:`relative_places`, or the result of :meth:`position_table` in the place of the distances;
        mask: Bool, broadcastable to (B, 1, N, M), True where attention is allowed."""
        queries, keys, values = (self._heads(layer(x)) for layer in (self.to_q, self.to_k, self.to_v))
        if cache is not None:
            keys, values = cache.append(keys, values)
        logits = (queries + self.content_bias[:, None]) @ keys.transpose(-2, -1)  # (B, H, N, M)
        logits = logits + self._position_logits(queries + self.position_bias[:, None], *places)
        logits = logits / math.sqrt(self.head_dim)
        if mask is not None:
            logits = logits.masked_fill(~mask, float("-inf"))
        heads = logits.softmax(dim=-1) @ values
        return self.to_out(heads.transpose(1, 2).flatten(2))  # (B, H, N, d) -> (B, N, C)

    def position_table(self, distances: Tensor) -> Tensor:
        """What queries look at in distances (D,), (1, H, D, d)."""
        waves = distance_waves(distances, self.to_position.in_features).to(self.to_position.weight.dtype)
        return self._heads(self.to_position(waves)[None])

    def _position_logits(self, queries: Tensor, distances: Tensor, index: Tensor) -> Tensor:
        table = self.position_table(distances) if distances.ndim == 1 else distances
        logits = queries @ table.transpose(-2, -1)  # (B, H, N, D)
        return logits.gather(-1, index.expand(*logits.shape[:3], -1))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, N, C) -> (B, H, N, d)


class ConformerBlock(nn.Module):
    """Attention and feed-forward, each with a norm in front and a residual: (B, N, C) -> (B, N, C).

    Args:
        dim, num_heads, key_bias: see :class:`RelativeAttention`.
        hidden: width of the feed-forward.
        relu: it has ReLU in the place of SiLU.
    """

    def __init__(self, dim: int, num_heads: int, hidden: int, key_bias: bool = True, relu: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-12), nn.LayerNorm(dim, eps=1e-12)
        self.attention = RelativeAttention(dim, num_heads, key_bias)
        activation = nn.ReLU() if relu else nn.SiLU()
        self.feed_forward = nn.Sequential(nn.Linear(dim, hidden), activation, nn.Linear(hidden, dim))

    def forward(self, x: Tensor, places: tuple[Tensor, Tensor], cache: WindowCache | LayerCache | None,
                mask: Tensor | None) -> Tensor:
        """See :class:`RelativeAttention`."""
        x = x + self.attention(self.norm1(x), places, cache, mask)
        return x + self.feed_forward(self.norm2(x))


class ConformerStack(nn.Module):
    """A projection and blocks: (B, N, in_dim) to (B, N, dim).

    Args:
        in_dim: width of the input.
        dim, num_heads, hidden, key_bias: of the blocks.
        depth: blocks.
        relu: behind the projection and in the blocks, as in the language model of CosyVoice 1.
    """

    def __init__(self, in_dim: int, dim: int, num_heads: int, hidden: int, depth: int, key_bias: bool = True,
                 relu: bool = False) -> None:
        super().__init__()
        self.scale = math.sqrt(dim)
        self.relu = relu
        self.input_proj = nn.Linear(in_dim, dim)
        self.input_norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(ConformerBlock(dim, num_heads, hidden, key_bias, relu) for _ in range(depth))
        self.memory = SightMemory(depth)

    def embed(self, x: Tensor) -> Tensor:
        """The projected input, as the first block reads it."""
        x = self.input_norm(self.input_proj(x))
        return (x.relu() if self.relu else x) * self.scale

    def run(self, x: Tensor, sight: Sight, mask: Tensor | None = None) -> Tensor:
        """The blocks on embedded frames (B, N, dim); ``mask`` Bool (B, N) is False where a row has ended."""
        view = self.memory(x.shape[1], sight, x.device)
        allowed = None if view.mask is None else view.mask[None, None]
        if mask is not None:
            allowed = mask[:, None, None] if allowed is None else allowed & mask[:, None, None]
        places = relative_places(view)
        for block, cache in zip(self.blocks, view.caches, strict=True):
            x = block(x, places, cache, allowed)
        return x


class ConformerEncoder(nn.Module):
    """Tokens' embeddings (B, N, in_dim) to states (B, N, dim): a :class:`ConformerStack` and a norm."""

    def __init__(self, in_dim: int, dim: int, num_heads: int, hidden: int, depth: int, key_bias: bool = True,
                 relu: bool = False) -> None:
        super().__init__()
        self.stack = ConformerStack(in_dim, dim, num_heads, hidden, depth, key_bias, relu)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, sight: Sight, mask: Tensor | None = None) -> Tensor:
        """See :meth:`ConformerStack.run`."""
        return self.norm(self.stack.run(self.stack.embed(x), sight, mask))


class Lookahead(nn.Module):
    """Residual convolutions (B, N, C) -> (B, N, C) that see a few frames ahead, and the past of the second.

    Args:
        dim: C.
        hidden: channels inside.
        ahead: frames ahead that a frame sees.
    """

    def __init__(self, dim: int, hidden: int, ahead: int = 3) -> None:
        super().__init__()
        self.ahead = ahead
        self.conv1 = nn.Conv1d(dim, hidden, ahead + 1)
        self.conv2 = CausalConv1d(hidden, dim, 3)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """``context`` (B, ahead, C) follows x; zeros when None, because x ends."""
        following = x.new_zeros(x.shape[0], self.ahead, x.shape[2]) if context is None else context
        y = self.conv1(torch.cat([x, following], dim=1).transpose(1, 2))  # (B, hidden, N)
        return x + self.conv2(F.leaky_relu(y)).transpose(1, 2)


class UpsampleConformer(nn.Module):
    """CosyVoice 2's encoder: embeddings (B, N, in_dim) to states (B, factor * N, dim), blocks at both rates.

    Args:
        in_dim: width of the input.
        dim, num_heads, hidden, key_bias: of the blocks.
        depth, up_depth: blocks at the rate of the tokens and of the states.
        ahead: of :class:`Lookahead`.
        factor: states a token.
    """

    def __init__(self, in_dim: int, dim: int, num_heads: int, hidden: int, depth: int, up_depth: int = 4,
                 ahead: int = 3, factor: int = 2, key_bias: bool = True) -> None:
        super().__init__()
        self.factor = factor
        self.stack = ConformerStack(in_dim, dim, num_heads, hidden, depth, key_bias)
        self.lookahead = Lookahead(dim, dim, ahead)
        self.upsample = CausalConv1d(dim, dim, 2 * factor + 1)
        self.up_stack = ConformerStack(dim, dim, num_heads, hidden, up_depth, key_bias)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, sight: Sight, mask: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """``context`` (B, ahead, in_dim) follows x, see :class:`Lookahead`; ``mask`` as in :class:`ConformerStack`."""
        following = None if context is None else self.stack.embed(context)
        x = self.stack.run(self.lookahead(self.stack.embed(x), following), sight, mask)
        x = self.upsample(x.transpose(1, 2).repeat_interleave(self.factor, dim=2)).transpose(1, 2)
        mask = None if mask is None else mask.repeat_interleave(self.factor, dim=1)
        return self.norm(self.up_stack.run(self.up_stack.embed(x), sight.scaled(self.factor), mask))
