"""Adaptive layer normalisation: a condition sets shift, scale and gate (DiT, arXiv 2212.09748)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from photophone.kernels.adaln import gate_residual, gate_residual_norm, norm_modulate

Norm = nn.LayerNorm | nn.RMSNorm


class Modulation(NamedTuple):
    """What a condition sets in a transformer block, each (..., W): 1 is of the attention, 2 of the feed-forward."""

    shift1: Tensor
    scale1: Tensor
    gate1: Tensor
    shift2: Tensor
    scale2: Tensor
    gate2: Tensor


def modulated_norm(norm: Norm, x: Tensor, shift: Tensor | None = None, scale: Tensor | None = None) -> Tensor:
    """``norm(x) * (1 + scale) + shift``; both broadcast against x ``(..., W)``, or are None for the norm alone."""
    return norm_modulate(x, shift, scale, **_settings(norm))


def residual_norm(norm: Norm, x: Tensor, gate: Tensor | float, h: Tensor, shift: Tensor | None = None,
                  scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``x + gate * h``, and :func:`modulated_norm` of it."""
    return gate_residual_norm(x, gate, h, shift, scale, **_settings(norm))


def modulated_block(x: Tensor, modulation: Modulation, norm1: Norm, attention: Callable[[Tensor], Tensor],
                    norm2: Norm, feed_forward: Callable[[Tensor], Tensor]) -> Tensor:
    """DiT's block, x (B, N, W) to the same: attention and feed-forward, each modulated, gated and with a residual."""
    attended = attention(modulated_norm(norm1, x, modulation.shift1, modulation.scale1))
    x, normed = residual_norm(norm2, x, modulation.gate1, attended, modulation.shift2, modulation.scale2)
    return gate_residual(x, modulation.gate2, feed_forward(normed))


def _settings(norm: Norm) -> dict:
    return {"weight": norm.weight, "bias": getattr(norm, "bias", None), "eps": norm.eps,
            "rms": isinstance(norm, nn.RMSNorm)}


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
        rms: an RMS norm instead.
    """

    def __init__(self, width: int, mlp: nn.Module | None = None, eps: float = 1e-6, *, rms: bool = False) -> None:
        super().__init__()
        self.in_ln = (nn.RMSNorm if rms else nn.LayerNorm)(width, eps=eps)
        self.mlp = mlp or nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.adaLN_modulation = adaln_projection(width, 3)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x ``(..., W)`` and condition ``(..., W)``, broadcastable against it."""
        shift, scale, gate = self.adaLN_modulation(condition).chunk(3, dim=-1)
        return gate_residual(x, gate, self.mlp(modulated_norm(self.in_ln, x, shift, scale)))


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
        return self.linear(modulated_norm(self.norm_final, x, shift, scale))
