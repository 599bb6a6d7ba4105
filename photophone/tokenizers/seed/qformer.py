"""The Q-Former of BLIP-2 (arXiv 2301.12597): learned queries read an image; causal among themselves in SEED."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.layers.transformer import Attention, FeedForward
from photophone.layers.vit_keys import convert_vit_keys
from photophone.loading.checkpoints import State, rename_keys

EPS = 1e-12


class QFormerBlock(nn.Module):
    """Self-attention, perhaps cross-attention, feed-forward, each with a norm behind its residual.

    Args:
        width, num_heads, hidden: of the block.
        context_dim: width of what the cross-attention reads; None: there is none.
    """

    def __init__(self, width: int, num_heads: int, hidden: int, context_dim: int | None) -> None:
        super().__init__()
        self.attention = Attention(width, num_heads)
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.cross = None
        if context_dim is not None:
            self.cross = Attention(width, num_heads, context_dim)
            self.norm_cross = nn.LayerNorm(width, eps=EPS)
        self.feed_forward = FeedForward(width, hidden / width, exact=True)
        self.norm2 = nn.LayerNorm(width, eps=EPS)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, N, W) and context (B, M, context_dim) to (B, N, W); mask bool (N, N)."""
        x = self.norm1(x + self.attention(x, mask))
        if self.cross is not None:
            x = self.norm_cross(x + self.cross(x, keys_values=self.cross.keys_values(context)))
        return self.norm2(x + self.feed_forward(x))


class QFormer(nn.Module):
    """A context (B, M, context_dim) to what each query says of it, (B, N, W); every second block reads it.

    Args:
        num_queries: N.
        context_dim: width of the context.
        width, depth, num_heads, hidden: of the blocks.
        causal: a query sees itself and those before it.
    """

    def __init__(self, num_queries: int, context_dim: int, width: int, depth: int, num_heads: int, hidden: int, *,
                 causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.queries = nn.Parameter(torch.randn(num_queries, width) * 0.02)
        self.norm_in = nn.LayerNorm(width, eps=EPS)
        self.blocks = nn.ModuleList(QFormerBlock(width, num_heads, hidden, None if index % 2 else context_dim)
                                    for index in range(depth))

    def forward(self, context: Tensor) -> Tensor:
        """See the class."""
        x = self.norm_in(self.queries).expand(len(context), -1, -1)
        count = len(self.queries)
        mask = torch.ones(count, count, dtype=torch.bool, device=x.device).tril() if self.causal else None
        for block in self.blocks:
            x = block(x, context, mask)
        return x


def convert_qformer_keys(state: State) -> State:
    """Official keys of BERT with queries, under any prefix, to those of :class:`QFormer`."""
    state = rename_keys(state, [
        (r"\bbert\.embeddings\.LayerNorm\.", "norm_in."), (r"\bbert\.encoder\.layer\.", "blocks."),
        (r"\bintermediate_query\.", "intermediate."), (r"\boutput_query\.", "output."),
        (r"\bcrossattention\.output\.LayerNorm\.", "norm_cross."),
        (r"\bcrossattention\.", "cross.attention.")])
    return rename_keys(convert_vit_keys(state), [(r"\bcross\.attention\.", "cross.")])
