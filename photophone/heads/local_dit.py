"""Local diffusion transformer: a flow head over cells of k tokens.

The idea of DiTAR (arXiv 2502.03930) and xAR (arXiv 2502.20388): the backbone says what a cell holds, a small
transformer with full attention inside the cell draws its tokens together, so they fit each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.heads.base import ConditionedNetwork
from photophone.heads.flow import FlowHead
from photophone.kernels.adaln import gate_residual
from photophone.layers.adaln import AdaLNFinalLayer, adaln_projection, modulated_norm, residual_norm
from photophone.layers.attention import attend
from photophone.layers.embeddings import TimestepEmbedding


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
        self.q_norm, self.k_norm = (nn.RMSNorm(width // num_heads, eps=1e-6) for _ in range(2))
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))
        self.modulation = None if shared_adaln else adaln_projection(width, 6)
        self.offsets = nn.Parameter(torch.zeros(repeats, 6 * width)) if shared_adaln else None

    def modulations(self, condition: Tensor, use: int = 0) -> tuple[Tensor, ...]:
        """Shift, scale and gate of attention and of the MLP, each ``(1 or M, 1, W)``, from a condition of that shape,
        or ``(1 or M, 1, 6W)`` from the shared projection."""
        modulation = condition + self.offsets[use] if self.modulation is None else self.modulation(condition)
        return modulation.chunk(6, dim=-1)

    def forward(self, x: Tensor, modulations: tuple[Tensor, ...]) -> Tensor:
        """x ``(M, k, W)``, modulated as :meth:`modulations` says."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulations
        attended = self.attend(modulated_norm(self.norm1, x, shift1, scale1))
        x, normed = residual_norm(self.norm2, x, gate1, attended, shift2, scale2)
        return gate_residual(x, gate2, self.mlp(normed))

    def attend(self, x: Tensor) -> Tensor:
        """Full attention among the k tokens of each cell, x ``(M, k, W)``."""
        cells, size, width = x.shape
        q, k, v = self.qkv(x).view(cells, size, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # each (M, H, k, W / H)
        q, k = (F.rms_norm(u, u.shape[-1:], norm.weight.to(u.dtype), norm.eps).to(v.dtype)  # autocast keeps one dtype
                for u, norm in ((q, self.q_norm), (k, self.k_norm)))
        out = attend(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(cells, size, width))


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
        self._streams, self._known_times = 0, {}

    @contextmanager
    def remember_times(self) -> Iterator[None]:
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1
            if not self._streams:
                self._known_times.clear()

    def _modulations(self, t: Tensor, cells: int, count: int) -> tuple[list[tuple[Tensor, ...]], tuple[Tensor, ...]]:
        """Of each use of each block in order, and shift and scale of the last layer.

        Args:
            t: times ``(1,)``, one a sequence, or one for each of ``count`` cells.
            cells: of a sequence.
        """
        known = self._streams and t.shape == (1,) and t.device.type == "cpu" and not torch.is_grad_enabled()
        key = (float(t), t.dtype, self.position.dtype) if known else None
        if key in self._known_times:
            return self._known_times[key]
        time = self.time_embed(t)[:, None]  # (1 or B or M, 1, W)
        condition = time if self.shared_modulation is None else self.shared_modulation(time)
        if t.shape[0] not in (1, count):  # one time a sequence: (B, ...) -> (M, ...)
            condition, time = (v.repeat_interleave(cells, dim=0) for v in (condition, time))
        blocks = [block.modulations(condition, use) for use in range(self.repeats) for block in self.blocks]
        result = blocks, self.final_layer.adaLN_modulation(time).chunk(2, dim=-1)
        if known:
            self._known_times[key] = result
        return result

    def project(self, condition: Tensor) -> Tensor:
        """Hidden states ``(B, N, C)`` to ``(B, N, W)``, the positions in the cell added."""
        length = condition.shape[1]
        if length % self.cell_size:
            raise ValueError(f"{length} tokens do not split into cells of {self.cell_size}")
        return self.cond_embed(condition) + self.position.repeat(length // self.cell_size, 1)

    def denoise(self, x: Tensor, t: Tensor, projected: Tensor) -> Tensor:
        """x ``(B, N, D)`` to velocities ``(B, N, D)``; of times ``(B, N)`` the first of each cell counts."""
        rows, length, _ = x.shape
        cells = length // self.cell_size
        x = self.input_proj(x) + projected
        x = x.reshape(rows * cells, self.cell_size, -1)  # (B, N, W) -> (M, k, W)
        if t.ndim == 2:
            t = t[:, :: self.cell_size].reshape(-1)  # (B, N) -> (M,)
        modulations, last = self._modulations(t, cells, rows * cells)
        for index, modulation in enumerate(modulations):
            x = self.blocks[index % len(self.blocks)](x, modulation)
        x = self.final_layer.linear(modulated_norm(self.final_layer.norm_final, x, *last))
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
