"""Transparent grounds: how opaque each pixel of an icon on white is, learned from drawings that have an alpha channel.

A pixel on white is ``alpha * colour + (1 - alpha)``, so alpha is at least ``1 - min(red, green, blue)``: less would
need a colour below black. Where a drawing has white or pale parts of its own, alpha is more than that. A small U-Net
(arXiv 1505.04597) says how much more, and white that is enclosed by the drawing counts half for it; neither ever
breaks the equation, so that the result on white is the picture that went in. Code and weights: Apache-2.0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.model import Model


def least_alpha(images: Tensor) -> Tensor:
    """The least opacity (B, 1, H, W) in 0..1 that pictures on white (B, 3, H, W) in [-1, 1] can have."""
    return ((1 - images.amin(dim=1, keepdim=True)) / 2).clamp(0, 1)


def colour_under(images: Tensor, alpha: Tensor) -> Tensor:
    """Colours (B, 3, H, W) in [-1, 1] that give pictures on white (B, 3, H, W) at an opacity (B, 1, H, W).

    Where nothing is to be seen the colour is that of the ground.
    """
    seen = alpha.clamp(min=1e-4)
    return torch.where(alpha > 1e-4, (images - 1) / seen + 1, images).clamp(-1, 1)


def reached_from_border(images: Tensor, least: float = 0.1) -> Tensor:
    """1 where a way over nearly white pixels leads to the border, else 0: (B, 1, H, W).

    Args:
        images: on white, (B, 3, H, W) in [-1, 1].
        least: pixels with :func:`least_alpha` under it count as white.
    """
    white = (least_alpha(images) < least).to(images.dtype)
    edge = torch.ones_like(white)
    edge[..., 1:-1, 1:-1] = 0
    reached = white * edge
    while True:  # each pass reaches one pixel further
        beside = F.max_pool2d(reached, (1, 3), 1, (0, 1)), F.max_pool2d(reached, (3, 1), 1, (1, 0))
        further = torch.maximum(*beside) * white
        if torch.equal(further, reached):
            return reached
        reached = further


class MattingBlock(nn.Sequential):
    """Convolution, group normalisation, SiLU, twice: (B, C, H, W) -> (B, out, H, W)."""

    def __init__(self, channels: int, out: int) -> None:
        layers: list[nn.Module] = []
        for given in (channels, out):
            layers += [nn.Conv2d(given, out, 3, padding=1, bias=False), nn.GroupNorm(4, out), nn.SiLU()]
        super().__init__(*layers)


class IconMatting(Model):
    """Pictures on white to their opacity.

    Args:
        channels: of each level, from fine to coarse, multiples of 4; each level has half the pixels per side.
    """

    def __init__(self, channels: list[int] = (12, 16, 24, 32)) -> None:
        super().__init__()
        finer, coarser = list(channels[:-1]), list(channels[1:])
        self.down = nn.ModuleList(MattingBlock(given, out) for given, out in zip([4, *finer], channels))
        self.narrow = nn.ModuleList(nn.Conv2d(given, out, 1) for given, out in zip(coarser, finer))
        self.up = nn.ModuleList(MattingBlock(2 * width, width) for width in finer)
        self.last = nn.Conv2d(channels[0], 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, 1, H, W) of the share of what is left above :func:`least_alpha`.

        Args:
            images: (B, 3, H, W) in [-1, 1]; sides that are multiples of ``2 ** (levels - 1)``.
        """
        x = torch.cat([images, 2 * least_alpha(images) - 1], dim=1)
        kept = []
        for level, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if level else x)
            kept.append(x)
        for level in reversed(range(len(self.up))):
            wide = F.interpolate(self.narrow[level](x), scale_factor=2, mode="nearest")
            x = self.up[level](torch.cat([kept[level], wide], dim=1))
        return self.last(x)

    def alpha(self, images: Tensor) -> Tensor:
        """Opacity (B, 1, H, W) in 0..1 of pictures on white (B, 3, H, W) in [-1, 1], by the network alone: what is
        trained."""
        least = least_alpha(images)
        return least + (1 - least) * self(images).sigmoid()

    def opacity(self, images: Tensor) -> Tensor:
        """As :meth:`alpha`; where no way over white leads to the border, half way from there to 1.

        Enclosed white mostly belongs to the drawing, but may be a hole; the network and this rule err at different
        places.
        """
        alpha = self.alpha(images)
        return torch.where(reached_from_border(images) > 0, alpha, (1 + alpha) / 2)

    @torch.no_grad()
    def cut_out(self, images: Tensor) -> Tensor:
        """Colour and opacity (B, 4, H, W), all in [-1, 1]: an opacity of -1 is nothing, of 1 all.

        Args:
            images: on white, (B, 3, H, W) in [-1, 1], on any device.
        """
        alpha = self.opacity(images.to(self.device, self.dtype)).to(images.device, torch.float32)
        return torch.cat([colour_under(images.float(), alpha), 2 * alpha - 1], dim=1)
