"""A loss that shows one head of attention where to look: guided attention (arXiv 1710.08969), by known spans."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from photophone.kernels.rotary import rotate
from photophone.layers.self_attention import SelfAttention


class AttentionGuide:
    """Watches an attention layer; :meth:`loss` then says how much its first head looks beside what it should see.

    Args:
        attention: the layer. It is called with a mask and a rotary table in each pass.
    """

    def __init__(self, attention: SelfAttention) -> None:
        self.attention, self.seen = attention, None
        attention.register_forward_pre_hook(self._see)

    def _see(self, _: SelfAttention, given: tuple) -> None:
        if torch.is_grad_enabled():
            self.seen = given[:3]

    def loss(self, inside: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of -log of the attention, in the last pass, on what should be seen, and that share itself.

        Args:
            inside: bool (B, L, L), for each position those that it should look at; where none can be seen, nothing is
                asked.
        """
        (x, mask, rotary), own = self.seen, self.attention
        self.seen = None
        heads = own.to_qkv(x).unflatten(-1, (-1, own.head_dim)).transpose(1, 2)
        queries, keys = (rotate(heads[:, place:place + 1], rotary, own.rotary_halves)[:, 0].float()
                         for place in (0, own.num_heads))
        scores = queries @ keys.transpose(1, 2) / math.sqrt(own.head_dim)
        scores = scores.masked_fill(~mask[:, 0], float("-inf"))
        inside = inside & mask[:, 0]
        asked = inside.any(-1)
        looked = scores.masked_fill(~inside, float("-inf"))[asked].logsumexp(-1) - scores[asked].logsumexp(-1)
        return -looked.mean(), looked.exp().mean().detach()
