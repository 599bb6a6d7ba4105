"""SEED-LLaMA: the codes of images are words of a Llama's vocabulary, behind those of text.

Papers: arXiv 2307.08041 (SEED), 2310.01218 (SEED-LLaMA). Official code: AILab-CVC/SEED, Apache-2.0. Weights: under the
licences of the Llamas that they were trained from. The codes are those of "seed-tokenizer-2", whose image embeddings
Stable unCLIP 2.1 draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, autoregress, collect
from photophone.decoding.memory import Memory
from photophone.generators.base import LossOutput
from photophone.generators.classes import example_codes
from photophone.generators.conditions import CaptionIds
from photophone.generators.interleaved import Given, InterleavedGenerator, Request, ids_of, word_of
from photophone.generators.prompts import append_ids
from photophone.generators.sampler import Sampler, temperature_option, top_k_option, top_p_option
from photophone.kernels.sampling import draw
from photophone.layers.left_padding import attention_mask, positions
from photophone.layers.llama_block import convert_llama_keys
from photophone.layers.placed_llama import PlacedLlama
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TURNS = {"vicuna": "<s>USER: {}\nASSISTANT:", "llama2": "<s>[INST] {} [/INST]\n"}
"""What stands around a request, by the language model that the weights were trained from."""
SIZES = {"vocab_size": "vocab_size", "hidden_size": "width", "num_hidden_layers": "depth",
         "num_attention_heads": "num_heads", "num_key_value_heads": "num_kv_heads", "intermediate_size": "hidden",
         "rms_norm_eps": "eps", "rope_theta": "rotary_base"}
"""Names in the config of a Llama of transformers, and ours."""


@dataclass(frozen=True)
class SEEDLlamaSampler(Sampler):
    """Options of :class:`SEEDLlama`, of text and codes alike. Published: ids that reach the probability 0.5."""

    temperature: float = temperature_option()
    top_k: int = top_k_option()
    top_p: float = top_p_option()


class SEEDLlama(OriginalCheckpoint, InterleavedGenerator):
    """Prompts to codes Long (B, N) of an image, and requests of text and images to answers of both.

    The official sampling draws all ids alike and reads what lies between the ids around an image; here an image that
    was begun is N codes and its end.

    Args:
        num_tokens, num_codes: N and K of the tokenizer.
        first_code: id of the first code in the vocabulary.
        vocab_size: ids.
        image_start, image_end: ids around an image.
        text_end: the id that ends an answer.
        turns: "vicuna" or "llama2": what stands around a request.
        width, depth, num_heads, num_kv_heads, hidden, eps, rotary_base: of the Llama, see
            :class:`photophone.layers.placed_llama.PlacedLlama`.

    Raises:
        ValueError: ids outside the vocabulary, or unknown turns.
    """

    Sampler = SEEDLlamaSampler
    BACKBONE = "backbone.blocks.0"
    DROPPED_KEYS = ("model.layers.*.self_attn.rotary_emb.inv_freq",)  # tables

    def __init__(self, num_tokens: int = 32, num_codes: int = 8192, first_code: int = 32000, vocab_size: int = 40194,
                 image_start: int = 40192, image_end: int = 40193, text_end: int = 2, turns: str = "vicuna",
                 width: int = 4096, depth: int = 32, num_heads: int = 32, num_kv_heads: int | None = None,
                 hidden: int = 11008, eps: float = 1e-6, rotary_base: float = 10_000.0) -> None:
        super().__init__()
        if first_code + num_codes > vocab_size or max(image_start, image_end, text_end) >= vocab_size:
            raise ValueError(f"codes and ids of images must lie below vocab_size {vocab_size}")
        if turns not in TURNS:
            raise ValueError(f"turns must be one of {', '.join(TURNS)}, got {turns!r}")
        self.text_embedding = nn.Embedding(vocab_size, width)
        self.backbone = PlacedLlama(width, num_heads, hidden, depth, eps, num_kv_heads=num_kv_heads,
                                    rotary_base=rotary_base)
        self.text_head = nn.Linear(width, vocab_size, bias=False)
        nn.init.normal_(self.text_embedding.weight, std=0.02)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        state = rename_keys(state, [(r"^model\.embed_tokens\.", "text_embedding."), (r"^lm_head\.", "text_head.")])
        return convert_llama_keys(state, "model.", "backbone.")

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """Sizes of the language model from its ``config.json``."""
        return {ours: official[theirs] for theirs, ours in SIZES.items() if theirs in official}

    # training -----------------------------------------------------------------------------------------------------

    def states(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """States (B, L, C) of whole sequences Long (B, L); mask is bool (B, L), False for padding on the left."""
        mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        return self.backbone.at(self.text_embedding(ids), positions(mask), attention_mask(mask))

    def loss(self, tokens: Tokens, condition: CaptionIds, *, noise: Noise | None = None) -> LossOutput:
        """Cross-entropy of prompts and of codes Long (B, N) behind them, in nats an id."""
        ids, mask = append_ids(condition.ids, condition.mask, [self.image_start])
        codes = tokens.values + self.config.first_code
        ids, mask = torch.cat([ids, codes], dim=1), torch.cat([mask, torch.ones_like(codes, dtype=torch.bool)], dim=1)
        ids, mask = append_ids(ids, mask, [self.config.image_end])
        logits = self.text_head(self.states(ids, mask)[:, :-1]).float()
        targets = ids.masked_fill(~mask, -100)[:, 1:]
        return LossOutput(F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100))

    # sampling -----------------------------------------------------------------------------------------------------

    def _generate(self, condition: CaptionIds, *, noise: Noise, sampler: SEEDLlamaSampler,
                  callback: Callback | None) -> Tokens:
        """Codes Long (B, N)."""
        ids, mask = append_ids(condition.ids, condition.mask, [self.image_start])
        memory = Memory(self.backbone, len(ids), ids.shape[1] + self.config.num_tokens)
        states = memory(self.text_embedding(ids), mask)[:, -1:]
        return Tokens(self.draw_codes(memory, states, noise, sampler, callback))

    def draw_codes(self, memory: Memory, states: Tensor, noise: Noise, sampler: SEEDLlamaSampler,
                   callback: Callback | None) -> Tensor:
        """Codes Long (B, N) of images whose start ``memory`` has read; it reads all but the last of them.

        Args:
            states: (B, 1, C) of the start.
        """
        first, count = self.config.first_code, self.config.num_codes

        def step(index: int, previous: Tensor | None) -> Tensor:
            hidden = states if previous is None else memory(self.text_embedding(previous + first))
            return self.draw_ids(self.text_head(hidden)[..., first:first + count], noise, sampler)

        return collect(autoregress(step, self.config.num_tokens, callback=callback))[0]

    @staticmethod
    def draw_ids(logits: Tensor, noise: Noise, sampler: SEEDLlamaSampler) -> Tensor:
        """Long (B, n) from logits (B, n, V)."""
        return draw(logits, None, 1.0, noise, temperature=sampler.temperature, top_k=sampler.top_k,
                    top_p=sampler.top_p)

    # text and images ----------------------------------------------------------------------------------------------

    @property
    def image_start(self) -> int:
        return self.config.image_start

    @property
    def ends(self) -> frozenset[int]:
        return frozenset([self.config.text_end])

    def choose(self, logits: Tensor, noise: Noise, sampler: SEEDLlamaSampler) -> Tensor:
        return self.draw_ids(logits[:, None], noise, sampler)[:, 0]

    def session(self, request: Request, noise: Noise, sampler: SEEDLlamaSampler) -> SEEDSession:
        return SEEDSession(self, request, noise, sampler)

    def encode_request(self, tokenizer: PreTrainedTokenizerBase, parts: Sequence[Given], kind: str = "any") -> Request:
        """The words of codes between those around an image, where images stand in the text."""
        config = self.config
        start, end = word_of(tokenizer, config.image_start), word_of(tokenizer, config.image_end)
        text = "".join(part if isinstance(part, str) else
                       start + "".join(word_of(tokenizer, config.first_code + code) for code in part.tolist()) + end
                       for part in parts)
        return Request(ids_of(tokenizer, TURNS[config.turns].format(text), add_special_tokens=False))

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_codes(rows, self.config.num_tokens, self.config.num_codes, seed)


class SEEDSession:
    """A request that :class:`SEEDLlama` has read and goes on with; see
    :class:`photophone.decoding.interleaved.Session`."""

    def __init__(self, model: SEEDLlama, request: Request, noise: Noise, sampler: SEEDLlamaSampler) -> None:
        self.model, self.noise, self.sampler = model, noise, sampler
        self.memory = Memory(model.backbone, 1, len(request.ids) + model.config.num_tokens)
        self.last = self._states(request.ids[None])
        first, config = model.config.first_code, model.config
        self.silent = torch.tensor([*range(first, first + config.num_codes), config.image_end], device=model.device)

    def _states(self, ids: Tensor) -> Tensor:
        """States (1, 1, C) behind further ids Long (1, n)."""
        return self.memory(self.model.text_embedding(ids.to(self.model.device)))[:, -1:]

    def logits(self) -> Tensor:
        """See the protocol; ids of codes are no text."""
        return self.model.text_head(self.last)[:, 0].float().index_fill(-1, self.silent, -torch.inf)

    def read(self, id: int) -> None:
        """See the protocol."""
        self.last = self._states(torch.tensor([[id]]))

    def draw_image(self, callback: Callback | None) -> Tokens:
        """See the protocol."""
        model = self.model
        codes = model.draw_codes(self.memory, self.last, self.noise, self.sampler, callback)
        self._states(codes[:, -1:] + model.config.first_code)
        self.read(model.config.image_end)
        return Tokens(codes)
