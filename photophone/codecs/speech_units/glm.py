"""The speech tokenizer of GLM-4-Voice: half of Whisper's encoder with causal blocks, pooled and quantized.

Paper: arXiv 2412.02612. Official code: THUDM/GLM-4-Voice, Apache-2.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.codecs.speech_units.base import SpeechUnits
from photophone.codecs.speech_units.blocks import HOP, SAMPLE_RATE, UnitBlock, WhisperMel, join_qkv
from photophone.kernels.vq import nearest_code
from photophone.layers.lengths import length_mask
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

WINDOW = 30 * SAMPLE_RATE
"""Samples that are read at once."""
KEYS = [(r"^layers\.", "blocks."), (r"^embed_positions\.", "positions."), (r"^embed_positions2\.", "unit_positions."),
        (r"\.self_attn_layer_norm\.", ".norm1."), (r"\.final_layer_norm\.", ".norm2."),
        (r"\.fc1\.", ".feed_forward.0."), (r"\.fc2\.", ".feed_forward.2."),
        (r"\.self_attn\.out_proj\.", ".to_out."), (r"^codebook\.weight$", "codebook")]


class GLM4VoiceTokenizer(OriginalCheckpoint, SpeechUnits):
    """Speech (B, 1, T) at 16 kHz to units Long (B, N), 12.5 a second.

    Args:
        num_mels: bands of the mel frames.
        width, num_heads, hidden: of the transformer.
        depth: its layers; the published encoder has more, which nothing reads.
        max_length: rows of the table of positions.
        pool_after, pool: layers in front of the average pooling, and the frames that become one.
        quantize_after: layers in front of the quantizer; at most ``depth``.
        block: frames in front of the pooling that see each other, and all before them; None: all frames do.
        num_codes: units.
    """

    OTHER = "the flow decoder of GLM-4-Voice"
    DROPPED_KEYS = ("*decoder.*", "*proj_out.*", "*encoder.layer_norm.*", "layer_norm.*", "*ema_count", "*ema_weight",
                    "*quantize_ema_count", "*total_code_usage")

    def __init__(self, num_mels: int = 128, width: int = 1280, depth: int = 16, num_heads: int = 20,
                 hidden: int = 5120, max_length: int = 1500, pool_after: int = 16, pool: int = 4,
                 quantize_after: int = 16, block: int | None = 200, num_codes: int = 16384) -> None:
        super().__init__()
        if not 0 < pool_after <= quantize_after <= depth:
            raise ValueError(f"pooling and quantizer stand behind layers 1 to {depth} in this order, got {pool_after} "
                             f"and {quantize_after}")
        if block is not None and block % pool:
            raise ValueError(f"a block must be whole groups of {pool} frames, got {block}")
        self.mel = WhisperMel(num_mels)
        self.conv1 = nn.Conv1d(num_mels, width, 3)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2)
        self.positions = nn.Embedding(max_length, width)
        self.blocks = nn.ModuleList(UnitBlock(width, num_heads, hidden) for _ in range(depth))
        self.register_buffer("codebook", torch.randn(num_codes, width))
        self.unit_positions = nn.Embedding(max_length // pool, width)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        state = rename_keys(state, [(r"^(model\.)?(encoder\.)?", "")])
        return rename_keys(join_qkv(state, "q_proj", "k_proj", "v_proj"), KEYS)

    @classmethod
    def prepare_state_dict(cls, state: State, config: Mapping[str, Any]) -> State:
        depth = config.get("depth", 16)
        kept = {key: value for key, value in state.items()
                if not ((layer := re.search(r"(?:^|\.)layers\.(\d+)\.", key)) and int(layer[1]) >= depth)}
        return cls.convert_state_dict(kept)

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the class from the official ``config.json``.

        Raises:
            ValueError: for a tokenizer without causal convolutions, or with another pooling: no published one.
        """
        if not official.get("encoder_causal_convolution", True) or official.get("pooling_type", "avg") != "avg":
            raise ValueError("the published tokenizer has causal convolutions and average pooling, ours too")
        names = {"num_mels": "num_mel_bins", "width": "d_model", "num_heads": "encoder_attention_heads",
                 "hidden": "encoder_ffn_dim", "max_length": "max_source_positions", "pool_after": "pooling_position",
                 "pool": "pooling_kernel_size", "quantize_after": "quantize_position",
                 "block": "quantize_causal_block_size", "num_codes": "quantize_vocab_size",
                 "depth": "quantize_position"}
        return {ours: official[theirs] for ours, theirs in names.items()}

    @property
    def hop_length(self) -> int:
        return 2 * HOP * self.config.pool

    @property
    def num_units(self) -> int:
        return self.config.num_codes

    def embed(self, mel: Tensor) -> Tensor:
        """What the first layer reads, (B, F / 2, width)."""
        x = functional.gelu(self.conv1(functional.pad(mel, (2, 0))))
        x = functional.gelu(self.conv2(functional.pad(x, (2, 0)))).transpose(1, 2)
        return x + self.positions.weight[:x.shape[1]]

    def states(self, mel: Tensor, valid: Tensor | None = None,
               units: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """What each layer reads and the last one gives, and the units Long (B, N).

        Args:
            mel: (B, num_mels, F), F even.
            valid: bool (B, F), False at padding; None: nowhere.
            units: read these in place of those that are found.
        """
        config, pooled = self.config, 1
        x, states = self.embed(mel), []
        valid = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if valid is None else valid[:, ::2]
        for index, block in enumerate(self.blocks):
            states.append(x)
            x = block(x, self._seen(valid, pooled), valid)
            if index + 1 == config.pool_after:
                x = functional.avg_pool1d(functional.pad(x.transpose(1, 2), (0, -x.shape[1] % config.pool)),
                                          config.pool).transpose(1, 2)
                valid, pooled = valid[:, ::config.pool], config.pool
            if index + 1 == config.quantize_after:
                found = nearest_code(x.flatten(0, 1).float(), self.codebook.float()).unflatten(0, x.shape[:2])
                units = found if units is None else units
                x = self.codebook[units] + self.unit_positions.weight[:x.shape[1]]
        return [*states, x], units

    def _seen(self, valid: Tensor, pooled: int) -> Tensor:
        """Bool (B, 1, N, N): a frame sees its own block and all before it, but no padding."""
        seen = valid[:, None, None]
        if self.config.block is not None:
            size, places = self.config.block // pooled, torch.arange(valid.shape[1], device=valid.device)
            seen = seen & (places // size <= places[:, None] // size)
        return seen

    def token_lengths(self, lengths: Tensor) -> Tensor:
        return -(-lengths // self.hop_length)

    def units(self, audio: Tensor) -> Tensor:
        """Pieces of 30 s, each on its own and filled up by silence to whole units."""
        made = []
        for part in audio.split(WINDOW, dim=-1):
            filled = functional.pad(part, (0, -part.shape[-1] % self.hop_length))
            mel = self.mel(filled).to(self.dtype)
            frames = torch.full((len(part),), -(-part.shape[-1] // HOP), device=mel.device)
            made.append(self.states(mel, length_mask(frames, mel.shape[-1]))[1])
        return torch.cat(made, dim=1)
