"""What both models of VoxInstruct share: the encoder of instructions and a Llama behind it."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from photophone.generators.voxinstruct.condition import Layout
from photophone.layers.llama_block import LlamaStack, convert_llama_keys
from photophone.layers.rotary import sequence_rotary
from photophone.loading.checkpoints import State, rename_keys
from photophone.loading.lora import merge_lora

TEXT, UNITS, CODES = range(3)
"""Segments of a sequence."""
MT5 = {"vocab_size": 250112, "d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12, "num_heads": 12}
LORA_SCALE = 1.0
"""Of the published LoRA: alpha 16 over rank 16."""


class InstructionEncoder(nn.Module):
    """Text ids (B, L) to states (B, L, width), zero behind the end of each row; the encoder of mT5 is frozen.

    Args:
        width: of the result.
        mt5: arguments of transformers' MT5Config.
    """

    def __init__(self, width: int, mt5: dict) -> None:
        from transformers import MT5Config, MT5EncoderModel  # seconds, so not before it is needed

        super().__init__()
        # its stack alone: the model around it has the table of ids twice
        self.mt5 = MT5EncoderModel(MT5Config(feed_forward_proj="gated-gelu", dropout_rate=0.0, **mt5)).encoder
        self.mt5.requires_grad_(False)
        self.proj = nn.Linear(mt5["d_model"], width)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """mask: bool (B, L)."""
        states = self.mt5(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return self.proj(states) * mask[..., None]


class SpeechLlama(nn.Module):
    """States of a text and embedded ids, (B, L, width) and (B, N, width), to states of the ids (B, N, width).

    Args:
        width, depth, num_heads, hidden: of the Llama.
    """

    def __init__(self, width: int, depth: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.head_dim = width // num_heads
        self.segments = nn.Embedding(3, width)
        self.stack = LlamaStack(width, num_heads, hidden, depth, 1e-6, rotary_halves=True)

    def with_text(self, text: Tensor, x: Tensor, segments: Tensor) -> Tensor:
        """Both as one sequence (B, L + N, width); segments Long (B, N) of the ids."""
        return torch.cat([text + self.segments.weight[TEXT], x + self.segments(segments)], dim=1)

    def run(self, x: Tensor, mask: Tensor | None, start: int = 0, caches: list | None = None) -> Tensor:
        """States of a sequence from place ``start`` on."""
        rotary = sequence_rotary(start + x.shape[1], self.head_dim, device=x.device)[start:]
        return self.stack(x, mask, rotary, caches)


def segments_of(ids: Tensor, layout: Layout) -> Tensor:
    """Segment Long (B, N) of each id: codes lie behind the end of the units."""
    behind = (ids == layout.semantic_end).cumsum(dim=1) - (ids == layout.semantic_end).long()
    return torch.where(behind > 0, CODES, UNITS)


def convert_keys(state: State, prefix: str) -> State:
    """Official keys of one of the two models to ours; the LoRA of the text encoder becomes part of its weights."""
    state = {re.sub(r"^t5_model\.base_model\.model\.", "t5_model.", key): value for key, value in state.items()}
    state = convert_llama_keys(merge_lora(state, LORA_SCALE), prefix, "llama.stack.")
    table = state.pop("t5_model.shared.weight", None)
    if table is not None:
        state.setdefault("t5_model.encoder.embed_tokens.weight", table)
    return rename_keys(state, [
        (r"^prompt_fc\.", "text.proj."), (r"^t5_model\.encoder\.", "text.mt5."),
        (r"^embed_segments\.", "llama.segments."), (r"^model\.lm_head\.", "head."),
        (r"^all_embed_tokens\.", "tables."), (r"^embed_tokens\.", "table."),
        (r"^embed_res\.", "books."), (r"^out_proj\.", "heads.")])
