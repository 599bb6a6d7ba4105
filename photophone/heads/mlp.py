"""The per-token MLP of MAR's diffusion head (arXiv 2406.11838), also a velocity network for flow heads."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from photophone.heads.base import ConditionedNetwork
from photophone.layers.adaln import AdaLNFinalLayer, AdaLNResidualBlock
from photophone.layers.embeddings import TimestepEmbedding


class AdaLNMLP(ConditionedNetwork):
    """MLP over single tokens; time plus condition modulates every block. Parameter names are those of MAR.

    Args:
        token_dim: channels D of x.
        cond_dim: channels C of the condition.
        width: channels of the blocks.
        depth: number of residual blocks.
        out_dim: channels of the output; ``token_dim`` when None, ``2 * token_dim`` for learned variances.
        time_scale: 1 for integer diffusion steps, 1000 for flow times in [0, 1].
        make_mlp: makes what a block does to its width; None: Linear, SiLU, Linear.
    """

    def __init__(self, token_dim: int, cond_dim: int, width: int = 1024, depth: int = 6,
                 out_dim: int | None = None, time_scale: float = 1.0,
                 make_mlp: Callable[[], nn.Module] | None = None) -> None:
        super().__init__()
        self.input_proj = nn.Linear(token_dim, width)
        self.time_embed = TimestepEmbedding(width, time_scale=time_scale)
        self.cond_embed = nn.Linear(cond_dim, width)
        self.res_blocks = nn.ModuleList(AdaLNResidualBlock(width, make_mlp and make_mlp()) for _ in range(depth))
        self.final_layer = AdaLNFinalLayer(width, out_dim or token_dim)
        layers = [layer for block in self.res_blocks for layer in block.mlp.modules() if isinstance(layer, nn.Linear)]
        for module in [self.input_proj, self.cond_embed, *layers]:
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)

    def project(self, condition: Tensor) -> Tensor:
        """``(..., C)`` to ``(..., width)``."""
        return self.cond_embed(condition)

    def denoise(self, x: Tensor, t: Tensor, projected: Tensor, ends: Tensor | None = None) -> Tensor:
        """x ``(..., D)`` at times t to ``(..., out_dim)``; t has the first axes of x, the missing ones broadcast."""
        time = self.embed_times(t, ends)
        time = time.reshape(*t.shape, *[1] * (x.ndim - 1 - t.ndim), time.shape[-1])  # (B, W) -> (B, 1, W)
        condition = time + projected
        x = self.input_proj(x)
        for block in self.res_blocks:
            x = block(x, condition)
        return self.final_layer(x, condition)
