"""Twice the size: icons of 64 pixels as 128, by a network that learned what lies between the pixels.

Tokens of the small image tokenizer hold what 64x64 pixels show. A small U-Net (arXiv 1505.04597) learns from drawings
of both sizes how edges and corners go on, half of them as tokens give them back, so that it sharpens those too; it adds
to a bicubic enlargement. Code and weights: Apache-2.0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.model import Model
from photophone.tokenizers.latent1d.conv import ResidualBlock, Upsample


def enlarge(images: Tensor, scale: int) -> Tensor:
    """Bicubic: (B, 3, H, W) to (B, 3, scale * H, scale * W)."""
    return F.interpolate(images, scale_factor=scale, mode="bicubic", align_corners=False)


class IconUpscaler(Model):
    """Pictures to twice their size.

    Args:
        channels: at full and at half resolution, multiples of 16.
        depths: residual blocks before, at and after half resolution.
    """

    SCALE = 2

    def __init__(self, channels: list[int] = (32, 64), depths: list[int] = (1, 2, 1)) -> None:
        super().__init__()
        if len(channels) != 2 or any(width < 16 or width % 16 for width in channels):
            raise ValueError(f"channels must be two multiples of 16, got {list(channels)}")
        if len(depths) != 3:
            raise ValueError(f"depths must be three numbers of blocks, got {list(depths)}")
        fine, coarse = channels
        before, inner, after = depths
        self.read = nn.Sequential(nn.Conv2d(3, fine, 3, padding=1), *(ResidualBlock(fine) for _ in range(before)))
        self.coarse = nn.Sequential(nn.SiLU(), nn.Conv2d(fine, coarse, 3, stride=2, padding=1),
                                    *(ResidualBlock(coarse) for _ in range(inner)), Upsample(coarse, fine))
        self.write = nn.Sequential(*(ResidualBlock(fine) for _ in range(after)), nn.GroupNorm(16, fine), nn.SiLU(),
                                   nn.Conv2d(fine, 3 * self.SCALE**2, 3, padding=1), nn.PixelShuffle(self.SCALE))
        nn.init.zeros_(self.write[-2].weight)  # it starts as the bicubic enlargement
        nn.init.zeros_(self.write[-2].bias)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1], H and W even, to (B, 3, 2H, 2W), not clamped."""
        x = self.read(images.contiguous(memory_format=torch.channels_last))
        return enlarge(images, self.SCALE) + self.write(x + self.coarse(x))

    @torch.no_grad()
    def upscale(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] on any device to (B, 3, 2H, 2W) there, float32 in [-1, 1]."""
        return self(images.to(self.device, self.dtype)).to(images.device, torch.float32).clamp(-1, 1)
