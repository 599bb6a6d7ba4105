"""Diffusion Forcing's network for frames that are images: a U-Net whose frames see each other by attention alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.kernels.rotary import rotate
from photophone.layers.attention import attend, merge_heads, split_heads
from photophone.layers.embeddings import TimestepEmbedding, sinusoidal_embedding
from photophone.loading.checkpoints import State, rename_keys

NORM_GROUPS, NORM_EPS = 8, 1e-6
TIME_EMBEDDINGS = ("rotary", "sinusoidal")
ROTARY_BASE = 10_000.0
KEYS = [(r"^module\.", ""), (r"\bwrapper\.module\.", ""), (r"\battn_block\.", ""), (r"\battn\.", ""),
        (r"\btime_pos_embedding\.1\.linear_1\.", "place.mlp.0."),
        (r"\btime_pos_embedding\.1\.linear_2\.", "place.mlp.2."),
        (r"^noise_level_pos_embedding\.1\.linear_1\.", "level_embed.mlp.0."),
        (r"^noise_level_pos_embedding\.1\.linear_2\.", "level_embed.mlp.2."),
        (r"^rotary_time_pos_embedding\.freqs$", "rotary_frequencies"),
        (r"\bin_layers\.0\.", "norm1."), (r"\bin_layers\.2\.", "conv1."), (r"\bout_layers\.0\.", "norm2."),
        (r"\bout_layers\.2\.", "conv2."), (r"\bemb_layers\.1\.", "modulation."), (r"\bskip_conv\.", "shortcut."),
        (r"^init_conv\.", "conv_in."), (r"^init_temporal_attn\.", "temporal_in."), (r"^out\.0\.", "block_out."),
        (r"^out\.1\.", "conv_out."), (r"^mid_block\.", "mid."), (r"^(down)_blocks\.(\d+)\.0\.", r"\1.\2.parts."),
        (r"^(down)_blocks\.(\d+)\.1\.conv\.", r"\1.\2.resample."),
        (r"^(up)_blocks\.(\d+)\.4\.conv\.", r"\1.\2.resample."),
        (r"^(up)_blocks\.(\d+)\.", r"\1.\2.parts.")]


class FrameBlock(nn.Module):
    """Two convolutions inside each frame; the level's embedding scales and shifts between them, where there is one."""

    def __init__(self, in_channels: int, out_channels: int, embedding_dim: int | None) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(NORM_GROUPS, in_channels, eps=NORM_EPS)
        self.conv1 = nn.Conv3d(in_channels, out_channels, (1, 3, 3), padding=(0, 1, 1))
        self.modulation = None if embedding_dim is None else nn.Linear(embedding_dim, 2 * out_channels)
        self.norm2 = nn.GroupNorm(NORM_GROUPS, out_channels, eps=NORM_EPS)
        self.conv2 = nn.Conv3d(out_channels, out_channels, (1, 3, 3), padding=(0, 1, 1))
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv3d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """x (B, C, T, H, W), embedding (B, T, E) to (B, C', T, H, W)."""
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.modulation is not None:
            scale, shift = self.modulation(F.silu(embedding)).transpose(1, 2)[..., None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        return self.conv2(F.silu(h)) + self.shortcut(x)


class AxisAttention(nn.Module):
    """Attention with a residual over one axis of (..., N, C), with a norm of the channels in front.

    Args:
        width: channels C.
        num_heads, head_dim: of the attention.
        linear: keys are weighted over positions and queries over channels instead (arXiv 1812.01243).
        places: adds an embedding of positions first.
    """

    def __init__(self, width: int, num_heads: int, head_dim: int, *, linear: bool = False,
                 places: bool = False) -> None:
        super().__init__()
        self.num_heads, self.linear = num_heads, linear
        self.norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * num_heads * head_dim, bias=False)
        self.to_out = nn.Linear(num_heads * head_dim, width)
        self.place = PlaceEmbedding(width) if places else None

    def forward(self, x: Tensor, rotary: Tensor | None = None, causal: bool = False) -> Tensor:
        """x (M, N, C) to the same; rotary table (N, d / 2, 2)."""
        if self.place is not None:
            x = x + self.place(torch.arange(x.shape[1], device=x.device)).to(x.dtype)
        queries, keys, values = (split_heads(part, self.num_heads) for part in self.to_qkv(self.norm(x)).chunk(3, -1))
        if rotary is not None:
            queries, keys = rotate(queries, rotary), rotate(keys, rotary)
        if self.linear:
            queries = queries.softmax(dim=-1) * queries.shape[-1] ** -0.5
            made = queries @ (keys.softmax(dim=-2).transpose(-1, -2) @ values)
        else:
            places = torch.arange(x.shape[1], device=x.device)
            made = attend(queries, keys, values, places[:, None] >= places if causal else None)
        return x + self.to_out(merge_heads(made))


class PlaceEmbedding(nn.Module):
    """Positions (N,) to (N, C), by a sinusoid and two layers of four times the width between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))

    def forward(self, places: Tensor) -> Tensor:
        """See the class."""
        return self.mlp(sinusoidal_embedding(places, self.width).to(self.mlp[0].weight.dtype))


class FrameLevel(nn.Module):
    """Two blocks, attention in space and time where asked, and a change of size."""

    def __init__(self, in_channels: int, out_channels: int, embedding_dim: int, attention: Sequence[nn.Module | None],
                 resample: nn.Module | None) -> None:
        super().__init__()
        self.parts = nn.ModuleList([FrameBlock(in_channels, out_channels, embedding_dim),
                                    FrameBlock(out_channels, out_channels, embedding_dim),
                                    *(part or nn.Identity() for part in attention)])
        self.resample = resample

    def forward(self, x: Tensor, embedding: Tensor, rotary: Tensor | None, causal: bool) -> Tensor:
        """x (B, C, T, H, W) to (B, C', T, H, W)."""
        first, second, *attention = self.parts
        return look(second(first(x, embedding), embedding), *attention, rotary, causal)


def look(x: Tensor, space: nn.Module, time: nn.Module, rotary: Tensor | None, causal: bool) -> Tensor:
    """x (B, C, T, H, W) through an attention over the pixels of each frame, then over the frames of each pixel."""
    return over_frames(over_pixels(x, space), time, rotary, causal)


def over_pixels(x: Tensor, attention: nn.Module) -> Tensor:
    """x (B, C, T, H, W) through an attention over the pixels of each frame."""
    if isinstance(attention, nn.Identity):
        return x
    rows = x.permute(0, 2, 3, 4, 1)
    return attention(rows.flatten(2, 3).flatten(0, 1)).view_as(rows).permute(0, 4, 1, 2, 3)


def over_frames(x: Tensor, attention: nn.Module, rotary: Tensor | None, causal: bool) -> Tensor:
    """x (B, C, T, H, W) through an attention over the frames of each pixel."""
    if isinstance(attention, nn.Identity):
        return x
    rows = x.permute(0, 3, 4, 2, 1)
    made = attention(rows.flatten(0, 2), rotary, causal).view(rows.shape)
    return made.permute(0, 4, 3, 1, 2)


class FrameUNet(nn.Module):
    """Noisy frames (B, T, C, H, W) with their levels to outputs of the same shape.

    Args:
        channels: C.
        width: channels W of the finest level.
        multipliers: one factor on W a level, from the finest; each halves the size.
        resolution: pixels per side.
        attention_sizes: sizes of the levels that have attention.
        num_heads, head_dim: of attention.
        first_attention: frames see each other once before all levels.
        linear_attention: over pixels, but for the coarsest level.
        time_embedding: how frames know their places: "rotary" or "sinusoidal".

    Raises:
        ValueError: for settings that are unknown or do not fit.
    """

    DROPPED_KEYS = ("*.rotary_emb.freqs",)  # those of the whole network again

    def __init__(self, channels: int = 3, width: int = 64, multipliers: Sequence[int] = (1, 2, 4, 8),
                 resolution: int = 64, attention_sizes: Sequence[int] = (8, 16, 32, 64), num_heads: int = 4,
                 head_dim: int = 32, first_attention: bool = True, linear_attention: bool = True,
                 time_embedding: str = "rotary") -> None:
        super().__init__()
        if time_embedding not in TIME_EMBEDDINGS:
            raise ValueError(f"time_embedding must be one of {', '.join(TIME_EMBEDDINGS)}, got {time_embedding!r}")
        if width % NORM_GROUPS:
            raise ValueError(f"width must be a multiple of {NORM_GROUPS}, got {width}")
        rotary, levels, embedding_dim = time_embedding == "rotary", len(multipliers), 4 * width
        self.level_embed = TimestepEmbedding(embedding_dim, width)
        self.rotary_frequencies = None
        if rotary:
            self.rotary_frequencies = nn.Parameter(ROTARY_BASE ** -(torch.arange(0, head_dim, 2) / head_dim))

        def time(channels: int) -> AxisAttention:
            return AxisAttention(channels, num_heads, head_dim, places=not rotary)

        def attention(level: int, channels: int) -> tuple:
            if resolution // 2**level not in attention_sizes:
                return None, None
            linear = linear_attention and level < levels - 1
            return AxisAttention(channels, num_heads, head_dim, linear=linear), time(channels)

        widths = [width] + [width * factor for factor in multipliers]
        self.conv_in = nn.Conv3d(channels, width, (1, 7, 7), padding=(0, 3, 3))
        self.temporal_in = time(width) if first_attention else nn.Identity()
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (before, own) in enumerate(zip(widths, widths[1:])):
            half = None if level == levels - 1 else nn.Conv3d(own, own, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
            self.down.append(FrameLevel(before, own, embedding_dim, attention(level, own), half))
        for level in reversed(range(levels)):
            before, own = widths[level], widths[level + 1]
            resample = nn.Conv3d(before, before, (1, 3, 3), padding=(0, 1, 1)) if level else None
            self.up.append(FrameLevel(2 * own, before, embedding_dim, attention(level, before), resample))
        last = widths[-1]
        self.mid = nn.ModuleList([FrameBlock(last, last, embedding_dim), AxisAttention(last, num_heads, head_dim),
                                  time(last), FrameBlock(last, last, embedding_dim)])
        self.block_out = FrameBlock(2 * width, width, None)
        self.conv_out = nn.Conv3d(width, channels, 1)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        kept = {key: value for key, value in state.items() if not key.endswith("rotary_emb.freqs")}
        return rename_keys(kept, KEYS)

    def rotary(self, frames: int) -> Tensor | None:
        """The rotary table of frames, or None."""
        if self.rotary_frequencies is None:
            return None
        places = torch.arange(frames, device=self.rotary_frequencies.device).float()
        angles = torch.outer(places, self.rotary_frequencies.float())
        return torch.stack([angles.cos(), angles.sin()], dim=-1)

    def forward(self, x: Tensor, level: Tensor, condition: None = None, causal: bool = True) -> Tensor:
        """x (B, T, C, H, W), level Long (B, T) to (B, T, C, H, W); this network takes no conditions."""
        embedding, rotary = self.level_embed(level), self.rotary(x.shape[1])
        x = first = over_frames(self.conv_in(x.transpose(1, 2)), self.temporal_in, rotary, causal)
        seen = []
        for down in self.down:
            x = down(x, embedding, rotary, causal)
            seen.append(x)
            x = x if down.resample is None else down.resample(x)
        start, space, time, end = self.mid
        x = end(look(start(x, embedding), space, time, rotary, causal), embedding)
        for up in self.up:
            x = up(torch.cat([x, seen.pop()], dim=1), embedding, rotary, causal)
            if up.resample is not None:
                x = up.resample(F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest"))
        return self.conv_out(self.block_out(torch.cat([x, first], dim=1))).transpose(1, 2)
