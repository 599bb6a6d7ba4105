"""The language model of CosyVoice 1: a causal transformer with relative positions that writes speech tokens.

Paper: arXiv 2407.05407. Official code: FunAudioLLM/CosyVoice, Apache-2.0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.generators.cosyvoice.chunked import Sight
from photophone.generators.cosyvoice.conformer import ConformerEncoder
from photophone.generators.cosyvoice.keys import STACK, original_stack_keys
from photophone.generators.cosyvoice.lm_layout import Layout
from photophone.generators.cosyvoice.speech_lm import SpeechLM
from photophone.generators.cosyvoice.spoken_text import SpokenText
from photophone.heads.categorical import CategoricalHead
from photophone.layers.left_padding import attention_mask
from photophone.layers.lengths import length_mask
from photophone.layers.transformer import LayerCache
from photophone.loading.checkpoints import State, rename_keys

TEXT_ENCODER = {"dim": 1024, "num_heads": 16, "hidden": 4096, "depth": 6}


@dataclass(frozen=True)
class RelativeCache:
    """Keys, values and looks at distances of each layer.

    Attributes:
        layers: keys and values of the positions so far.
        tables: (1, H, D, d) of the distances 0 to D - 1, computed once for all steps.
    """

    layers: list[LayerCache]
    tables: list[Tensor]


class CosyVoiceRelativeLM(SpeechLM):
    """Text ids, and perhaps a speaker and speech to continue, to speech tokens Long (B, N).

    Args:
        vocab_size, text_dim: of the text tokenizer and its embedding.
        num_tokens: of the speech tokenizer.
        speaker_dim: width of the vector of a speaker.
        text_encoder: of the causal encoder of texts: dim, num_heads, hidden, depth.
        width, depth, num_heads, hidden: of the transformer.
        max_length: positions of a sequence.
        smoothing, per_token: of the loss, see :func:`photophone.generators.cosyvoice.lm_layout.smoothed_loss`.
    """

    original_file = "llm.pt"

    def __init__(self, vocab_size: int = 51866, text_dim: int = 512, num_tokens: int = 4096, speaker_dim: int = 192,
                 text_encoder: dict | None = None, width: int = 1024, depth: int = 14, num_heads: int = 16,
                 hidden: int = 4096, max_length: int = 5000, smoothing: float = 0.0, per_token: bool = True) -> None:
        super().__init__()
        encoder = {**TEXT_ENCODER, **(text_encoder or {})}
        self.text_embedding = nn.Embedding(vocab_size, text_dim)
        self.text_encoder = ConformerEncoder(text_dim, **encoder)
        self.text_proj = nn.Linear(encoder["dim"], width)
        self.special_embedding = nn.Embedding(2, width)
        self.speech_embedding = nn.Embedding(num_tokens, width)
        self.speaker_proj = nn.Linear(speaker_dim, width)
        self.backbone = ConformerEncoder(width, width, num_heads, hidden, depth, relu=True)
        self.token_head = CategoricalHead(width, num_tokens + 1)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return rename_keys(state, [(r"^llm\.", "backbone."), (r"^llm_embedding\.", "special_embedding."),
                                   (r"^llm_decoder\.", "token_head.linear."),
                                   (r"^text_encoder_affine_layer\.", "text_proj."),
                                   (r"^spk_embed_affine_layer\.", "speaker_proj."), *STACK])

    def original_keys(self, state: State) -> State:
        return rename_keys(state, [(r"^backbone\.", "llm."), (r"^special_embedding\.", "llm_embedding."),
                                   (r"^token_head\.linear\.", "llm_decoder."),
                                   (r"^text_proj\.", "text_encoder_affine_layer."),
                                   (r"^speaker_proj\.", "spk_embed_affine_layer."),
                                   *original_stack_keys("llm", numbered_norms=True),
                                   *original_stack_keys("text_encoder")])

    @property
    def layout(self) -> Layout:
        start, task = self.special_embedding.weight[:, None]
        return Layout(start, task, self.config.num_tokens, self.config.num_tokens)

    def embed_texts(self, condition: SpokenText) -> list[Tensor]:
        """The speaker, and the text as its encoder gives it."""
        counts = condition.text_counts
        encoded = self.text_proj(self.text_encoder(self.text_embedding(condition.text), Sight(1),
                                                   length_mask(counts, condition.text.shape[1])))
        rows = [row[:count] for row, count in zip(encoded, counts.tolist(), strict=True)]
        if condition.speaker is None:
            return rows
        given = condition.speaker.abs().sum(dim=1) > 0
        vectors = self.speaker_proj(F.normalize(condition.speaker.to(encoded), dim=1))[:, None]
        return [torch.cat([vector, row]) if there else row for vector, row, there in
                zip(vectors, rows, given.tolist(), strict=True)]

    def cache(self, rows: int, length: int) -> RelativeCache:
        distances = torch.arange(length, device=self.device)
        blocks = self.backbone.stack.blocks
        layers = [LayerCache(rows, block.attention.num_heads, length, block.attention.head_dim, self.device, self.dtype)
                  for block in blocks]
        return RelativeCache(layers, [block.attention.position_table(distances) for block in blocks])

    def states(self, x: Tensor, mask: Tensor, cache: RelativeCache | None = None) -> Tensor:
        count, size, stack = x.shape[1], mask.shape[1], self.backbone.stack
        keys = torch.arange(size, device=x.device)
        index = (keys[size - count:, None] - keys).clamp(min=0)  # what lies ahead is not seen
        seen = mask[:, None, None] if count == 1 else attention_mask(mask)[:, :, size - count:]
        x = stack.embed(x)
        for place, block in enumerate(stack.blocks):
            table = keys if cache is None else cache.tables[place][:, :, :size]
            x = block(x, (table, index), None if cache is None else cache.layers[place], seen)
        return self.backbone.norm(x)
