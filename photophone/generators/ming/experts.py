"""A Llama whose feed-forward is a mixture of experts, of which text and images choose by gates of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.layers.llama_block import GatedFeedForward
from photophone.layers.placed_llama import rotary_at
from photophone.layers.self_attention import SelfAttention
from photophone.layers.transformer import LayerCache


class ExpertFeedForward(nn.Module):
    """Each position goes through its likeliest experts, weighted, and through those that all share.

    Args:
        dim: width C.
        hidden: width of an expert.
        num_experts, top_experts: experts, and those that a position goes through.
        shared_experts: width of what all share, in experts.
    """

    def __init__(self, dim: int, hidden: int, num_experts: int, top_experts: int, shared_experts: int) -> None:
        super().__init__()
        self.top_experts = top_experts
        self.gate = nn.Linear(dim, num_experts, bias=False)
        self.image_gate = nn.Linear(dim, num_experts, bias=False)
        self.experts = nn.ModuleList(GatedFeedForward(dim, hidden) for _ in range(num_experts))
        self.shared = GatedFeedForward(dim, shared_experts * hidden)

    def choose(self, x: Tensor, images: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weights float32 (B, N, k), which sum to 1, and experts Long (B, N, k) of positions (B, N, C)."""
        logits = self.gate(x)
        if images is not None:
            logits = torch.where(images[..., None], self.image_gate(x), logits)
        weights, chosen = logits.float().softmax(dim=-1).topk(self.top_experts, dim=-1)
        return weights / weights.sum(dim=-1, keepdim=True), chosen

    def forward(self, x: Tensor, images: Tensor | None = None) -> Tensor:
        """x (B, N, C) to the same; images bool (B, N) is True for positions of images that were given."""
        weights, chosen = self.choose(x, images)
        flat, made = x.flatten(0, 1), torch.zeros_like(x).flatten(0, 1)
        for expert in chosen.unique().tolist():
            rows, slots = (chosen.flatten(0, 1) == expert).nonzero(as_tuple=True)
            part = self.experts[expert](flat[rows]) * weights.flatten(0, 1)[rows, slots, None].to(x.dtype)
            made = made.index_add(0, rows, part)
        return made.view_as(x) + self.shared(x)


class ExpertBlock(nn.Module):
    """Pre-norm attention with rotary positions and :class:`ExpertFeedForward`, each with a residual."""

    def __init__(self, dim: int, num_heads: int, num_kv_heads: int, head_dim: int, eps: float,
                 feed_forward: ExpertFeedForward) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(dim, eps=eps)
        self.attention = SelfAttention(dim, num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim, bias=False,
                                       out_bias=False, rotary_halves=True)
        self.norm2 = nn.RMSNorm(dim, eps=eps)
        self.feed_forward = feed_forward

    def forward(self, x: Tensor, seen: Tensor, rotary: Tensor, cache: LayerCache | None = None,
                images: Tensor | None = None) -> Tensor:
        """x (B, N, C) to the same; see :class:`photophone.layers.self_attention.SelfAttention`."""
        x = x + self.attention(self.norm1(x), seen, rotary, cache)
        return x + self.feed_forward(self.norm2(x), images)


class ExpertLlama(nn.Module):
    """Embedded tokens (B, N, C) to normalised states (B, N, C).

    The official positions have three axes, which are equal wherever its generation sets them: one does the same.

    Args:
        dim, depth, num_heads, num_kv_heads, head_dim, eps, rotary_base: of the transformer.
        hidden, num_experts, top_experts, shared_experts: see :class:`ExpertFeedForward`.
    """

    def __init__(self, dim: int, depth: int, num_heads: int, num_kv_heads: int, head_dim: int, hidden: int,
                 num_experts: int, top_experts: int, shared_experts: int, eps: float, rotary_base: float) -> None:
        super().__init__()
        self.num_kv_heads, self.head_dim, self.rotary_base = num_kv_heads, head_dim, rotary_base
        self.blocks = nn.ModuleList(
            ExpertBlock(dim, num_heads, num_kv_heads, head_dim, eps,
                        ExpertFeedForward(dim, hidden, num_experts, top_experts, shared_experts)) for _ in range(depth))
        self.norm = nn.RMSNorm(dim, eps=eps)

    def at(self, x: Tensor, places: Tensor, seen: Tensor, caches: list[LayerCache] | None = None,
           images: Tensor | None = None) -> Tensor:
        """States of embedded tokens (B, n, C) at places Long (B, n), which see what bool (B, 1, n, M) says.

        Args:
            images: bool (B, n), True for positions of images that were given.
        """
        table = rotary_at(places, self.head_dim, self.rotary_base)
        for index, block in enumerate(self.blocks):
            x = block(x, seen, table, None if caches is None else caches[index], images)
        return self.norm(x)

    def caches(self, rows: int, length: int) -> list[LayerCache]:
        """An empty cache of each block."""
        weight = self.norm.weight
        return [LayerCache(rows, self.num_kv_heads, length, self.head_dim, weight.device, weight.dtype)
                for _ in self.blocks]
