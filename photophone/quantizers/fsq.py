"""Finite scalar quantization: each channel is rounded to one of a few levels.

Paper: FSQ (arXiv 2309.15505). Used by X-codec 2, BiCodec's speaker tokens and the CosyVoice 2 tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.kernels.pack import bound, pack_levels, quantize_levels
from photophone.quantizers.base import Quantizer, QuantizerOutput, project, straight_through, usage_metrics


def unpack_levels(index: Tensor, levels: Sequence[int]) -> Tensor:
    """Inverse of :func:`pack_levels`."""
    digits = []
    for level in levels:
        digits.append(index % level)
        index = index // level
    return torch.stack(digits, dim=-1)


class FSQ(Quantizer):
    """Finite scalar quantization; the values of a channel are its levels divided by ``L // 2``, within [-1, 1].

    There is no loss. The straight-through gradient is that of :func:`bound` (and of the linear layers).

    Args:
        levels: levels of each code channel, at least 2 each; their product is the codebook size.
        dim: width D of the input; when given and not ``len(levels)``, linear layers lead in and out.
        eps: see :func:`bound`: 1e-3 for X-codec 2 and BiCodec, -1e-3 for the paper and CosyVoice 2.
        double_bound: bound the input twice, which the X-codec 2 weights were trained with.
        out_dim: width of the values where it is not that of the input.
        signs: the values of two levels are -1 and 1 instead of -1 and 0.

    Raises:
        ValueError: for levels below 2 (or beside 2 with ``signs``), a codebook beyond 2**62 codes, or an eps that would
            add or lose a level.
    """

    def __init__(self, levels: Sequence[int], dim: int | None = None, *, eps: float = 1e-3,
                 double_bound: bool = False, out_dim: int | None = None, signs: bool = False) -> None:
        levels = list(levels)
        if not levels or not all(isinstance(level, int) and level >= 2 for level in levels):
            raise ValueError(f"levels must be integers of at least 2, got {levels}")
        if math.prod(levels) > 2**62:
            raise ValueError(f"levels {levels} make {math.prod(levels)} codes, more than 2**62")
        if abs(eps) * (max(levels) - 1) >= 1 or (2 in levels and eps <= 0):
            raise ValueError(f"eps={eps} must keep |eps| * (levels - 1) below 1 and be above 0 for 2 levels")
        if signs and set(levels) != {2}:
            raise ValueError(f"signs need two levels a channel, got {levels}")
        super().__init__(len(levels) if dim is None else dim, codebook_size=math.prod(levels))
        self.signs = signs
        self.levels = levels
        self.eps = eps
        self.double_bound = double_bound
        self.register_buffer("_levels", torch.tensor(levels), persistent=False)
        out_dim = self.dim if out_dim is None else out_dim
        projected = not self.dim == len(levels) == out_dim
        self.project_in = nn.Linear(self.dim, len(levels)) if projected else nn.Identity()
        self.project_out = nn.Linear(len(levels), out_dim) if projected else nn.Identity()

    def _quantize(self, x: Tensor, mask: Tensor | None, noise: Noise | None) -> QuantizerOutput:
        if not torch.is_grad_enabled():
            values, indices = self._rounded(x, True)
            metrics = usage_metrics(indices, self.codebook_size, mask)
            return QuantizerOutput(self._leave(values), indices, x.new_zeros(()), metrics)
        bounded = self._bounded(x)
        levels = bounded.detach().round()
        indices = pack_levels(self._to_digits(levels), self.levels)
        values = self._leave(straight_through(bounded, levels) / (self._levels // 2))
        metrics = usage_metrics(indices, self.codebook_size, mask)
        return QuantizerOutput(values, indices, x.new_zeros(()), metrics)

    def _encode(self, x: Tensor) -> Tensor:
        return self._rounded(x, False)[1]

    def _decode(self, tokens: Tensor) -> Tensor:
        half_width = self._levels // 2
        levels = (unpack_levels(tokens, self.levels) - half_width).float()  # (B, N, C)
        return self._leave(levels / half_width)

    def _leave(self, values: Tensor) -> Tensor:
        """Values of the channels as those of the quantizer."""
        return project(self.project_out, 2 * values + 1 if self.signs else values)

    def _bounded(self, x: Tensor) -> Tensor:
        z = project(self.project_in, x)  # (B, N, C)
        z = bound(z, self._levels, self.eps) if self.double_bound else z
        return bound(z, self._levels, self.eps)

    def _rounded(self, x: Tensor, want_values: bool) -> tuple[Tensor | None, Tensor]:
        return quantize_levels(project(self.project_in, x), self.levels, self._levels, eps=self.eps,
                               twice=self.double_bound, want_values=want_values)

    def _to_digits(self, levels: Tensor) -> Tensor:
        return levels.long() + self._levels // 2


class ScalarBottleneck(nn.Module):
    """FSQ of so many channels that its tokens have no index: (..., dim) -> (..., dim), straight-through gradients.

    VoxCPM (arXiv 2509.24650) passes the states of its language model through one, which keeps the coarse content there.

    Args:
        dim: width of input and output.
        code_dim: channels that are rounded.
        scale: levels on each side of zero.
    """

    def __init__(self, dim: int, code_dim: int, scale: int = 9) -> None:
        super().__init__()
        self.scale = scale
        self.project_in = nn.Linear(dim, code_dim)
        self.project_out = nn.Linear(code_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., dim) to the same."""
        bounded = torch.tanh(self.project_in(x)) * self.scale
        return self.project_out(straight_through(bounded, bounded.detach().round()) / self.scale)
