"""The language models of CosyVoice 2 and 3: Qwen2 that reads text and writes speech tokens.

Papers: CosyVoice 2 (arXiv 2412.10117), CosyVoice 3 (2505.17589), Qwen2 (2407.10671). Official code:
FunAudioLLM/CosyVoice, Apache-2.0.
"""

from __future__ import annotations

from torch import Tensor, nn

from photophone.decoding.loop import KVCache
from photophone.generators.cosyvoice.lm_layout import Layout
from photophone.generators.cosyvoice.speech_lm import SpeechLM
from photophone.generators.cosyvoice.spoken_text import SpokenText
from photophone.heads.categorical import CategoricalHead
from photophone.layers.left_padding import attention_mask, positions
from photophone.layers.llama_block import LlamaStack, convert_llama_keys, original_llama_keys
from photophone.layers.rotary import sequence_rotary
from photophone.loading.checkpoints import State, rename_keys

TABLE = 512
"""Rotary tables are made for multiples of so many positions."""
END, FILL = 0, 2
"""Tokens behind those of speech in version 2."""
START3, END3, TASK3, FILL3 = 0, 1, 2, 3
"""And in version 3, where they are rows of the speech table."""


class CosyVoiceQwenLM(SpeechLM):
    """Text ids, and perhaps speech to continue, to speech tokens Long (B, N).

    Args:
        vocab_size: of the text tokenizer.
        num_tokens: of the speech tokenizer.
        width, depth, num_heads, num_kv_heads, hidden: of Qwen2.
        num_specials: tokens behind those of speech: 3 in version 2, 200 in version 3.
        own_specials: version 2: start and task have a table of their own, and the head a bias.
        mix: ids of text and tokens of speech that take turns where text comes piece by piece.
        eps, rotary_base: of Qwen2.
        max_length: positions of a sequence.
        smoothing, per_token: of the loss, see :func:`photophone.generators.cosyvoice.lm_layout.smoothed_loss`.
        hidden_speech: in training, share of the speech tokens that the model does not see, so that it reads the text
            and bears its own mistakes (as word dropout, arXiv 1511.06349); the authors see all.
    """

    mixes = True
    original_file = "llm.pt"
    DROPPED_KEYS = ("llm.model.lm_head.weight",)  # of text, never used

    def __init__(self, vocab_size: int = 151936, num_tokens: int = 6561, width: int = 896, depth: int = 24,
                 num_heads: int = 14, num_kv_heads: int = 2, hidden: int = 4864, num_specials: int = 3,
                 own_specials: bool = True, mix: list[int] | tuple[int, ...] = (5, 15), eps: float = 1e-6,
                 rotary_base: float = 1_000_000.0, max_length: int = 32768, smoothing: float = 0.0,
                 per_token: bool = True, hidden_speech: float = 0.0) -> None:
        super().__init__()
        if len(mix) != 2 or min(mix) < 1 or num_specials < (3 if own_specials else 4):
            raise ValueError(f"mix must be two numbers of at least 1 and num_specials at least "
                             f"{3 if own_specials else 4}, got {list(mix)} and {num_specials}")
        self.text_embedding = nn.Embedding(vocab_size, width)
        self.special_embedding = nn.Embedding(2, width) if own_specials else None
        self.speech_embedding = nn.Embedding(num_tokens + num_specials, width)
        self.backbone = LlamaStack(width, num_heads, hidden, depth, eps, num_kv_heads=num_kv_heads,
                                   rotary_halves=True, qkv_bias=True)
        self.token_head = CategoricalHead(width, num_tokens + num_specials, bias=own_specials)
        for table in (self.text_embedding, self.speech_embedding, self.special_embedding):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        state = rename_keys(state, [(r"^llm\.model\.model\.embed_tokens\.", "text_embedding."),
                                    (r"^llm_embedding\.", "special_embedding."),
                                    (r"^llm_decoder\.", "token_head.linear.")])
        return convert_llama_keys(state, "llm.model.model.", "backbone.")

    def original_keys(self, state: State) -> State:
        names = {"text_embedding.weight": "llm.model.model.embed_tokens.weight",
                 "special_embedding.weight": "llm_embedding.weight",
                 "speech_embedding.weight": "speech_embedding.weight",
                 "token_head.linear.weight": "llm_decoder.weight", "token_head.linear.bias": "llm_decoder.bias"}
        stack = original_llama_keys(state, "backbone.", "llm.model.model.", self.config.num_heads,
                                    self.config.num_kv_heads)
        made = {**stack, **{names[key]: value for key, value in state.items() if key in names}}
        if "text_embedding.weight" in state:  # the authors load strictly; theirs is tied
            made[self.DROPPED_KEYS[0]] = state["text_embedding.weight"]
        return made

    @property
    def layout(self) -> Layout:
        speech, first = self.speech_embedding.weight, self.config.num_tokens
        if self.special_embedding is None:
            start, task, end, fill = speech[first + START3][None], speech[first + TASK3][None], END3, FILL3
        else:
            (start, task), end, fill = self.special_embedding.weight[:, None], END, FILL
        return Layout(start, task, first + end, first + fill, tuple(self.config.mix))

    def embed_texts(self, condition: SpokenText) -> list[Tensor]:
        return [self.text_embedding(text) for text, _ in condition.rows()]

    def cache(self, rows: int, length: int) -> KVCache:
        config = self.config
        return KVCache(config.depth, rows, config.num_kv_heads, length, config.width // config.num_heads, self.device,
                       self.dtype)

    def states(self, x: Tensor, mask: Tensor, cache: KVCache | None = None) -> Tensor:
        count, size = x.shape[1], mask.shape[1]
        table = sequence_rotary(-(-size // TABLE) * TABLE, self.config.width // self.config.num_heads,
                                self.config.rotary_base, device=x.device)
        places = positions(mask)[:, size - count:]
        seen = mask[:, None, None] if count == 1 else attention_mask(mask)[:, :, size - count:]
        if bool(mask.all()):
            rotary = table[size - count:size]  # of all rows
        else:
            rotary = table[places][:, None]
        return self.backbone(x, seen, rotary, None if cache is None else cache.layers)
