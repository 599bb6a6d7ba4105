"""Local diffusion transformer: a flow head over cells of k tokens.

The idea of DiTAR (arXiv 2502.03930) and xAR (arXiv 2502.20388): the backbone says what a cell holds, a small
transformer with full attention inside the cell draws its tokens together, so they fit each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.heads.base import ConditionedNetwork
from photophone.heads.flow import FlowHead
from photophone.layers.adaln import AdaLNFinalLayer, Modulation, adaln_projection, modulated_block, modulated_norm
from photophone.layers.attention import attend, merge_heads
from photophone.layers.embeddings import TimestepEmbedding
from photophone.layers.transformer import FeedForward


class LocalDiTBlock(nn.Module):
    """Pre-norm transformer block with adaLN-zero modulation given from outside.

    Args:
        width: channels W, a multiple of ``num_heads``.
        mlp_ratio: hidden channels of the MLP over W.
        shared_adaln: the modulation comes from one projection that all blocks share, and this block adds its own
            learned offsets to it (PixArt, arXiv 2310.00426); else the block has a projection of its own.
        repeats: how many times the block is used in one pass; each use has its own offsets.
    """

    def __init__(self, width: int, num_heads: int, mlp_ratio: float, shared_adaln: bool, repeats: int = 1) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.RMSNorm(width // num_heads, eps=1e-6)
        self.k_norm = nn.RMSNorm(width // num_heads, eps=1e-6)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp = FeedForward(width, mlp_ratio)
        self.modulation = None if shared_adaln else adaln_projection(width, 6)
        self.offsets = nn.Parameter(torch.zeros(repeats, 6 * width)) if shared_adaln else None

    def modulate(self, condition: Tensor, use: int = 0) -> Modulation:
        """The modulation, each part ``(1 or M, 1, W)``, from a condition of that shape, or ``(1 or M, 1, 6W)`` from
        the shared projection; ``use`` counts the uses of this block in one pass."""
        sixths = condition + self.offsets[use] if self.modulation is None else self.modulation(condition)
        return Modulation(*sixths.chunk(6, dim=-1))

    def forward(self, x: Tensor, modulation: Modulation) -> Tensor:
        """x ``(M, k, W)`` to the same, modulated as :meth:`modulate` says."""
        return modulated_block(x, modulation, self.norm1, self.attend, self.norm2, self.mlp)

    def attend(self, x: Tensor) -> Tensor:
        """Full attention among the k tokens of each cell, x ``(M, k, W)``."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (M, k, 3, H, W / H)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4)  # (M, H, k, W / H) each
        queries = _normed(self.q_norm, queries)
        keys = _normed(self.k_norm, keys)
        return self.proj(merge_heads(attend(queries, keys, values)))


def _normed(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """The norm of x in the dtype of x: under autocast the module itself would give another than the values have."""
    return F.rms_norm(x, x.shape[-1:], norm.weight.to(x.dtype), norm.eps).to(x.dtype)


class PassModulation(NamedTuple):
    """What the times of one pass through a :class:`LocalDiT` set."""

    blocks: list[Modulation]  # of each use of each block, in order
    shift: Tensor  # of the last layer, (1 or M, 1, W)
    scale: Tensor


class LocalDiT(ConditionedNetwork):
    """Velocity network over cells: each token sees its own hidden state and, by attention, the rest of its cell.

    Args:
        token_dim: channels D of a token.
        cond_dim: channels C of the hidden states.
        width, depth, num_heads, mlp_ratio: of the transformer.
        cell_size: tokens k of a cell; the sequence length must be a multiple.
        shared_adaln: see :class:`LocalDiTBlock`; saves ``6 * width**2`` parameters for each block but one.
        repeats: passes through the blocks: more depth from the same weights (arXiv 1807.03819).
    """

    def __init__(self, token_dim: int, cond_dim: int, width: int, depth: int, num_heads: int, cell_size: int,
                 mlp_ratio: float = 4.0, shared_adaln: bool = True, repeats: int = 1) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} is not a multiple of num_heads {num_heads}")
        if cell_size < 1:
            raise ValueError(f"cell_size must be at least 1, got {cell_size}")
        self.cell_size = cell_size
        self.input_proj = nn.Linear(token_dim, width)
        self.cond_embed = nn.Linear(cond_dim, width)
        self.position = nn.Parameter(0.02 * torch.randn(cell_size, width))
        self.time_embed = TimestepEmbedding(width, time_scale=1000.0)
        self.shared_modulation = adaln_projection(width, 6) if shared_adaln else None
        self.repeats = repeats
        self.blocks = nn.ModuleList(LocalDiTBlock(width, num_heads, mlp_ratio, shared_adaln, repeats)
                                    for _ in range(depth))
        self.final_layer = AdaLNFinalLayer(width, token_dim)
        self._memories: list[dict[tuple, PassModulation]] = []  # one for each remember_times() that lasts

    @contextmanager
    def remember_times(self) -> Iterator[None]:
        """While it lasts, the modulations of each time of a solver are computed once; they go with the context.

        Contexts may overlap, as those of several streams do: the latest memory is used.
        """
        memory: dict[tuple, PassModulation] = {}
        self._memories.append(memory)
        try:
            yield
        finally:
            self._memories = [other for other in self._memories if other is not memory]

    def modulations(self, t: Tensor, cells: int, count: int, ends: Tensor | None = None) -> PassModulation:
        """What the times of a pass set in its blocks and in the last layer.

        Args:
            t: times ``(1,)``, one a sequence, or one for each of ``count`` cells.
            cells: of a sequence.
            ends: see :meth:`~photophone.heads.base.ConditionedNetwork.denoise`.
        """
        # one time on the host is cheap to compare; what is kept must not hold a graph
        if not self._memories or t.shape != (1,) or t.device.type != "cpu" or torch.is_grad_enabled():
            return self._computed_modulations(t, cells, count, ends)
        memory = self._memories[-1]
        key = (float(t), t.dtype, self.position.dtype, None if ends is None else tuple(ends[0].tolist()))
        if key not in memory:
            memory[key] = self._computed_modulations(t, cells, count, ends)
        return memory[key]

    def _computed_modulations(self, t: Tensor, cells: int, count: int, ends: Tensor | None) -> PassModulation:
        time = self.embed_times(t, ends)[:, None]  # (1 or B or M, 1, W)
        condition = time if self.shared_modulation is None else self.shared_modulation(time)
        if t.shape[0] not in (1, count):  # one time a sequence: (B, ...) -> (M, ...)
            condition = condition.repeat_interleave(cells, dim=0)
            time = time.repeat_interleave(cells, dim=0)
        blocks = [block.modulate(condition, use) for use in range(self.repeats) for block in self.blocks]
        shift, scale = self.final_layer.adaLN_modulation(time).chunk(2, dim=-1)
        return PassModulation(blocks, shift, scale)

    def project(self, condition: Tensor) -> Tensor:
        """Hidden states ``(B, N, C)`` to ``(B, N, W)``, the positions in the cell added."""
        length = condition.shape[1]
        if length % self.cell_size:
            raise ValueError(f"{length} tokens do not split into cells of {self.cell_size}")
        return self.cond_embed(condition) + self.position.repeat(length // self.cell_size, 1)

    def denoise(self, x: Tensor, t: Tensor, projected: Tensor, ends: Tensor | None = None) -> Tensor:
        """x ``(B, N, D)`` to velocities ``(B, N, D)``; of times ``(B, N)`` the first of each cell counts."""
        rows, length, _ = x.shape
        cells = length // self.cell_size
        x = self.input_proj(x) + projected
        x = x.reshape(rows * cells, self.cell_size, -1)  # (B, N, W) -> (M, k, W)
        if t.ndim == 2:
            t = t[:, :: self.cell_size].reshape(-1)  # (B, N) -> (M,)
            ends = None if ends is None else ends[:, :: self.cell_size].flatten(0, 1)
        modulation = self.modulations(t, cells, rows * cells, ends)
        for index, of_block in enumerate(modulation.blocks):
            x = self.blocks[index % len(self.blocks)](x, of_block)
        x = modulated_norm(self.final_layer.norm_final, x, modulation.shift, modulation.scale)
        x = self.final_layer.linear(x)  # (M, k, D)
        return x.reshape(rows, length, -1)


class LocalDiTHead(FlowHead):
    """Flow head whose velocity network is a :class:`LocalDiT`; hidden ``(B, N, C)``, N a multiple of the cell.

    Args:
        in_dim: channels C of the hidden states.
        token_dim: channels D of a token.
        width, depth, num_heads, cell_size, mlp_ratio, shared_adaln, repeats: see :class:`LocalDiT`.
        flow: further arguments of :class:`~photophone.heads.flow.FlowHead`; the tokens of a cell share one time.
    """

    def __init__(self, in_dim: int, token_dim: int, width: int = 384, depth: int = 3, num_heads: int = 6,
                 cell_size: int = 4, mlp_ratio: float = 4.0, shared_adaln: bool = True, repeats: int = 1,
                 **flow) -> None:
        network = LocalDiT(token_dim, in_dim, width, depth, num_heads, cell_size, mlp_ratio, shared_adaln, repeats)
        super().__init__(in_dim, token_dim, network=network, tokens_per_time=cell_size, **flow)
        self.cell_size = cell_size
