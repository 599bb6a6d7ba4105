"""Spark-TTS: Qwen2 that reads a prompt of text and codes and goes on with codes of BiCodec.

Paper: arXiv 2503.01710. Official code: SparkAudio/Spark-TTS, Apache-2.0. Weights: CC BY-NC-SA 4.0 as users report of
the hub page; see it before use. All is one vocabulary: text, codes of voices and codes of speech.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.files import atomic_write
from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, KVCache, autoregress, collect
from photophone.generators.base import Generator, LossOutput
from photophone.generators.conditions import Condition
from photophone.generators.sampler import Sampler, option, temperature_option
from photophone.kernels.sampling import draw
from photophone.layers.left_padding import attention_mask, pad_left, positions
from photophone.layers.llama_block import LlamaStack, convert_llama_keys, original_llama_keys
from photophone.layers.rotary import sequence_rotary
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

QWEN_SETTINGS = {"vocab_size": "vocab_size", "width": "hidden_size", "depth": "num_hidden_layers",
                 "num_heads": "num_attention_heads", "num_kv_heads": "num_key_value_heads",
                 "hidden": "intermediate_size", "eps": "rms_norm_eps", "rotary_base": "rope_theta",
                 "max_length": "max_position_embeddings"}
"""Arguments of the class, and their names in the ``config.json`` of a Qwen2."""
TABLE = 512
"""Rotary tables are made for multiples of so many positions."""


@dataclass(frozen=True)
class PromptIds(Condition):
    """Prompts as ids of the vocabulary; rows are padded on the left.

    Args:
        ids: Long (B, L).
        mask: bool (B, L), False at padding.
        max_tokens: Long (B,), ids that a row makes at most; None: what the sampler says.
    """

    ids: Tensor
    mask: Tensor
    max_tokens: Tensor | None = None

    @classmethod
    def of_rows(cls, rows: Sequence[Sequence[int]], max_tokens: Sequence[int] | None = None) -> Self:
        """A batch on the CPU."""
        ids, mask = pad_left([torch.tensor(list(row), dtype=torch.long) for row in rows])
        return cls(ids, mask, None if max_tokens is None else torch.tensor(list(max_tokens)))


@dataclass(frozen=True)
class SparkSampler(Sampler):
    """Options of :class:`SparkTTS`; the defaults are those of the authors."""

    temperature: float = temperature_option(0.8)
    top_k: int = option(50, "draws come from this many likeliest ids; 0 keeps all", low=0)
    top_p: float = option(0.95, "draws come from the likeliest ids that reach this probability", low=0.01, high=1)
    max_tokens: int = option(3000, "ids of an answer at most, beside the row's own limit", low=1)
    min_tokens: int = option(0, "the answer does not end before so many", low=0)


class SparkTTS(OriginalCheckpoint, Generator):
    """Prompts to ids Long (B, N) of the answer, with the one that ends it.

    Args:
        vocab_size: of the tokenizer, with all added tokens.
        width, depth, num_heads, num_kv_heads, hidden, eps, rotary_base: of Qwen2.
        tied: the embedding of ids is the matrix of the output, too.
        end: the id that ends an answer.
        max_length: positions of a sequence.
        hidden_speech: in training, share of the ids of the answer that the model does not see, so that it reads the
            text and bears its own mistakes (as word dropout, arXiv 1511.06349); the authors see all.
    """

    Condition = PromptIds
    Sampler = SparkSampler
    streams = True
    original_file = "LLM/model.safetensors"

    def __init__(self, vocab_size: int = 166000, width: int = 896, depth: int = 24, num_heads: int = 14,
                 num_kv_heads: int = 2, hidden: int = 4864, eps: float = 1e-6, rotary_base: float = 1_000_000.0,
                 tied: bool = True, end: int = 151645, max_length: int = 32768,
                 hidden_speech: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.backbone = LlamaStack(width, num_heads, hidden, depth, eps, num_kv_heads=num_kv_heads,
                                   rotary_halves=True, qkv_bias=True)
        self.output = None if tied else nn.Linear(width, vocab_size, bias=False)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        state = rename_keys(state, [(r"^model\.embed_tokens\.", "embedding."), (r"^lm_head\.", "output.")])
        return convert_llama_keys(state, "model.", "backbone.")

    def original_keys(self, state: State) -> State:
        names = {"embedding.weight": "model.embed_tokens.weight", "output.weight": "lm_head.weight"}
        stack = original_llama_keys(state, "backbone.", "model.", self.config.num_heads, self.config.num_kv_heads)
        return {**stack, **{names[key]: value for key, value in state.items() if key in names}}

    @classmethod
    def prepare_state_dict(cls, state: State, config: Mapping[str, Any]) -> State:
        """The output's own matrix is left out where it is the embedding.

        Raises:
            ValueError: it is another one.
        """
        head, table = state.get("lm_head.weight"), state.get("model.embed_tokens.weight")
        if config.get("tied", True) and head is not None:
            if table is not None and not table.is_meta and not torch.equal(head, table):
                raise ValueError("lm_head.weight is not the embedding; load it with tied=False")
            state = {key: value for key, value in state.items() if key != "lm_head.weight"}
        return cls.convert_state_dict(state)

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the class from the ``LLM/config.json`` of a release."""
        end = official.get("eos_token_id")
        return {ours: official[theirs] for ours, theirs in QWEN_SETTINGS.items()} | {
            "tied": official.get("tie_word_embeddings", True)} | ({} if end is None else {"end": end})

    def save_original(self, folder: str | Path, file: str | None = None) -> None:
        """Write the weights as in the base, and beside them the ``config.json`` of a Qwen2 where there is none; the
        vocabulary is not the model's."""
        super().save_original(folder, file)
        place = (Path(folder) / (file or self.original_file)).with_name("config.json")
        if place.exists():
            return
        official = {theirs: self.config[ours] for ours, theirs in QWEN_SETTINGS.items()}
        official |= {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu",
                     "tie_word_embeddings": self.config.tied, "eos_token_id": self.config.end,
                     "bos_token_id": self.config.end, "torch_dtype": "float32"}
        with atomic_write(place) as partial:
            partial.write_text(json.dumps(official, indent=2) + "\n", encoding="utf-8")

    def logits(self, states: Tensor) -> Tensor:
        """States (..., C) to float32 (..., vocab_size)."""
        return F.linear(states, self.embedding.weight if self.output is None else self.output.weight).float()

    def states(self, ids: Tensor, mask: Tensor, cache: KVCache | None = None, seen: Tensor | None = None) -> Tensor:
        """Ids Long (B, N) to states (B, N, C).

        Args:
            mask: bool (B, M), False at padding, of these positions and those in the cache.
            cache: keys and values of the positions before; those of the ids are appended.
            seen: bool (B, N), False at ids in whose place the model reads zeros; None: it reads all.
        """
        x = self.embedding(ids)
        x = x if seen is None else x * seen[..., None]
        count, size = ids.shape[1], mask.shape[1]
        table = sequence_rotary(-(-size // TABLE) * TABLE, self.config.width // self.config.num_heads,
                                self.config.rotary_base, device=ids.device)
        rotary = table[positions(mask)[:, size - count:]][:, None]
        allowed = mask[:, None, None] if count == 1 else attention_mask(mask)[:, :, size - count:]
        return self.backbone(x, allowed, rotary, None if cache is None else cache.layers)

    def loss(self, tokens: Tokens, condition: PromptIds, *, noise: Noise | None = None) -> LossOutput:
        """Cross-entropy in nats, mean over the ids of the answers.

        Args:
            tokens: answers Long (B, N), with the id that ends each.
            condition: their prompts.
            noise: decides which ids of the answers are not seen, with ``hidden_speech``.

        Raises:
            ValueError: ids outside the vocabulary.
        """
        answers, length = tokens.values, condition.ids.shape[1]
        if tokens.is_continuous or not tokens.mask.any():
            raise ValueError("training needs ids Long (B, N) of answers")
        self._check_ids(answers)
        ids = torch.cat([condition.ids, answers], dim=1)
        seen = None
        if self.config.hidden_speech and self.training:
            kept = (noise or GlobalNoise(answers.device)).uniform(*answers.shape) >= self.config.hidden_speech
            seen = torch.cat([torch.ones_like(condition.mask), kept], dim=1)
        states = self.states(ids, torch.cat([condition.mask, tokens.mask], dim=1), seen=seen)[:, length - 1:-1]
        return LossOutput(F.cross_entropy(self.logits(states)[tokens.mask], answers[tokens.mask]))

    def _check_ids(self, ids: Tensor) -> None:
        most = self.config.vocab_size
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < most:
            raise ValueError(f"ids must lie in 0..{most - 1}, got {int(ids.min())}..{int(ids.max())}")

    def check_condition(self, condition: PromptIds) -> None:
        """Ids of the vocabulary, padded on the left, no row empty."""
        ids, mask, limit = condition.ids, condition.mask, condition.max_tokens
        if ids.ndim != 2 or ids.dtype != torch.long or not ids.numel():
            raise ValueError(f"ids must be Long (B, L), got {ids.dtype} {tuple(ids.shape)}")
        self._check_ids(ids)
        if mask.shape != ids.shape or mask.dtype != torch.bool or not mask[:, -1].all() or (
                mask[:, 1:] < mask[:, :-1]).any():
            raise ValueError(f"the mask must be bool {tuple(ids.shape)}, False at padding on the left alone")
        if limit is not None and (limit.shape != ids.shape[:1] or limit.dtype != torch.long or int(limit.min()) < 1):
            raise ValueError(f"max_tokens must be Long ({len(ids)},) of at least 1")

    def _generate(self, condition: PromptIds, *, noise: Noise, sampler: SparkSampler,
                  callback: Callback | None) -> Tokens:
        return Tokens(*collect(self._steps(condition, noise, sampler, callback)))

    def _stream(self, condition: PromptIds, *, noise: Noise, sampler: SparkSampler,
                callback: Callback | None) -> Iterator[Tokens]:
        """Ids (B, 1) with lengths 1, or 0 for rows that have ended."""
        for values, alive in self._steps(condition, noise, sampler, callback):
            yield Tokens(values, alive.long())

    def _steps(self, condition: PromptIds, noise: Noise, sampler: SparkSampler,
               callback: Callback | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Ids (B, 1), and bool (B,), True for rows that have not ended.

        Raises:
            ValueError: prompt and answer are longer than the model's positions.
        """
        config, (rows, length) = self.config, condition.ids.shape
        limit = torch.full((rows,), sampler.max_tokens, device=self.device)
        if condition.max_tokens is not None:
            limit = torch.minimum(limit, condition.max_tokens)
        steps = int(limit.max())
        if length + steps > config.max_length:
            raise ValueError(f"a prompt of {length} ids and up to {steps} of the answer do not fit the model's "
                             f"{config.max_length} positions; shorten the text or the voice, or lower max_tokens")
        cache = KVCache(config.depth, rows, config.num_kv_heads, length + steps, config.width // config.num_heads,
                        self.device, self.dtype)
        ids, mask = condition.ids, condition.mask

        def step(index: int, previous: Tensor | None) -> Tensor:
            nonlocal ids, mask
            if previous is not None:
                ids, mask = previous, torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            logits = self.logits(self.states(ids, mask, cache)[:, -1])
            if index < sampler.min_tokens:
                logits[:, config.end] = float("-inf")
            return draw(logits, None, 1.0, noise, temperature=sampler.temperature, top_k=sampler.top_k,
                        top_p=sampler.top_p)[:, None]

        def stop(index: int, values: Tensor) -> Tensor:
            return (values[:, 0] == config.end) | (index + 1 >= limit)

        yield from autoregress(step, steps, stop=stop, callback=callback)

    # for tests and measurements ---------------------------------------------------------------------------------

    def example_condition(self, rows: int, seed: int = 0) -> PromptIds:
        """Prompts of different lengths."""
        generator = torch.Generator().manual_seed(seed)
        return PromptIds.of_rows([torch.randint(self.config.vocab_size, (3 + row % 4,), generator=generator).tolist()
                                  for row in range(rows)])

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        """Answers of three to five ids."""
        values = torch.randint(self.config.vocab_size, (rows, 5), generator=torch.Generator().manual_seed(seed))
        return Tokens(values, torch.tensor([5 - row % 3 for row in range(rows)]))
