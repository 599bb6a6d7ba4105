"""A local diffusion transformer that reads its condition as tokens in front of the noisy patch: the DiTAR design.

Papers: DiTAR (arXiv 2502.03930), VoxCPM (2509.24650). Beside :mod:`photophone.heads.local_dit`, which adds the
condition to each token and modulates by the time, here condition, time and the patch before are tokens of one sequence
with full attention.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from photophone.heads.base import ConditionedNetwork
from photophone.heads.flow import FlowHead
from photophone.layers.embeddings import TimestepEmbedding
from photophone.layers.llama_block import LlamaStack
from photophone.layers.rotary import sequence_rotary


def pack_condition(states: Tensor, previous: Tensor) -> Tensor:
    """What :class:`PrefixDiT` is conditioned on, (M, P, C + D): states (M, C) for a whole patch beside the patch
    before (M, P, D)."""
    return torch.cat([states[:, None].expand(-1, previous.shape[1], -1), previous.to(states.dtype)], dim=-1)


class PrefixDiT(ConditionedNetwork):
    """Velocities of a patch of P tokens from the sequence [states][time][patch before][noisy patch].

    Args:
        token_dim: channels D of a token.
        num_states: vectors of ``width`` channels that the states hold; C is their product.
        patch_size: P.
        width, depth, num_heads, hidden, block_options: of the transformer, see
            :class:`photophone.layers.llama_block.LlamaStack`.
        time_token: the time is a token of its own, else it is added to the only state.
        rotary_options: base, factors and scale of :func:`photophone.layers.rotary.sequence_rotary`.

    Raises:
        ValueError: for several states without a token for the time.
    """

    def __init__(self, token_dim: int, num_states: int, patch_size: int, *, width: int, depth: int, num_heads: int,
                 hidden: int, block_options: dict | None = None, time_token: bool = False,
                 rotary_options: dict | None = None) -> None:
        super().__init__()
        if num_states != 1 and not time_token:
            raise ValueError(f"{num_states} states need a token for the time: time_token=True")
        self.num_states = num_states
        self.patch_size = patch_size
        self.time_token = time_token
        self.input_proj = nn.Linear(token_dim, width)
        self.previous_proj = nn.Linear(token_dim, width)
        self.time_embed = TimestepEmbedding(width, width, 1000.0, sine_first=True)
        self.step_embed = TimestepEmbedding(width, width, 1000.0, sine_first=True)
        self.transformer = LlamaStack(width, num_heads, hidden, depth, **(block_options or {}))
        self.output_proj = nn.Linear(width, token_dim)
        head_dim = self.transformer.blocks[0].attention.head_dim
        total = num_states + time_token + 2 * patch_size
        self.rotary = partial(sequence_rotary, total, head_dim, **(rotary_options or {}))

    def project(self, condition: Tensor) -> Tensor:
        """A condition (M, P, C + D) of :func:`pack_condition` to tokens (M, num_states + P, width)."""
        width = self.num_states * self.input_proj.out_features
        if condition.shape[1] != self.patch_size:
            raise ValueError(f"a patch has {self.patch_size} tokens, the condition is {tuple(condition.shape)}")
        states = condition[:, 0, :width].unflatten(-1, (self.num_states, -1))
        return torch.cat([states, self.previous_proj(condition[..., width:])], dim=1)

    def denoise(self, x: Tensor, t: Tensor, projected: Tensor, ends: Tensor | None = None) -> Tensor:
        """x (M, P, D) at times (1,) or (M,) to velocities (M, P, D)."""
        states, previous = projected.split([self.num_states, self.patch_size], dim=1)
        # weights of MeanFlow would be told the step; for the velocity at t it is 0, whose embedding is not
        time = (self.embed_times(t, ends) + self.step_embed(torch.zeros_like(t)))[:, None].expand(len(x), -1, -1)
        front = [states, time] if self.time_token else [states + time]
        tokens = torch.cat([*front, previous, self.input_proj(x)], dim=1)
        hidden = self.transformer(tokens, rotary=self.rotary(device=x.device))
        return self.output_proj(hidden[:, -self.patch_size:])


class PrefixDiTHead(FlowHead):
    """Flow head whose velocity network is a :class:`PrefixDiT`; hidden (M, P, C + D) as :func:`pack_condition` makes
    it, one row a patch.

    Args:
        token_dim, patch_size: D and P.
        num_states: see :class:`PrefixDiT`.
        network: its further arguments.
        flow: further arguments of :class:`~photophone.heads.flow.FlowHead`; the tokens of a patch share one time.
    """

    def __init__(self, token_dim: int, patch_size: int, num_states: int, network: dict, **flow) -> None:
        net = PrefixDiT(token_dim, num_states, patch_size, **network)
        super().__init__(num_states * network["width"] + token_dim, token_dim, network=net, tokens_per_time=None,
                         **flow)
