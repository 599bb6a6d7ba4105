"""The transformer block of Llama: RMS norms and a gated feed-forward, without biases (arXiv 2302.13971)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from photophone.layers.self_attention import SelfAttention
from photophone.layers.transformer import LayerCache

ACTIVATIONS = {"silu": F.silu, "gelu": F.gelu}


class GatedFeedForward(nn.Module):
    """``out(activation(gate(x)) * value(x))``: SwiGLU with "silu", GEGLU with "gelu" (arXiv 2002.05202).

    Args:
        dim: width C of x (..., C) and of the result.
        hidden: width between.
        activation: a name in ACTIVATIONS.
        bias: of all three layers.
    """

    def __init__(self, dim: int, hidden: int, activation: str = "silu", bias: bool = False) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.gate = nn.Linear(dim, hidden, bias=bias)
        self.value = nn.Linear(dim, hidden, bias=bias)
        self.out = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.activation(self.gate(x)) * self.value(x))


class LlamaBlock(nn.Module):
    """Pre-norm attention with rotary positions and SwiGLU, each with a residual; no biases.

    Args:
        dim: width C.
        num_heads: heads.
        hidden: width of the feed-forward.
        eps: of the RMS norms.
    """

    def __init__(self, dim: int, num_heads: int, hidden: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(dim, eps=eps)
        self.attention = SelfAttention(dim, num_heads, bias=False, out_bias=False)
        self.norm2 = nn.RMSNorm(dim, eps=eps)
        self.feed_forward = GatedFeedForward(dim, hidden)

    def forward(self, x: Tensor, mask: Tensor | None = None, rotary: Tensor | None = None,
                cache: LayerCache | None = None) -> Tensor:
        """x (B, N, C) -> (B, N, C); see :class:`photophone.layers.self_attention.SelfAttention`."""
        x = x + self.attention(self.norm1(x), mask, rotary, cache)
        return x + self.feed_forward(self.norm2(x))
