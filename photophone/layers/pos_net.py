"""The convolutions and attention over time in front of WavTokenizer's and X-Codec2's Vocos decoders (arXiv 2408.16532).

They are the one-dimensional mid blocks of a VQGAN. Group normalisation and attention see the whole clip: masks make
padded rows equal to single ones, but no chunk of a clip gives what the whole gives.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.layers.frames import Conv1d
from photophone.layers.lengths import keep_valid

DROPOUT = 0.1


class MaskedGroupNorm(nn.GroupNorm):
    """Group normalisation of (B, C, T) whose statistics skip what is masked."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask: Bool (B, T), True for valid frames."""
        if mask is None:
            return super().forward(x)
        rows, channels, size = x.shape
        groups = keep_valid(x, mask).float().view(rows, self.num_groups, -1, size)  # (B, G, C / G, T)
        shown = mask[:, None, None]
        count = mask.sum(1).view(-1, 1, 1, 1) * (channels // self.num_groups)
        mean = groups.sum((2, 3), keepdim=True) / count
        centred = torch.where(shown, groups - mean, 0)
        variance = centred.square().sum((2, 3), keepdim=True) / count
        normal = (centred * (variance + self.eps).rsqrt()).view(rows, channels, size).to(x.dtype)
        return normal * self.weight[:, None] + self.bias[:, None]


class FrameResnetBlock(nn.Module):
    """Norm, SiLU, convolution of 3 frames, twice, with a residual: (B, C, T) to the same."""

    def __init__(self, channels: int, groups: int, dropout: float = DROPOUT) -> None:
        super().__init__()
        self.norm1 = MaskedGroupNorm(groups, channels, eps=1e-6)
        self.conv1 = Conv1d(channels, channels, 3, padding=1)
        self.norm2 = MaskedGroupNorm(groups, channels, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = Conv1d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask: Bool (B, T), True for valid frames."""
        h = self.conv1(keep_valid(functional.silu(self.norm1(x, mask)), mask))
        h = self.dropout(functional.silu(self.norm2(h, mask)))
        return x + self.conv2(keep_valid(h, mask))


class FrameAttention(nn.Module):
    """Attention of one head over all frames, with a residual: (B, C, T) to the same."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = MaskedGroupNorm(groups, channels, eps=1e-6)
        self.q = Conv1d(channels, channels, 1)
        self.k = Conv1d(channels, channels, 1)
        self.v = Conv1d(channels, channels, 1)
        self.proj_out = Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask: Bool (B, T), True for valid frames."""
        h = self.norm(x, mask)
        queries = self.q(h).transpose(1, 2)[:, None]
        keys = self.k(h).transpose(1, 2)[:, None]
        values = self.v(h).transpose(1, 2)[:, None]
        seen = None if mask is None else mask[:, None, None]  # (B, 1, 1, T) against (B, 1, T, T)
        h = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=seen)[:, 0]  # (B, T, C)
        return x + self.proj_out(h.transpose(1, 2))


class PosNet(nn.Sequential):
    """Two residual blocks, attention, two residual blocks and a norm: (B, C, T) to the same."""

    def __init__(self, channels: int, groups: int = 32, dropout: float = DROPOUT) -> None:
        super().__init__(FrameResnetBlock(channels, groups, dropout), FrameResnetBlock(channels, groups, dropout),
                         FrameAttention(channels, groups), FrameResnetBlock(channels, groups, dropout),
                         FrameResnetBlock(channels, groups, dropout), MaskedGroupNorm(groups, channels, eps=1e-6))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask: Bool (B, T), True for valid frames."""
        for part in self:
            x = part(x, mask)
        return x
