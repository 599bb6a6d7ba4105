"""What encoders of speech units share with Whisper's: its mel frames and its transformer blocks (arXiv 2212.04356)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.kernels.rotary import rotate
from photophone.layers.attention import attend, merge_heads, split_heads
from photophone.layers.embeddings import sinusoidal_embedding
from photophone.layers.lengths import keep_valid
from photophone.layers.mel import MelSpectrogram
from photophone.layers.transformer import FeedForward
from photophone.loading.checkpoints import State

SAMPLE_RATE = 16000
HOP = 160
"""Samples from mel frame to mel frame."""


class WhisperMel(nn.Module):
    """Whisper's log-mel frames of clips (B, T) at 16 kHz: (B, num_mels, T // 160), about -1 to 1.5.

    The loudest band of a clip sets the floor for all others, so a clip must come without padding.
    """

    def __init__(self, num_mels: int) -> None:
        super().__init__()
        self.mel = MelSpectrogram(SAMPLE_RATE, 400, HOP, num_mels, mel_scale="slaney", norm="slaney", power=2.0,
                                  log="10", clip=1e-10)

    def forward(self, audio: Tensor) -> Tensor:
        """The last frame, which lies half behind the end, is left out."""
        logs = self.mel(audio)[..., :audio.shape[-1] // HOP]
        floor = logs.amax(dim=(1, 2), keepdim=True) - 8
        return (torch.maximum(logs, floor) + 4) / 4


class UnitBlock(nn.Module):
    """Pre-norm attention and feed-forward with exact GELU: (B, N, C) -> (B, N, C).

    Args:
        dim: width C.
        num_heads: heads.
        hidden: width of the feed-forward.
        memory: kernel of a convolution, channel by channel, that is added to what attention gives (the memory of
            FSMN, arXiv 1512.08301); None: none.
        attention_eps: of the norm in front of the attention.
    """

    def __init__(self, dim: int, num_heads: int, hidden: int, memory: int | None = None,
                 attention_eps: float = 1e-5) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(dim, eps=attention_eps)
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.to_out = nn.Linear(dim, dim)
        self.memory = nn.Conv1d(dim, dim, memory, padding=memory // 2, groups=dim, bias=False) if memory else None
        self.norm2 = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, hidden / dim, exact=True)

    def forward(self, x: Tensor, seen: Tensor | None, valid: Tensor, rotary: Tensor | None = None) -> Tensor:
        """x (B, N, C) to the same.

        Args:
            seen: bool, broadcastable to (B, 1, N, N), True where attention is allowed.
            valid: bool (B, N), False at padding.
            rotary: table of positions, whose channels pair by halves.
        """
        queries, keys, values = self.to_qkv(self.norm1(x)).chunk(3, dim=-1)
        heads = [split_heads(part, self.num_heads) for part in (queries, keys, values)]
        if rotary is not None:
            heads[:2] = [rotate(part, rotary, True) for part in heads[:2]]
        added = self.to_out(merge_heads(attend(*heads, seen)))
        if self.memory is not None:
            signal = keep_valid(values.transpose(1, 2), valid)
            added = added + keep_valid(self.memory(signal) + signal, valid).transpose(1, 2)
        x = x + added
        return x + self.feed_forward(self.norm2(x))


def sine_positions(length: int, dim: int) -> Tensor:
    """Whisper's table of positions, float32 (length, dim)."""
    return sinusoidal_embedding(torch.arange(length), dim, sine_first=True)


def join_qkv(state: State, query: str, key: str, value: str) -> State:
    """Queries, keys and values of all attention layers as one matrix, and a bias of the keys that is zero.

    Args:
        state: keys such as "blocks.0.attn.query.weight".
        query, key, value: names of the three layers.
    """
    joined = {}
    for name, tensor in state.items():
        before, dot, kind = name.rpartition(f".{query}.")
        if dot:
            others = [state.get(f"{before}.{part}.{kind}") for part in (key, value)]
            parts = [tensor, *(torch.zeros_like(tensor) if other is None else other for other in others)]
            joined[f"{before.rpartition('.')[0]}.to_qkv.{kind}"] = torch.cat(parts)
        elif f".{key}." not in name and f".{value}." not in name:
            joined[name] = tensor
    return joined


def windows(frames: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """Begin and end of the windows of ``size`` frames that a long clip is read in; neighbours share ``overlap``."""
    if frames <= size:
        return [(0, frames)]
    starts = range(0, frames, size - overlap)
    return [(start, min(start + size, frames)) for start in starts]


def conv_frames(frames: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Frames Long (B,) behind convolutions of kernel 3 with one frame of padding at both ends."""
    for stride in strides:
        frames = (frames - 1) // stride + 1
    return frames
