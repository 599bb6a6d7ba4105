"""The diffusion transformer that estimates velocities of mel frames in CosyVoice 3 (arXiv 2505.17589), after F5-TTS
(2410.06885).

Two quirks that the weights depend on: rotary positions turn the first head alone, because they were applied before the
heads were split; and attention adds nothing to frames behind the end of a row.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.generators.cosyvoice.chunked import Sight, SightMemory, WindowCache
from photophone.kernels.rotary import rotate
from photophone.layers.adaln import AdaLNFinalLayer
from photophone.layers.adaln_block import AdaLNBlock
from photophone.layers.attention import attend
from photophone.layers.causal_conv import CausalConv1d
from photophone.layers.embeddings import TimestepEmbedding
from photophone.layers.transformer import FeedForward

POSITION_KERNEL, POSITION_GROUPS = 31, 16


class FirstHeadRotaryAttention(nn.Module):
    """Self-attention (B, N, C) -> (B, N, C) whose first head alone has rotary positions.

    Args:
        dim: width C.
        num_heads: heads H.
        head_dim: width of a head.
    """

    def __init__(self, dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, num_heads * head_dim) for _ in range(3))
        self.to_out = nn.Linear(num_heads * head_dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None, rotary: Tensor | None = None,
                cache: WindowCache | None = None) -> Tensor:
        """See :class:`photophone.layers.self_attention.SelfAttention`; a square mask tells which frames are padding."""
        queries, keys, values = (layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
                                 for layer in (self.to_q, self.to_k, self.to_v))  # (B, H, N, d) each
        if rotary is not None:
            queries, keys = (torch.cat([rotate(heads[:, :1], rotary), heads[:, 1:]], dim=1)
                             for heads in (queries, keys))
        if cache is not None:
            keys, values = cache.append(keys, values)
        out = self.to_out(attend(queries, keys, values, mask).transpose(1, 2).flatten(2))
        if mask is None or cache is not None:
            return out
        return out.masked_fill(~mask.any(dim=-2)[:, 0, :, None], 0)  # a frame that nobody sees is padding


class MelDiT(nn.Module):
    """Velocities (B, mel_dim, T) of frames x, given frames, a speaker and known frames.

    Args:
        dim, depth, num_heads, head_dim: of the transformer; dim is a multiple of 16.
        mlp_ratio: hidden width of the feed-forward over dim.
        mel_dim: channels of x and of known frames.
        mu_dim, speaker_dim: channels of the other two inputs.
        chunk: frames of a chunk where attention is by chunks.
    """

    streams = True

    def __init__(self, dim: int = 1024, depth: int = 22, num_heads: int = 16, head_dim: int = 64,
                 mlp_ratio: float = 2.0, mel_dim: int = 80, mu_dim: int = 80, speaker_dim: int = 80,
                 chunk: int | None = None) -> None:
        super().__init__()
        self.chunk, self.head_dim = chunk, head_dim
        self.time_embed = TimestepEmbedding(dim, 256, time_scale=1000.0, sine_first=True)
        self.input_proj = nn.Linear(2 * mel_dim + mu_dim + speaker_dim, dim)
        self.position = nn.Sequential(*(layer for _ in range(2) for layer in (
            CausalConv1d(dim, dim, POSITION_KERNEL, groups=POSITION_GROUPS), nn.Mish())))
        self.blocks = nn.ModuleList(
            AdaLNBlock(FirstHeadRotaryAttention(dim, num_heads, head_dim), FeedForward(dim, mlp_ratio), dim)
            for _ in range(depth))
        self.final_layer = AdaLNFinalLayer(dim, mel_dim)
        self.memory = SightMemory(depth)

    def forward(self, x: Tensor, mask: Tensor, mu: Tensor, t: Tensor, speaker: Tensor, cond: Tensor,
                sight: Sight) -> Tensor:
        """x, mu, cond (B, C, T), mask (B, 1, T) of ones and zeros, t (B,) in 0..1, speaker (B, C) to (B, mel_dim, T).

        What comes out behind the end of a row is not masked.
        """
        time = self.time_embed(t)[:, None]  # (B, 1, dim)
        speaker = speaker[..., None].expand(-1, -1, x.shape[-1])
        frames = self.input_proj(torch.cat([x, cond, mu, speaker], dim=1).transpose(1, 2))
        frames = frames + self.position(frames.transpose(1, 2)).transpose(1, 2)
        view = self.memory(x.shape[-1], sight, x.device)
        allowed, seen = view.mask, mask.bool()[:, None]  # (B, 1, 1, T)
        if view.caches[0] is None:  # a stream has no padded rows
            allowed = seen.expand(-1, -1, x.shape[-1], -1) if allowed is None else seen & allowed
        rotary = self._rotary(view.queries)
        for block, cache in zip(self.blocks, view.caches, strict=True):
            frames = block(frames, time, allowed, rotary, cache)
        return self.final_layer(frames, time).transpose(1, 2)

    def rotary_rates(self) -> Tensor:
        """Radians a frame, (head_dim / 2,)."""
        places = torch.arange(0, self.head_dim, 2, device=self.input_proj.weight.device).float()
        return 1.0 / 10_000.0 ** (places / self.head_dim)

    def _rotary(self, positions: Tensor) -> Tensor:
        """Table (N, head_dim / 2, 2) of the positions (N,)."""
        angles = positions.float()[:, None] * self.rotary_rates()
        return torch.stack([angles.cos(), angles.sin()], dim=-1)
