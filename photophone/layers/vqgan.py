"""The convolutional encoder and decoder of VQGAN (arXiv 2012.09841) and latent diffusion (2112.10752).

One pair serves every family that descends from them: what differs between those is a width, a number of blocks, or
one of the flags below. Levels are numbered by resolution in all arguments: level 0 is the finest, the image itself,
and each further level halves it. ``encoder.levels`` and ``decoder.levels`` hold modules in the order they run.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

MID_BLOCK_ATTENTION_BLOCK = ("block", "attention", "block")


@dataclass(frozen=True)
class BlockStyle:
    """What all blocks of one network share.

    Args:
        norm_groups, norm_eps: of every GroupNorm.
        conv_bias: biases in the convolutions of residual blocks.
        residual_drops_input: where a block changes the number of channels, its shortcut reads the block's own output
            and the input is lost: a mistake of MAGE's MaskGIT-VQGAN that its weights depend on.
        final_activation: SiLU between the last normalisation and the last convolution; ELM's binary autoencoder has
            none.
    """

    norm_groups: int = 32
    norm_eps: float = 1e-6
    conv_bias: bool = True
    residual_drops_input: bool = False
    final_activation: bool = True

    def norm(self, channels: int) -> nn.GroupNorm:
        """The normalisation of ``channels`` channels."""
        if channels % self.norm_groups:
            raise ValueError(f"{channels} channels cannot be normalised in {self.norm_groups} groups")
        return nn.GroupNorm(self.norm_groups, channels, eps=self.norm_eps)

    def finish(self, x: Tensor) -> Tensor:
        """What the last convolution reads of the last normalisation's output."""
        return F.silu(x) if self.final_activation else x


class ResnetBlock(nn.Module):
    """Norm, SiLU, 3x3 convolution, twice, and a shortcut: (B, in_channels, H, W) -> (B, out_channels, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, style: BlockStyle = BlockStyle()) -> None:  # noqa: B008
        super().__init__()
        self.norm1 = style.norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=style.conv_bias)
        self.norm2 = style.norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=style.conv_bias)
        self.drops_input = style.residual_drops_input and in_channels != out_channels
        self.shortcut = nn.Identity()
        if in_channels != out_channels:
            source = out_channels if self.drops_input else in_channels
            self.shortcut = nn.Conv2d(source, out_channels, 1, bias=style.conv_bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, in_channels, H, W) to (B, out_channels, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + self.shortcut(h if self.drops_input else x)


class SpatialAttention(nn.Module):
    """Attention of one head over all positions, with a residual: (B, C, H, W) -> (B, C, H, W).

    Official separate q, k and v convolutions are the thirds of ``qkv``.
    """

    def __init__(self, channels: int, style: BlockStyle = BlockStyle()) -> None:  # noqa: B008
        super().__init__()
        self.norm = style.norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) to the same."""
        qkv = self.qkv(self.norm(x)).flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, HW, 3C)
        queries, keys, values = qkv[:, None].chunk(3, dim=-1)  # (B, 1, HW, C) each
        h = F.scaled_dot_product_attention(queries, keys, values)[:, 0]  # (B, HW, C)
        return x + self.proj_out(h.transpose(1, 2).unflatten(2, x.shape[2:]))


class Downsample(nn.Conv2d):
    """3x3 convolution of stride 2 that pads right and bottom only: (B, C, H, W) -> (B, C, H/2, W/2)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) to (B, C, H/2, W/2)."""
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class SymmetricDownsample(nn.Conv2d):
    """3x3 convolution of stride 2 that pads all sides: (B, C, H, W) -> (B, C, H/2, W/2)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)


class Upsample(nn.Conv2d):
    """Each pixel twice in both directions, then a 3x3 convolution: (B, C, H, W) -> (B, C, 2H, 2W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) to (B, C, 2H, 2W)."""
        return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class ShuffleUpsample(nn.Conv2d):
    """3x3 convolution to four pixels a cell: (B, C, H, W) -> (B, C, 2H, 2W).

    Its outputs hold the pixels one after the other, row by row, each with all channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) to (B, C, 2H, 2W)."""
        cells = super().forward(x).unflatten(1, (2, 2, -1))  # (B, row, column, C, H, W)
        return cells.permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)


DOWNSAMPLES = {"conv": Downsample, "conv_symmetric": SymmetricDownsample, "pool": lambda channels: nn.AvgPool2d(2)}
UPSAMPLES = {"nearest": Upsample, "shuffle": ShuffleUpsample}


class Level(nn.Module):
    """Residual blocks, an attention after each where asked, then a change of size.

    Args:
        in_channels, out_channels: the first block changes from one to the other.
        blocks: residual blocks.
        attention: whether an attention follows each block.
        resample: what changes the size, or None.
    """

    def __init__(self, in_channels: int, out_channels: int, blocks: int, attention: bool,
                 resample: nn.Module | None, style: BlockStyle) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * blocks
        self.blocks = nn.ModuleList(ResnetBlock(*pair, style) for pair in zip(widths, widths[1:]))
        self.attentions = nn.ModuleList(
            SpatialAttention(out_channels, style) if attention else nn.Identity() for _ in range(blocks))
        self.resample = nn.Identity() if resample is None else resample

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) to the channels and the size behind the level."""
        for block, attention in zip(self.blocks, self.attentions):
            x = attention(block(x))
        return self.resample(x)


def mid_blocks(kinds: Sequence[str], channels: int, style: BlockStyle) -> nn.Sequential:
    """The blocks at the coarsest size, in the order of ``kinds``: "block", "attention", or "none" to keep a place."""
    known = {"block": lambda: ResnetBlock(channels, channels, style),
             "attention": lambda: SpatialAttention(channels, style), "none": nn.Identity}
    if not set(kinds) <= set(known):
        raise ValueError(f"mid may name {', '.join(known)}, got {list(kinds)}")
    return nn.Sequential(*(known[kind]() for kind in kinds))


def check_sizes(multipliers: Sequence[int], blocks: int, attention_levels: Collection[int]) -> None:
    """Refuse networks without levels or blocks, and attention at a level that is not there."""
    if not multipliers or blocks < 1:
        raise ValueError(f"need at least one level and one block, got multipliers {list(multipliers)}, {blocks} blocks")
    if not set(attention_levels) <= set(range(len(multipliers))):
        raise ValueError(f"attention levels {sorted(attention_levels)} are not all in 0..{len(multipliers) - 1}")


class Encoder(nn.Module):
    """Images (B, in_channels, H, W) to features (B, out_channels, H/s, W/s), s = 2 ** (levels - 1).

    Args:
        out_channels: width of the features; twice the latent's for a mean and a log variance.
        channels: width after the first convolution; level i is ``channels * multipliers[i]`` wide.
        multipliers: one factor a level, from the finest.
        blocks: residual blocks of each level.
        attention_levels: levels whose blocks are followed by attention.
        mid: blocks at the coarsest size; see :func:`mid_blocks`.
        downsample: a name in DOWNSAMPLES: "conv" (strided, padded right and bottom), "conv_symmetric" (padded on all
            sides) or "pool" (2x2 average).
        in_bias: bias of the first convolution.
        out_kernel: size of the last convolution, 3 or 1.
        style: see :class:`BlockStyle`.

    Raises:
        ValueError: for settings that are unknown or do not fit.
    """

    def __init__(self, *, out_channels: int, channels: int, multipliers: Sequence[int], blocks: int,
                 in_channels: int = 3, attention_levels: Collection[int] = (),
                 mid: Sequence[str] = MID_BLOCK_ATTENTION_BLOCK, downsample: str = "conv", in_bias: bool = True,
                 out_kernel: int = 3, style: BlockStyle = BlockStyle()) -> None:  # noqa: B008
        super().__init__()
        check_sizes(multipliers, blocks, attention_levels)
        if downsample not in DOWNSAMPLES:
            raise ValueError(f"downsample must be one of {', '.join(DOWNSAMPLES)}, got {downsample!r}")
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1, bias=in_bias)
        widths = [channels] + [channels * factor for factor in multipliers]
        levels = []
        for level, (before, width) in enumerate(zip(widths, widths[1:])):
            last = level == len(multipliers) - 1
            resample = None if last else DOWNSAMPLES[downsample](width)
            levels.append(Level(before, width, blocks, level in attention_levels, resample, style))
        self.levels = nn.Sequential(*levels)
        self.mid = mid_blocks(mid, widths[-1], style)
        self.norm_out = style.norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], out_channels, out_kernel, padding=out_kernel // 2)
        self.style = style

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, out_channels, H/s, W/s) of x (B, in_channels, H, W)."""
        x = self.conv_in(x)
        x = self.mid(self.levels(x))
        return self.conv_out(self.style.finish(self.norm_out(x)))


class Decoder(nn.Module):
    """Features (B, in_channels, h, w) to images (B, out_channels, h*s, w*s), s = 2 ** (levels - 1).

    The arguments are those of :class:`Encoder`, also numbered from the finest level; ``blocks`` is what is built
    (latent diffusion counts one less than it builds). The levels run from the coarsest. ``upsample`` is a name in
    UPSAMPLES.
    """

    def __init__(self, *, in_channels: int, channels: int, multipliers: Sequence[int], blocks: int,
                 out_channels: int = 3, attention_levels: Collection[int] = (),
                 mid: Sequence[str] = MID_BLOCK_ATTENTION_BLOCK, upsample: str = "nearest",
                 style: BlockStyle = BlockStyle()) -> None:  # noqa: B008
        super().__init__()
        check_sizes(multipliers, blocks, attention_levels)
        if upsample not in UPSAMPLES:
            raise ValueError(f"upsample must be one of {', '.join(UPSAMPLES)}, got {upsample!r}")
        widths = [channels * factor for factor in multipliers]
        self.conv_in = nn.Conv2d(in_channels, widths[-1], 3, padding=1)
        self.mid = mid_blocks(mid, widths[-1], style)
        before = widths[-1]
        levels = []
        for level in reversed(range(len(widths))):
            resample = UPSAMPLES[upsample](widths[level]) if level else None
            levels.append(Level(before, widths[level], blocks, level in attention_levels, resample, style))
            before = widths[level]
        self.levels = nn.Sequential(*levels)
        self.norm_out = style.norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], out_channels, 3, padding=1)
        self.style = style

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, out_channels, h*s, w*s) of x (B, in_channels, h, w)."""
        x = self.mid(self.conv_in(x))
        x = self.levels(x)
        return self.conv_out(self.style.finish(self.norm_out(x)))
