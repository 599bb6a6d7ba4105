"""Adaptive layer normalisation: a condition sets shift, scale and gate (DiT, arXiv 2212.09748)."""

from __future__ import annotations

from torch import Tensor, nn


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """``x * (1 + scale) + shift``; all broadcast against x ``(..., W)``."""
    return x * (1 + scale) + shift


def adaln_projection(width: int, chunks: int) -> nn.Sequential:
    """SiLU and a zero-initialised Linear ``(..., W) -> (..., chunks * W)``, so a new block is the identity."""
    linear = nn.Linear(width, chunks * width)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.SiLU(), linear)


class AdaLNResidualBlock(nn.Module):
    """Residual MLP block of MAR's head (arXiv 2406.11838): ``x + gate * mlp(modulate(norm(x), shift, scale))``.

    Args:
        width: channels W.
        mlp: maps W to W; Linear, SiLU, Linear when None.
        eps: of the layer normalisation, which has weights of its own here.
    """

    def __init__(self, width: int, mlp: nn.Module | None = None, eps: float = 1e-6) -> None:
        super().__init__()
        self.in_ln = nn.LayerNorm(width, eps=eps)
        self.mlp = mlp or nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.adaLN_modulation = adaln_projection(width, 3)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x ``(..., W)`` and condition ``(..., W)``, broadcastable against it."""
        shift, scale, gate = self.adaLN_modulation(condition).chunk(3, dim=-1)
        return x + gate * self.mlp(modulate(self.in_ln(x), shift, scale))


class AdaLNFinalLayer(nn.Module):
    """Last layer of MAR's head and of DiT: modulated norm without weights, then a zero-initialised Linear.

    Args:
        width: channels W of x and of the condition.
        out_dim: channels of the output.
    """

    def __init__(self, width: int, out_dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, eps=eps, elementwise_affine=False)
        self.linear = nn.Linear(width, out_dim)
        self.adaLN_modulation = adaln_projection(width, 2)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x ``(..., W)`` and condition ``(..., W)``, broadcastable against it, to ``(..., out_dim)``."""
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=-1)
        return self.linear(modulate(self.norm_final(x), shift, scale))
