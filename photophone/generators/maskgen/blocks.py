"""The joint blocks of MaskGen, those of Stable Diffusion 3 (arXiv 2403.03206): picture and caption, side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.kernels.adaln import gate_residual
from photophone.layers.adaln import Modulation, adaln_projection, modulated_norm, residual_norm
from photophone.layers.attention import attend, merge_heads
from photophone.layers.transformer import FeedForward
from photophone.layers.vqgan_keys import join_qkv
from photophone.loading.checkpoints import State, rename_keys

EPS = 1e-6
KEYS = [
    (r"(blocks\.\d+\.)norm1\.linear\.", r"\1image.modulation.1."),
    (r"(blocks\.\d+\.)norm1_context\.linear\.", r"\1text.modulation.1."),
    (r"(blocks\.\d+\.)attn\.to_([qkv])\.", r"\1image.\2."),
    (r"(blocks\.\d+\.)attn\.add_([qkv])_proj\.", r"\1text.\2."),
    (r"(blocks\.\d+\.)attn\.to_out\.0\.", r"\1image.to_out."),
    (r"(blocks\.\d+\.)attn\.to_add_out\.", r"\1text.to_out."),
    (r"(blocks\.\d+\.)ff\.net\.0\.proj\.", r"\1image.feed_forward.0."),
    (r"(blocks\.\d+\.)ff\.net\.2\.", r"\1image.feed_forward.2."),
    (r"(blocks\.\d+\.)ff_context\.net\.0\.proj\.", r"\1text.feed_forward.0."),
    (r"(blocks\.\d+\.)ff_context\.net\.2\.", r"\1text.feed_forward.2."),
]
"""Patterns of keys of diffusers' blocks and what stands for them here."""


def convert_joint_keys(state: State) -> State:
    """Keys of diffusers' joint blocks to those of :class:`JointBlock`; other keys stay."""
    return join_qkv(rename_keys(state, KEYS))


def plain_norm(dim: int) -> nn.LayerNorm:
    """A layer normalisation without weights, which a condition modulates."""
    return nn.LayerNorm(dim, eps=EPS, elementwise_affine=False)


class JointStream(nn.Module):
    """One of the two sequences of a block, with weights of its own.

    Args:
        dim: width C.
        num_heads: of the attention.
        ends: nothing reads this sequence behind the block, so that it only gives keys and values.
    """

    def __init__(self, dim: int, num_heads: int, ends: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = plain_norm(dim)
        self.modulation = adaln_projection(dim, 2 if ends else 6)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.to_out = None if ends else nn.Linear(dim, dim)
        self.feed_forward = None if ends else FeedForward(dim)

    def modulate(self, condition: Tensor) -> Modulation:
        """What a condition (B, 1, C) sets; at an end only its first two, in the official order scale, shift."""
        parts = self.modulation(condition)
        if self.to_out is None:
            scale, shift = parts.chunk(2, dim=-1)
            return Modulation(shift, scale, *[None] * 4)
        return Modulation(*parts.chunk(6, dim=-1))

    def heads(self, x: Tensor, modulation: Modulation) -> Tensor:
        """Queries, keys and values (3, B, H, N, C/H) of x (B, N, C)."""
        normed = modulated_norm(self.norm, x, modulation.shift1, modulation.scale1)
        return self.qkv(normed).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)

    def finish(self, x: Tensor, attended: Tensor, modulation: Modulation) -> Tensor:
        """x (B, N, C) with what its places attended to and the feed-forward added; as it is at an end."""
        if self.to_out is None:
            return x
        x, normed = residual_norm(self.norm, x, modulation.gate1, self.to_out(attended), modulation.shift2,
                                  modulation.scale2)
        return gate_residual(x, modulation.gate2, self.feed_forward(normed))


class JointBlock(nn.Module):
    """Attention over a picture and its caption together, then a feed-forward each.

    Args:
        dim, num_heads: see :class:`JointStream`.
        last: the caption ends here.
    """

    def __init__(self, dim: int, num_heads: int, last: bool = False) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"width {dim} is not a multiple of {num_heads} heads")
        self.image = JointStream(dim, num_heads)
        self.text = JointStream(dim, num_heads, ends=last)

    def forward(self, x: Tensor, text: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Picture x (B, N, C) and caption (B, T, C), modulated by a condition (B, 1, C), to the same shapes."""
        image_set, text_set = self.image.modulate(condition), self.text.modulate(condition)
        both = torch.cat([self.image.heads(x, image_set), self.text.heads(text, text_set)], dim=3)
        attended = merge_heads(attend(*both))  # (B, N + T, C)
        first, second = attended.split([x.shape[1], text.shape[1]], dim=1)
        return self.image.finish(x, first, image_set), self.text.finish(text, second, text_set)
