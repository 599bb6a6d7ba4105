"""GenSE's language models: noisy units to clean ones (N2S), and all of them to codes of clean speech (S2S).

Paper: arXiv 2502.02942. Origin: github.com/yaoxunji/gen-se, no licence stated, no weights published.

Where a token stands is part of the model: what is generated counts from 0 again in N2S and from 1000 in S2S, and the
codes of the noisy speech count from 0 again too. The authors did not publish how they train; here it is cross-entropy
of what is generated, at the positions of inference.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback
from photophone.generators.base import Generator, LossOutput
from photophone.generators.gense.condition import GenSESampler, NoisyUnits, TokenChain
from photophone.generators.gense.gpt2 import GPT2, convert_gpt2_keys
from photophone.kernels.sampling import draw
from photophone.layers.lengths import length_mask, masked_mean
from photophone.loading.checkpoints import OriginalCheckpoint, State

BOS = 1
SPECIAL = 3
"""Ids before those of the units: padding, beginning, end."""
CODE_START = 1000
"""Position of the first generated code."""
EXAMPLE_UNITS = 5


class GenSEModel(OriginalCheckpoint, Generator):
    """What both share: a prompt of each row, and ids behind it.

    Attributes:
        START: position of the first generated id.
    """

    Sampler = GenSESampler
    CONTAINERS = ("state_dict",)
    DROPPED_KEYS = ("xlsr.*", "km.*", "codec_tokenizer.*", "lm.lm_head.weight", "lm.transformer.h.*.attn.bias",
                    "lm.transformer.h.*.attn.masked_bias")
    """Other models of the same checkpoint, and a copy of the table of ids."""
    START: ClassVar[int] = 0

    network: GPT2

    @staticmethod
    def convert_state_dict(state: State) -> State:
        return convert_gpt2_keys(state, "lm.", "network.")

    @property
    @abstractmethod
    def first_id(self) -> int:
        """Of what is generated; lower ones never come."""

    @abstractmethod
    def prompt(self, condition: NoisyUnits, row: int) -> tuple[Tensor, Tensor]:
        """Ids and positions Long (P,) of one row."""

    @abstractmethod
    def target_counts(self, condition: NoisyUnits) -> Tensor:
        """Ids that each row gets, Long (B,)."""

    def check_room(self, condition: NoisyUnits, prompts: Tensor) -> None:
        """Refuse rows for whose positions there is no table; ``prompts`` Long (B,): the last position of each + 1.

        Raises:
            ValueError: names the length and the limit.
        """
        most = self.network.positions.num_embeddings
        needed = max(int(prompts.max()), self.START + int(self.target_counts(condition).max()))
        if needed > most:
            raise ValueError(f"a row of {int(condition.counts.max())} units needs {needed} positions, this model has "
                             f"{most}; enhance shorter pieces")

    def _generate(self, condition: NoisyUnits, *, noise: Noise, sampler: GenSESampler,
                  callback: Callback | None) -> Tokens:
        """Long (B, N)."""
        counts = self.target_counts(condition)
        prompts, places = zip(*(self.prompt(condition, row) for row in range(len(condition))))

        def pick(logits: Tensor) -> Tensor:
            logits[:, :self.first_id] = float("-inf")
            return draw(logits, None, 1.0, noise, temperature=sampler.temperature)

        ids = self.network.continue_prompts(list(prompts), list(places), int(counts.max()), self.START, pick, callback)
        valid = length_mask(counts.to(ids.device), ids.shape[1])
        return Tokens(torch.where(valid, ids - self.first_id, 0), None if bool(valid.all()) else counts)

    def loss(self, tokens: Tokens, condition: NoisyUnits, *, noise: Noise | None = None) -> LossOutput:
        """Cross-entropy in nats of the tokens.

        Args:
            tokens: Long (B, N), as many as :meth:`target_counts` says.
            condition: of the same clips.
            noise: not drawn from.
        """
        rows, device = range(len(condition)), self.device
        ids, positions, targets = [], [], []
        for row, count in zip(rows, tokens.mask.sum(1).tolist()):
            prompt, places = self.prompt(condition, row)
            made = tokens.values[row, :count].to(device) + self.first_id
            ids.append(torch.cat([prompt, made[:-1]]))
            positions.append(torch.cat([places, self.START + torch.arange(count - 1, device=device)]))
            targets.append(F.pad(made, (len(prompt) - 1, 0), value=-1))
        ids, positions, targets = (pad_rows(each, fill) for each, fill in ((ids, 0), (positions, 0), (targets, -1)))
        order = torch.arange(ids.shape[1], device=device)
        logits = self.network(ids, positions, order <= order[:, None])
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten().clamp(min=0), reduction="none")
        return LossOutput(masked_mean(losses.view(targets.shape), targets >= 0))

    def _example_units(self, rows: int, seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        units = torch.randint(0, self.config.num_semantic, (rows, EXAMPLE_UNITS), generator=generator)
        return units, torch.tensor([EXAMPLE_UNITS - row % 2 for row in range(rows)])

    def _example_targets(self, condition: NoisyUnits, size: int, seed: int) -> Tokens:
        counts, generator = self.target_counts(condition), torch.Generator().manual_seed(seed)
        return Tokens(torch.randint(0, size, (len(counts), int(counts.max())), generator=generator), counts)


class GenSEN2S(GenSEModel):
    """Semantic units Long (B, T) of noisy speech to those of clean speech, as many.

    Args:
        num_semantic: units.
        num_positions: of the table, for a prompt of T + 1.
        width, depth, num_heads: of the network.
    """

    Condition = NoisyUnits

    def __init__(self, num_semantic: int = 1024, num_positions: int = 2048, width: int = 1024, depth: int = 12,
                 num_heads: int = 8) -> None:
        super().__init__()
        self.network = GPT2(SPECIAL + num_semantic, num_positions, width, depth, num_heads)

    @property
    def first_id(self) -> int:
        return SPECIAL

    def prompt(self, condition: NoisyUnits, row: int) -> tuple[Tensor, Tensor]:
        units = condition.units[row, :int(condition.counts[row])]
        return joined([units + SPECIAL, units.new_tensor([BOS])], [len(units) + 1])

    def target_counts(self, condition: NoisyUnits) -> Tensor:
        return condition.counts

    def check_condition(self, condition: NoisyUnits) -> None:
        """See :meth:`NoisyUnits.check`; and the positions must suffice."""
        condition.check(self.config.num_semantic)
        self.check_room(condition, condition.counts + 1)

    def example_condition(self, rows: int, seed: int = 0) -> NoisyUnits:
        """Four or five units."""
        return NoisyUnits(*self._example_units(rows, seed))

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        """As many clean units."""
        return self._example_targets(self.example_condition(rows), self.config.num_semantic, seed)


class GenSES2S(GenSEModel):
    """Semantic units of noisy and of clean speech and codes of the noisy speech to codes Long (B, N) of clean speech.

    Of T units and A codes it makes ``(2 T + A) // 2`` codes: A, where the codec has two codes for each unit.

    Args:
        num_semantic, num_codes: units, and codes of the codec.
        num_positions: of the table; prompts have 2 T + 1 of them, and what is generated begins at 1000.
        width, depth, num_heads: of the network.
    """

    Condition = TokenChain
    START = CODE_START

    def __init__(self, num_semantic: int = 1024, num_codes: int = 8192, num_positions: int = 4096, width: int = 1024,
                 depth: int = 12, num_heads: int = 8) -> None:
        super().__init__()
        self.network = GPT2(SPECIAL + num_semantic + num_codes, num_positions, width, depth, num_heads)

    @property
    def first_id(self) -> int:
        return SPECIAL + self.config.num_semantic

    def prompt(self, condition: TokenChain, row: int) -> tuple[Tensor, Tensor]:
        count, codes = int(condition.counts[row]), condition.codes[row, :int(condition.code_counts[row])]
        units, clean = condition.units[row, :count] + SPECIAL, condition.clean_units[row, :count] + SPECIAL
        return joined([units, clean, units.new_tensor([BOS]), codes + self.first_id], [2 * count + 1, len(codes)])

    def target_counts(self, condition: TokenChain) -> Tensor:
        return (2 * condition.counts + condition.code_counts) // 2

    def check_condition(self, condition: TokenChain) -> None:
        """See :meth:`TokenChain.check_chain`; and the positions must suffice."""
        condition.check_chain(self.config.num_semantic, self.config.num_codes)
        self.check_room(condition, torch.maximum(2 * condition.counts + 1, condition.code_counts))

    def example_condition(self, rows: int, seed: int = 0) -> TokenChain:
        """Four or five units, and twice as many codes."""
        units, lengths = self._example_units(rows, seed)
        clean, _ = self._example_units(rows, seed + 1)
        codes = torch.randint(0, self.config.num_codes, (rows, 2 * EXAMPLE_UNITS),
                              generator=torch.Generator().manual_seed(seed))
        return TokenChain(units, lengths, clean, codes, 2 * lengths)

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        """As many codes as it makes."""
        return self._example_targets(self.example_condition(rows), self.config.num_codes, seed)


def joined(parts: Iterable[Tensor], runs: Iterable[int]) -> tuple[Tensor, Tensor]:
    """Ids one behind the other, and positions that count from 0 in each run of so many."""
    ids = torch.cat(list(parts))
    return ids, torch.cat([torch.arange(run, device=ids.device) for run in runs])


def pad_rows(rows: list[Tensor], fill: int) -> Tensor:
    """Rows Long (n,) as (B, N), filled up at their end."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)
