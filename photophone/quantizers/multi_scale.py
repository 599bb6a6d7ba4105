"""Multi-scale residual vector quantization: one codebook, index maps from coarse to fine.

Papers: VAR (arXiv 2404.02905), HART (2410.10812). Each scale codes what the coarser ones left over, at its own
resolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.kernels.vq import nearest_code
from photophone.quantizers.base import (
    Quantizer,
    QuantizerOutput,
    noise_or_global,
    straight_through,
    usage_metrics,
)
from photophone.quantizers.codebook_updates import pick_rows, same_on_all

HIT_DECAY = 0.99
USED_SHARE = 0.08
"""A code counts as used at a scale when it is hit at least this often compared with codes that are all hit alike."""


def phi_index(scale: int, num_scales: int, num_phis: int) -> int:
    """Which of the shared convolutions serves a scale: the one whose place in 0..1 is nearest.

    The places are spread evenly with half a step outside, but with a third of a step when there are four. Published
    weights have four, and ten scales: two of those lie half-way between places, and only the rounding of exactly
    these operations settles them.
    """
    margin = 1 / (3 if num_phis == 4 else 2) / num_phis
    places = np.linspace(margin, 1 - margin, num_phis)
    return int(np.argmin(np.abs(places - scale / max(num_scales - 1, 1))))


class Phi(nn.Conv2d):
    """``(1 - ratio) * h + ratio * conv3x3(h)`` in float32, which repairs what the enlargement blurred."""

    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__(dim, dim, 3, padding=1)
        self.ratio = ratio

    def forward(self, h: Tensor) -> Tensor:
        """h (B, D, s, s) to the same."""
        return h * (1 - self.ratio) + self._conv_forward(h, self.weight.float(), self.bias.float()) * self.ratio


class MultiScaleVQ(Quantizer):
    """Tokens of a square grid to S index maps, and back to the sum of the enlarged maps.

    Input and values are ``(B, h*h, D)`` with h the last scale, row by row; indices are Long ``(B, L)``, the maps one
    after another, L the sum of the squared scales. Masks are refused.

    Loss: the mean over scales of ``beta * mean |sg(v) - x|^2 + mean |v - sg(x)|^2``, v the values so far.

    Args:
        dim: width D.
        codebook_size: number K of codes.
        scales: sides of the index maps, rising; the last is the side of the grid.
        num_phis: convolutions shared between the scales; 0 for one a scale.
        phi_ratio: their share; 0 for none.
        beta: weight in the loss.
        cosine_search: search by cosine; codes are used as stored.

    Raises:
        ValueError: for settings out of range.
    """

    def __init__(self, dim: int, codebook_size: int, scales: Sequence[int], *, num_phis: int = 4,
                 phi_ratio: float = 0.5, beta: float = 0.25, cosine_search: bool = False) -> None:
        super().__init__(dim, codebook_size=codebook_size)
        self.scales = tuple(scales)
        self.beta = beta
        self.cosine = cosine_search
        if not self.scales or self.scales[0] < 1 or any(a >= b for a, b in zip(self.scales, self.scales[1:])):
            raise ValueError(f"scales must be rising positive integers, got {list(scales)}")
        if num_phis < 0 or phi_ratio < 0:
            raise ValueError(f"num_phis and phi_ratio must be 0 or more, got {num_phis} and {phi_ratio}")
        self.codebook = nn.Parameter(torch.randn(codebook_size, dim))
        count = num_phis or len(self.scales)
        self.phis = nn.ModuleList(Phi(dim, phi_ratio) if phi_ratio else nn.Identity() for _ in range(count))
        self.register_buffer("code_hits", torch.zeros(len(self.scales), codebook_size))  # average hits a batch

    @property
    def grid_size(self) -> int:
        """h, cells per side."""
        return self.scales[-1]

    @property
    def num_indices(self) -> int:
        """L, indices of all maps."""
        return sum(scale**2 for scale in self.scales)

    def phi(self, scale: int) -> nn.Module:
        """The convolution of the scale of this number."""
        return self.phis[phi_index(scale, len(self.scales), len(self.phis))]

    def split(self, indices: Tensor) -> tuple[Tensor, ...]:
        """Indices (B, L) as S maps (B, scale ** 2)."""
        return indices.split([scale**2 for scale in self.scales], dim=1)

    def look_up(self, indices: Tensor) -> Tensor:
        """Codes (B, D, s, s) of one map (B, s*s)."""
        side = round(indices.shape[1] ** 0.5)
        return F.embedding(indices, self.codebook).float().transpose(1, 2).unflatten(2, (side, side))

    def enlarge(self, codes: Tensor, scale: int) -> Tensor:
        """What the scale of this number adds to the values: its codes (B, D, s, s) at full size, through phi."""
        if scale < len(self.scales) - 1:
            codes = F.interpolate(codes, size=(self.grid_size, self.grid_size), mode="bicubic")
        return self.phi(scale)(codes)

    def shrink(self, grid: Tensor, scale: int) -> Tensor:
        """A grid (B, D, h, h) at the size of the scale of this number."""
        side = self.scales[scale]
        return grid if side == self.grid_size else F.interpolate(grid, size=(side, side), mode="area")

    def walk_scales(self, grid: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For each scale what the coarser ones left over of a grid (B, D, h, h), its index map (B, s*s), and what its
        codes add to the values (B, D, h, h)."""
        rest = grid.detach()
        for scale in range(len(self.scales)):
            rows = self.shrink(rest, scale).permute(0, 2, 3, 1).flatten(0, 2)  # (B*s*s, D)
            indices = nearest_code(rows, self.codebook, cosine=self.cosine).view(len(grid), -1)
            added = self.enlarge(self.look_up(indices), scale)
            yield rest, indices, added
            rest = rest - added.detach()

    def encode_scales(self, grid: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """A grid (B, D, h, h) to S index maps (B, s*s) and the values (B, D, h, h) after each scale."""
        total = torch.zeros_like(grid)
        maps = []
        totals = []
        for _, indices, added in self.walk_scales(grid):
            maps.append(indices)
            total = total + added
            totals.append(total)
        return maps, totals

    def decode_scales(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The first maps, or all, to the values (B, D, h, h) after each of them."""
        totals: list[Tensor] = []
        for scale, indices in enumerate(maps):
            added = self.enlarge(self.look_up(indices), scale)
            totals.append(totals[-1] + added if totals else added)
        return totals

    def generator_inputs(self, maps: Sequence[Tensor]) -> Tensor:
        """What a next-scale generator reads in training: (B, L - scales[0] ** 2, D), scales 1..S-1.

        For each scale, the values of all coarser maps at the size of that scale.
        """
        totals = self.decode_scales(maps[: len(self.scales) - 1])
        return torch.cat([_rows(self.shrink(total, scale + 1)) for scale, total in enumerate(totals)], dim=1)

    def used_shares(self, tokens: int) -> Tensor:
        """Share of codes in use at each scale ``(S,)``, by moving averages over batches of ``tokens`` = B*h*h."""
        return (self.code_hits >= USED_SHARE * tokens / self.codebook_size).float().mean(dim=1)

    def _quantize(self, x: Tensor, mask: Tensor | None, noise: Noise | None) -> QuantizerOutput:
        if mask is not None:
            raise ValueError("MultiScaleVQ takes no mask: its scales cover the whole grid")
        grid = self._grid(x)
        maps, totals = self.encode_scales(grid)
        loss = sum(self.beta * F.mse_loss(grid, total.detach()) + F.mse_loss(total, grid.detach()) for total in totals)
        if self.training:
            self._count(maps)
        indices = torch.cat(maps, dim=1)
        metrics = usage_metrics(indices, self.codebook_size, None)
        return QuantizerOutput(straight_through(x, _rows(totals[-1])), indices, loss / len(totals), metrics)

    def _start_codebook(self, x: Tensor, noise: Noise) -> None:
        """Each scale gives as many codes as the others, from what the coarser ones leave over."""
        rest = self._grid(x)
        starts = torch.linspace(0, self.codebook_size, len(self.scales) + 1).long().tolist()
        for scale, (first, last) in enumerate(zip(starts, starts[1:])):
            rows = self.shrink(rest, scale).permute(0, 2, 3, 1).flatten(0, 2)  # (B*s*s, D)
            priority = noise.uniform(len(x), self.scales[scale] ** 2).flatten().to(x.device)
            self.codebook[first:last] = same_on_all(pick_rows(rows, priority, last - first))
            nearest = nearest_code(rows, self.codebook[:last], cosine=self.cosine).view(len(x), -1)
            rest = rest - self.enlarge(self.look_up(nearest), scale)

    def _encode(self, x: Tensor) -> Tensor:
        return torch.cat(self.encode_scales(self._grid(x))[0], dim=1)

    def _decode(self, tokens: Tensor) -> Tensor:
        if tokens.shape[1] != self.num_indices:
            raise ValueError(f"need {self.num_indices} indices for the scales {list(self.scales)}, "
                             f"got {tokens.shape[1]}")
        return _rows(self.decode_scales(self.split(tokens))[-1])

    def _grid(self, x: Tensor) -> Tensor:
        if x.shape[1] != self.grid_size**2:
            raise ValueError(f"need {self.grid_size}x{self.grid_size} tokens, got {x.shape[1]}")
        return x.transpose(1, 2).unflatten(2, (self.grid_size, self.grid_size))

    @torch.no_grad()
    def _count(self, maps: list[Tensor]) -> None:
        for hits, indices in zip(self.code_hits, maps):
            counts = torch.bincount(indices.flatten(), minlength=self.codebook_size).to(hits)
            hits.copy_(hits * HIT_DECAY + counts * (1 - HIT_DECAY) if hits.any() else counts)


class HybridMultiScaleVQ(Quantizer):
    """Codes of all scales, and what they leave over at the last, as HART has it (arXiv 2410.10812).

    Tokens are continuous, ``(B, L, D)``: the codes of the coarser scales as vectors, then at full size the rest of the
    input, of which the last scale's codes are the nearest ones. Nothing is lost: values are the input.

    Args:
        codes: the discrete part.
        discrete_share: share of training passes whose values are those of the codes alone, so that the decoder learns
            to read both.
    """

    def __init__(self, codes: MultiScaleVQ, discrete_share: float = 0.5) -> None:
        super().__init__(codes.dim, token_dim=codes.dim)
        self.codes = codes
        self.discrete_share = discrete_share

    @property
    def num_indices(self) -> int:
        """L, tokens of all scales."""
        return self.codes.num_indices

    @property
    def has_codes(self) -> bool:
        return True

    def decode_codes(self, tokens: Tensor) -> Tensor:
        """Values float32 (B, N, D) of the codes alone of tokens (B, L, D), without what they leave over."""
        return self.codes.decode(self.indices(tokens))

    def indices(self, tokens: Tensor) -> Tensor:
        """The nearest codes Long (B, L) of tokens (B, L, D): those that :meth:`encode` found."""
        codebook, cosine = self.codes.codebook, self.codes.cosine
        return nearest_code(tokens.flatten(0, 1), codebook, cosine=cosine).view(tokens.shape[:2])

    def _quantize(self, x: Tensor, mask: Tensor | None, noise: Noise | None) -> QuantizerOutput:
        output = self.codes(x, mask, noise)
        discrete = self.training and float(noise_or_global(noise, x).uniform(len(x))[0]) < self.discrete_share
        return replace(output, values=output.values if discrete else x, indices=None)

    def _encode(self, x: Tensor) -> Tensor:
        *coarser, (rest, _, _) = self.codes.walk_scales(self.codes._grid(x))
        return torch.cat([_rows(self.codes.look_up(indices)) for _, indices, _ in coarser] + [_rows(rest)], dim=1)

    def _decode(self, tokens: Tensor) -> Tensor:
        *coarser, rest = self.codes.split(tokens.float())
        values = rest
        for scale, vectors in enumerate(coarser):
            side = self.codes.scales[scale]
            values = values + _rows(self.codes.enlarge(vectors.transpose(1, 2).unflatten(2, (side, side)), scale))
        return values

    def _start_codebook(self, x: Tensor, noise: Noise) -> None:
        self.codes._start_codebook(x, noise)


def _rows(grid: Tensor) -> Tensor:
    """(B, D, h, w) to (B, hw, D)."""
    return grid.flatten(2).transpose(1, 2)
