"""The one-dimensional U-Net that estimates velocities of mel frames: Matcha-TTS (arXiv 2309.03199), CosyVoice 1 and 2.

Residual convolutions and transformer blocks at each level; the time enters each residual block. Without ``causal`` the
normalisation of a convolution runs over channels and time, so a padded row differs from the row alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from photophone.generators.cosyvoice.chunked import Sight, SightMemory, View
from photophone.layers.causal_conv import CausalConv1d
from photophone.layers.embeddings import TimestepEmbedding
from photophone.layers.transformer import TransformerBlock

GROUPS = 8


def conv3(in_channels: int, out_channels: int, causal: bool) -> nn.Conv1d:
    """A convolution (B, C, T) -> (B, C', T) of three frames."""
    return CausalConv1d(in_channels, out_channels, 3) if causal else nn.Conv1d(in_channels, out_channels, 3, padding=1)


class ConvBlock(nn.Module):
    """Convolution, norm, Mish on what the mask lets through: (B, C, T) -> (B, C', T).

    The norm is over the channels of each frame if ``causal``, else over groups of channels and all frames.
    """

    def __init__(self, in_channels: int, out_channels: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.conv = conv3(in_channels, out_channels, causal)
        self.norm = nn.LayerNorm(out_channels) if causal else nn.GroupNorm(GROUPS, out_channels)
        self.act = nn.Mish()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.conv(x * mask)
        x = self.norm(x.transpose(1, 2)).transpose(1, 2) if self.causal else self.norm(x)
        return self.act(x) * mask


class TimedResidual(nn.Module):
    """Two :class:`ConvBlock` with the time added between them, and a residual: (B, C, T) -> (B, C', T)."""

    def __init__(self, in_channels: int, out_channels: int, time_dim: int, causal: bool) -> None:
        super().__init__()
        self.block1 = ConvBlock(in_channels, out_channels, causal)
        self.time_proj = nn.Sequential(nn.Mish(), nn.Linear(time_dim, out_channels))
        self.block2 = ConvBlock(out_channels, out_channels, causal)
        self.shortcut = nn.Conv1d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        """time: (B, time_dim)."""
        h = self.block1(x, mask) + self.time_proj(time)[..., None]
        return self.block2(h, mask) + self.shortcut(x * mask)


class Stage(nn.Module):
    """A residual block, transformer blocks and what changes the rate: (B, C, T) -> (B, C', T').

    ``forward`` gives the frames before the last step too, which a skip connection takes.

    Args:
        in_channels, channels: C and C'.
        time_dim, causal: of :class:`TimedResidual`.
        blocks: transformer blocks, with the arguments ``heads`` of their attention.
        after: what changes the rate.
        first_cache: of the caches of a view, the first that belongs to this stage.
        soft_padding: see :class:`UNet1d`.
    """

    def __init__(self, in_channels: int, channels: int, time_dim: int, causal: bool, blocks: int, heads: dict,
                 after: nn.Module, first_cache: int, soft_padding: bool = False) -> None:
        super().__init__()
        self.first_cache, self.soft_padding = first_cache, soft_padding
        self.resnet = TimedResidual(in_channels, channels, time_dim, causal)
        self.blocks = nn.ModuleList(TransformerBlock(channels, qkv_bias=False, feed_forward="gelu", **heads)
                                    for _ in range(blocks))
        self.after = after

    def forward(self, x: Tensor, mask: Tensor, time: Tensor, view: View) -> tuple[Tensor, Tensor]:
        """x (B, C, T), mask (B, 1, T), time (B, time_dim)."""
        x = self.resnet(x, mask, time).transpose(1, 2)
        allowed = view.mask
        if self.soft_padding:
            allowed = (mask.transpose(1, 2) * mask)[:, None].to(x)
        elif view.caches[0] is None:  # a stream has no padded rows
            allowed = mask.bool()[:, None] if allowed is None else mask.bool()[:, None] & allowed
        for index, block in enumerate(self.blocks):
            x = block(x, allowed, cache=view.caches[self.first_cache + index])
        x = x.transpose(1, 2)
        return x, self.after(x * mask)


class UNet1d(nn.Module):
    """Velocities (B, out_channels, T) of frames x, given frames, a speaker and known frames.

    Args:
        in_channels: of x, mu, speaker and cond together; also the width of the sinusoids of the time.
        out_channels: of x.
        channels: of the levels; each but the last halves the rate.
        num_blocks: transformer blocks of a stage.
        num_mid_blocks: stages at the lowest rate.
        num_heads, head_dim: of attention.
        causal: convolutions see no later frames; with one level it streams.
        chunk: frames of a chunk where attention is by chunks.
        soft_padding: padded frames of a batch in training stay in sight of attention, at 1 less in the logits, as
            GLM-4-Voice was trained; without padding it changes nothing.
    """

    def __init__(self, in_channels: int = 320, out_channels: int = 80, channels: Sequence[int] = (256, 256),
                 num_blocks: int = 4, num_mid_blocks: int = 12, num_heads: int = 8, head_dim: int = 64,
                 causal: bool = False, chunk: int | None = None, soft_padding: bool = False) -> None:
        super().__init__()
        if num_blocks < 1 or not channels:
            raise ValueError(f"a U-Net needs at least one level and block a stage, got {channels} and {num_blocks}")
        channels, time_dim = list(channels), channels[0] * 4
        self.chunk, self.streams = chunk, causal and len(channels) == 1
        self.time_embed = TimestepEmbedding(time_dim, in_channels, time_scale=1000.0, sine_first=True)
        options = {"time_dim": time_dim, "causal": causal, "blocks": num_blocks,
                   "soft_padding": soft_padding,
                   "heads": {"num_heads": num_heads, "inner_dim": num_heads * head_dim}}
        self.down, self.mid, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        first = iter(range(0, num_blocks * (2 * len(channels) + num_mid_blocks), num_blocks))
        before = in_channels
        for index, width in enumerate(channels):
            last = index == len(channels) - 1
            after = conv3(width, width, causal) if last else nn.Conv1d(width, width, 3, stride=2, padding=1)
            self.down.append(Stage(before, width, after=after, first_cache=next(first), **options))
            before = width
        for _ in range(num_mid_blocks):
            self.mid.append(Stage(before, before, after=nn.Identity(), first_cache=next(first), **options))
        for index, (width, wider) in enumerate(zip([*channels[-2::-1], channels[0]], channels[::-1], strict=True)):
            last = index == len(channels) - 1
            after = conv3(width, width, causal) if last else nn.ConvTranspose1d(width, width, 4, stride=2, padding=1)
            self.up.append(Stage(2 * wider, width, after=after, first_cache=next(first), **options))
        self.final_block = ConvBlock(channels[0], channels[0], causal)
        self.final_proj = nn.Conv1d(channels[0], out_channels, 1)
        self.memory = SightMemory(num_blocks * (2 * len(channels) + num_mid_blocks))

    def forward(self, x: Tensor, mask: Tensor, mu: Tensor, t: Tensor, speaker: Tensor, cond: Tensor,
                sight: Sight) -> Tensor:
        """x, mu, cond (B, C, T), mask (B, 1, T) of ones and zeros, t (B,) in 0..1, speaker (B, C) to (B, C, T)."""
        time = self.time_embed(t)
        x = torch.cat([x, mu, speaker[..., None].expand(-1, -1, x.shape[-1]), cond], dim=1)
        views: dict[int, View] = {}  # by length: one a level, so a stream, which has one level, asks once
        skips, masks = [], [mask]
        for stage in self.down:
            skip, x = stage(x, masks[-1], time, self._view(views, x, sight))
            skips.append(skip)
            masks.append(masks[-1][..., ::2])
        masks.pop()
        for stage in self.mid:
            x, _ = stage(x, masks[-1], time, self._view(views, x, sight))
        for stage in self.up:
            mask, skip = masks.pop(), skips.pop()
            x = torch.cat([x[..., :skip.shape[-1]], skip], dim=1)
            _, x = stage(x, mask, time, self._view(views, x, sight))
        x = self.final_block(x, mask)
        return self.final_proj(x * mask) * mask

    def _view(self, views: dict[int, View], x: Tensor, sight: Sight) -> View:
        length = x.shape[-1]
        if length not in views:
            views[length] = self.memory(length, sight, x.device)
        return views[length]
