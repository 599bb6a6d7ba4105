"""The supervised semantic tokenizers of CosyVoice 1, 2 and 3: a speech recogniser with a quantizer in its middle.

Papers: CosyVoice (arXiv 2407.05407), CosyVoice 2 (2412.10117), CosyVoice 3 (2505.17589). The authors publish ONNX
files; the layers are those that xingchensong/S3Tokenizer (Apache-2.0) found in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.codecs.speech_units.base import SpeechUnits
from photophone.codecs.speech_units.blocks import (
    HOP,
    UnitBlock,
    WhisperMel,
    conv_frames,
    join_qkv,
    sine_positions,
    windows,
)
from photophone.codecs.speech_units.onnx_keys import depth_of, s3_state
from photophone.kernels.pack import pack_levels
from photophone.kernels.vq import nearest_code
from photophone.layers.lengths import keep_valid, length_mask
from photophone.layers.rotary import sequence_rotary
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

WINDOW, OVERLAP = 3000, 400
"""Mel frames that are read at once, 30 s, and of them those that neighbours share."""
FSQ_DIGITS, FSQ_SHRINK = 8, 0.9990000128746033
"""Digits of a unit of version 2, each 0, 1 or 2, and the factor that keeps them within."""
KEYS = [(r"^encoder\.", ""), (r"^positional_embedding$", "positions"), (r"\.attn_ln\.", ".norm1."),
        (r"\.mlp_ln\.", ".norm2."), (r"\.mlp\.", ".feed_forward."), (r"\.attn\.out\.", ".to_out."),
        (r"\.attn\.fsmn_block\.", ".memory."), (r"^quantizer\._codebook\.embed$", "codebook"),
        (r"^quantizer\._codebook\.project_down\.", "to_digits.")]


class S3Tokenizer(OriginalCheckpoint, SpeechUnits):
    """Speech (B, 1, T) at 16 kHz to units Long (B, N), 25 or 50 a second.

    Args:
        num_mels: bands of the mel frames.
        width, depth, num_heads: of the transformer.
        strides: of the two convolutions in front: [1, 2] for 50 units a second, [2, 2] for 25.
        num_codes: units of version 1, which are codes of a codebook; None: version 2, whose units are eight digits of
            three levels.
        memory: kernel of the memory of each block, None in version 1; it comes with rotary positions in place of a
            table.
        max_length: rows of the table of positions.
    """

    OTHER = "TokenToSpeechPipeline"

    def __init__(self, num_mels: int = 128, width: int = 1280, depth: int = 6, num_heads: int = 20,
                 strides: list[int] | tuple[int, ...] = (2, 2), num_codes: int | None = None, memory: int | None = 31,
                 max_length: int = 1500) -> None:
        super().__init__()
        if len(strides) != 2 or min(strides) < 1:
            raise ValueError(f"strides must be two numbers of at least 1, got {list(strides)}")
        self.mel = WhisperMel(num_mels)
        self.conv1 = nn.Conv1d(num_mels, width, 3, stride=strides[0], padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=strides[1], padding=1)
        eps = 1e-6 if memory else 1e-5
        self.blocks = nn.ModuleList(UnitBlock(width, num_heads, 4 * width, memory, eps) for _ in range(depth))
        if not memory:
            self.register_buffer("positions", sine_positions(max_length, width))
        if num_codes is None:
            self.to_digits = nn.Linear(width, FSQ_DIGITS)
        else:
            self.register_buffer("codebook", functional.normalize(torch.randn(num_codes, width), dim=-1))

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return rename_keys(join_qkv(state, "query", "key", "value"), KEYS)

    @classmethod
    def from_original(cls, source: str | Path | Mapping[str, Any], *, take: str | None = None, **config: Any) -> Self:
        """See :meth:`OriginalCheckpoint.from_original`; also the authors' ``.onnx`` files, whose initialisers become
        weights, and whose number of blocks counts, whatever ``depth`` says."""
        if isinstance(source, str | Path) and Path(source).suffix.lower() == ".onnx":
            state = s3_state(source)
            return super().from_original(state, take=take, **{**config, "depth": depth_of(state)})
        return super().from_original(source, take=take, **config)

    @property
    def hop_length(self) -> int:
        return HOP * self.config.strides[0] * self.config.strides[1]

    @property
    def num_units(self) -> int:
        return self.config.num_codes or 3**FSQ_DIGITS

    def hidden(self, mel: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """States (B, N, width) of mel frames (B, num_mels, F), and how many each row has, Long (B,).

        Args:
            lengths: Long (B,), frames of each row; None: all.
        """
        frames = torch.full((len(mel),), mel.shape[-1], device=mel.device) if lengths is None else lengths
        x = functional.gelu(self.conv1(keep_valid(mel, length_mask(frames, mel.shape[-1]))))
        frames = conv_frames(frames, self.config.strides[:1])
        x = functional.gelu(self.conv2(keep_valid(x, length_mask(frames, x.shape[-1]))))
        frames = conv_frames(frames, self.config.strides[1:])
        x = x.transpose(1, 2)
        valid, rotary = length_mask(frames, x.shape[1]), None
        if self.config.memory:
            rotary = sequence_rotary(x.shape[1], self.config.width // self.config.num_heads, device=x.device)
        else:
            x = x + self.positions[:x.shape[1]]
        for block in self.blocks:
            x = block(x, valid[:, None, None], valid, rotary)
        return x, frames

    def quantize(self, states: Tensor) -> Tensor:
        """States (B, N, width) to units Long (B, N)."""
        if self.config.num_codes is None:
            digits = (self.to_digits(states).float().tanh() * FSQ_SHRINK).round() + 1
            return pack_levels(digits.long(), [3] * FSQ_DIGITS)
        unit = functional.normalize(states.float(), dim=-1)
        return nearest_code(unit.flatten(0, 1), self.codebook.float()).unflatten(0, unit.shape[:2])

    def token_lengths(self, lengths: Tensor) -> Tensor:
        """Windows of long clips give what lies between the middles of what they share."""
        counts = []
        for frames in (lengths.clamp(min=self.least_samples) // HOP).tolist():
            parts = windows(frames, WINDOW, OVERLAP)
            sizes = [int(conv_frames(torch.tensor(end - start), self.config.strides)) for start, end in parts]
            counts.append(sum(len(range(size)[self._inner(index, len(parts))]) for index, size in enumerate(sizes)))
        return torch.tensor(counts, device=lengths.device)

    def units(self, audio: Tensor) -> Tensor:
        mel = self.mel(audio).to(self.dtype)
        parts, made = windows(mel.shape[-1], WINDOW, OVERLAP), []
        for index, (start, end) in enumerate(parts):
            states, _ = self.hidden(mel[..., start:end])
            made.append(self.quantize(states)[:, self._inner(index, len(parts))])
        return torch.cat(made, dim=1)

    def _inner(self, index: int, count: int) -> slice:
        """The units of a window that are kept: half of what neighbours share belongs to each."""
        half = OVERLAP // 2 // (self.config.strides[0] * self.config.strides[1])
        return slice(half if index else 0, None if index == count - 1 else -half)
