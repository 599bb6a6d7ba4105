"""TASTE's aligner: Whisper's encoder, and its decoder, which looks for words by one layer and takes what it finds from
another.

Papers: Whisper (arXiv 2212.04356), TASTE (2504.07053).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.layers.transformer import TransformerBlock
from photophone.loading.checkpoints import State, rename_keys


class WhisperEncoder(nn.Module):
    """Mel frames (B, T, num_mels) to keys and values (B, max_frames, width).

    Args:
        num_mels: bands.
        max_frames: of the result; the input has twice as many, and is filled up by zeros, which attention sees.
        width, depth, num_heads, hidden: of the blocks.
        value_layer: values are the states in front of this block, keys those behind all of them.
    """

    def __init__(self, num_mels: int, max_frames: int, width: int, depth: int, num_heads: int, hidden: int,
                 value_layer: int) -> None:
        super().__init__()
        if not 0 <= value_layer < depth:
            raise ValueError(f"value_layer must lie in 0..{depth - 1}, got {value_layer}")
        self.max_frames, self.value_layer = max_frames, value_layer
        self.conv1 = nn.Conv1d(num_mels, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.positions = nn.Embedding(max_frames, width)
        self.blocks = nn.ModuleList(TransformerBlock(width, num_heads, hidden / width, feed_forward="gelu")
                                    for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values."""
        x = F.pad(mel.transpose(1, 2), (0, 2 * self.max_frames - mel.shape[1]))
        x = F.gelu(self.conv2(F.gelu(self.conv1(x)))).transpose(1, 2) + self.positions.weight
        values = x
        for number, block in enumerate(self.blocks):
            values = x if number == self.value_layer else values
            x = block(x)
        return self.norm(x), values


class WhisperDecoder(nn.Module):
    """Ids Long (B, N) to states (B, N, width), each of which has looked at speech.

    Args:
        vocab_size, max_text: ids, and places of them.
        width, depth, num_heads, hidden: of the blocks.
    """

    def __init__(self, vocab_size: int, max_text: int, width: int, depth: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab_size, width), nn.Embedding(max_text, width)
        self.blocks = nn.ModuleList(TransformerBlock(width, num_heads, hidden / width, width, feed_forward="gelu")
                                    for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """keys, values: of :class:`WhisperEncoder`."""
        x = self.tokens(ids) + self.positions.weight[:ids.shape[1]]
        order = torch.arange(ids.shape[1], device=ids.device)
        for block in self.blocks:
            x = x + block.attention(block.norm1(x), order <= order[:, None])
            seen = block.cross.keys_values(keys)[0], block.cross.keys_values(values)[1]
            x = x + block.cross(block.norm_cross(x), None, seen)
            x = x + block.feed_forward(block.norm2(x))
        return self.norm(x)


def convert_whisper_keys(state: State) -> State:
    """Keys of Whisper as transformers writes it to those of the two classes, below the same prefixes; keys have no
    bias."""
    made: State = {}
    for key, value in state.items():
        if ".k_proj." in key:
            made[key.replace("k_proj", "to_kv")] = torch.cat([value, state[key.replace("k_proj", "v_proj")]])
        elif key.endswith(".v_proj.bias"):
            made[key.replace("v_proj", "to_kv")] = torch.cat([torch.zeros_like(value), value])
        elif ".v_proj." not in key:
            made[key] = value
    return rename_keys(made, [
        (r"\.embed_positions\.", ".positions."), (r"\.embed_tokens\.", ".tokens."),
        (r"\.layers\.(\d+)\.self_attn_layer_norm\.", r".blocks.\1.norm1."),
        (r"\.layers\.(\d+)\.encoder_attn_layer_norm\.", r".blocks.\1.norm_cross."),
        (r"\.layers\.(\d+)\.final_layer_norm\.", r".blocks.\1.norm2."),
        (r"\.layers\.(\d+)\.self_attn\.", r".blocks.\1.attention."),
        (r"\.layers\.(\d+)\.encoder_attn\.", r".blocks.\1.cross."),
        (r"\.layers\.(\d+)\.fc1\.", r".blocks.\1.feed_forward.0."),
        (r"\.layers\.(\d+)\.fc2\.", r".blocks.\1.feed_forward.2."),
        (r"\.q_proj\.", ".to_q."), (r"\.out_proj\.", ".to_out."), (r"\.layer_norm\.", ".norm.")])
