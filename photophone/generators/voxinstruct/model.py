"""VoxInstruct's first model: an instruction to semantic units and codes of the first book, one id at a time.

Paper: VoxInstruct (ACM Multimedia 2024, arXiv 2408.15676). Origin: github.com/thuhcsi/VoxInstruct, MIT by its README.

Guidance compares three readings of the same ids: with the instruction, without it, and with it but without the units.
What may follow where is as the authors have it (:class:`photophone.generators.voxinstruct.condition.Layout`): padding
and languages can come among the units, and two units among the codes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, KVCache, notify
from photophone.generators.base import Generator, LossOutput
from photophone.generators.voxinstruct.condition import Instruction, InstructionSampler, Layout
from photophone.generators.voxinstruct.network import MT5, InstructionEncoder, SpeechLlama, convert_keys, segments_of
from photophone.kernels.sampling import draw_categorical, filter_logits
from photophone.layers.lengths import masked_mean
from photophone.loading.checkpoints import OriginalCheckpoint, State

HIDDEN = -1e5
"""Logit of ids that may not come."""


class VoxInstructModel(OriginalCheckpoint, Generator):
    """What both models share: the layout of ids, and checks of instructions."""

    CONTAINERS = ("model",)
    DROPPED_KEYS = ("model.model.embed_tokens.weight", "model.embed_tokens.weight", "model.*.rotary_emb.inv_freq")
    """Tables that the official models have and do not use."""

    @property
    def layout(self) -> Layout:
        """Places of the ids."""
        return Layout(self.config.num_languages, self.config.num_semantic, self.config.num_codes)

    def check_condition(self, condition: Instruction) -> None:
        """See :meth:`Instruction.check`."""
        config = self.config
        condition.check(self.layout, config.num_books, config.max_text, config.mt5["vocab_size"])

    def encode_text(self, condition: Instruction) -> Tensor:
        """States (B, max_text, width): texts are always filled up to the same length, which attention sees."""
        states = self.text(condition.text_ids, condition.text_mask)
        return F.pad(states, (0, 0, 0, self.config.max_text - states.shape[1]))

    def _example(self, rows: int, seed: int) -> Instruction:
        generator, config = torch.Generator().manual_seed(seed), self.config
        ids = torch.randint(2, config.mt5["vocab_size"], (rows, 5), generator=generator)
        mask = torch.ones(rows, 5, dtype=torch.bool)
        mask[1::2, 4:] = False
        language = torch.randint(0, config.num_languages, (rows,), generator=generator)
        units = torch.randint(0, config.num_semantic - 2, (rows, 3), generator=generator)
        codes = torch.randint(0, config.num_codes, (rows, config.num_books, 2), generator=generator)
        return Instruction(ids, mask, language, units, codes)

    def _example_ids(self, rows: int, seed: int, ragged: int = 1) -> tuple[Tensor, Tensor]:
        """Whole sequences (B, Q, 12): the prompt of :meth:`_example`, its end, codes and the end; and lengths, of which
        every other is ``ragged`` less."""
        layout, condition = self.layout, self._example(rows, 0)
        generator = torch.Generator().manual_seed(seed)
        head = torch.cat([condition.prompt_ids(layout), torch.full((rows, 1), layout.semantic_end)], dim=1)
        codes = torch.randint(layout.first_code, layout.begin, (rows, self.config.num_books, 6), generator=generator)
        codes[:, :, :2] = condition.prompt_codes(layout, self.config.num_books)
        ids = torch.cat([head[:, None].expand(-1, self.config.num_books, -1), codes], dim=2)
        lengths = torch.tensor([12 - ragged * (row % 2) for row in range(rows)])
        ids[torch.arange(rows), :, lengths - 1] = layout.end
        return ids, lengths


class VoxInstructAR(VoxInstructModel):
    """Instructions to ids Long (B, N) behind the prompt: units, their end, codes of the first book, the end.

    The codes of a prompt stand behind the end of the units and are among the ids. A row without an end has as many ids
    as the sampler allows. Rows run one after the other; each has its own caches.

    Args:
        num_languages, num_semantic, num_codes: of the layout.
        num_books: of the codec; the first is written here.
        width, depth, num_heads, hidden: of the Llama.
        max_text: places of an instruction.
        mt5: arguments of transformers' MT5Config; see ``MT5``.
        text_drop_rate, unit_drop_rate: shares of rows without instruction and without units, in training.
    """

    Condition = Instruction
    Sampler = InstructionSampler

    def __init__(self, num_languages: int = 2, num_semantic: int = 500, num_codes: int = 1024, num_books: int = 8,
                 width: int = 1024, depth: int = 12, num_heads: int = 16, hidden: int = 4096, max_text: int = 512,
                 mt5: dict = MT5, text_drop_rate: float = 0.1, unit_drop_rate: float = 0.1) -> None:
        super().__init__()
        self.text = InstructionEncoder(width, mt5)
        self.llama = SpeechLlama(width, depth, num_heads, hidden)
        self.table = nn.Embedding(self.layout.size, width)
        self.head = nn.Linear(width, self.layout.size, bias=False)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        return convert_keys(state, "model.model.")

    def logits(self, text: Tensor, ids: Tensor, segments: Tensor) -> Tensor:
        """Logits (B, L + N, size) of a text (B, L, width) and ids Long (B, N)."""
        x = self.llama.with_text(text, self.table(ids), segments)
        order = torch.arange(x.shape[1], device=x.device)
        return self.head(self.llama.run(x, order <= order[:, None]))

    def dropped(self, text: Tensor, ids: Tensor, segments: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Texts and ids of which some rows have lost the text and some the units."""
        texts, units = (noise.uniform(len(ids)).to(ids.device) < share
                        for share in (self.config.text_drop_rate, self.config.unit_drop_rate))
        hidden = units[:, None] & (segments == 1)
        return torch.where(texts[:, None, None], 0, text), torch.where(hidden, 0, ids)

    def loss(self, tokens: Tokens, condition: Instruction, *, noise: Noise | None = None) -> LossOutput:
        """Cross-entropy in nats of all ids behind the language.

        Args:
            tokens: whole sequences Long (B, N) from the beginning on, those of :meth:`Instruction.prompt_ids` too.
            condition: the same clips; its prompt is not read.
            noise: see :meth:`Generator.loss`.
        """
        ids = tokens.values
        text, segments, given = self.encode_text(condition), segments_of(ids, self.layout), ids
        if self.training:
            text, given = self.dropped(text, ids, segments, noise or GlobalNoise(ids.device))
        logits = self.logits(text, given, segments)[:, text.shape[1]:-1].float()
        losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(ids[:, 1:].shape)
        counted = tokens.mask[:, 1:].clone()
        counted[:, 0] = False
        return LossOutput(masked_mean(losses, counted))

    def _generate(self, condition: Instruction, *, noise: Noise, sampler: InstructionSampler,
                  callback: Callback | None) -> Tokens:
        """Long (B, N). The callback counts draws."""
        text, layout = self.encode_text(condition), self.layout
        heads, prompts = condition.prompt_ids(layout), condition.prompt_codes(layout, self.config.num_books)[:, 0]
        rows = [_Row(self, text[row:row + 1], heads[row], prompts[row], sampler) for row in range(len(heads))]
        steps = sampler.max_ids - heads.shape[1] - prompts.shape[1]
        if steps < 2:
            raise ValueError(f"max_ids={sampler.max_ids} leaves no room behind a prompt of "
                             f"{heads.shape[1] + prompts.shape[1]} ids")
        for step in range(steps):
            logits = torch.stack([row.logits() for row in rows])
            picks = self.pick(logits, torch.tensor([row.acoustic for row in rows], device=self.device), noise, sampler)
            for row, pick in zip(rows, picks.tolist(), strict=True):
                row.take(pick)
            notify(callback, step + 1, steps)
            if all(row.done for row in rows):
                break
        made = [torch.tensor(row.ids[heads.shape[1]:], device=self.device) for row in rows]
        lengths = torch.tensor([len(row) for row in made])
        values = nn.utils.rnn.pad_sequence(made, batch_first=True)
        return Tokens(values, None if int(lengths.min()) == values.shape[1] else lengths)

    def pick(self, logits: Tensor, acoustic: Tensor, noise: Noise, sampler: InstructionSampler) -> Tensor:
        """Ids Long (B,) of logits (B, size); the temperature counts behind the filters."""
        kept = torch.where(acoustic[:, None],
                           filter_logits(logits, top_k=sampler.acoustic_top_k, top_p=sampler.top_p),
                           filter_logits(logits, top_k=sampler.semantic_top_k, top_p=sampler.top_p))
        if sampler.temperature == 0:
            return kept.argmax(dim=-1)
        return draw_categorical(kept / sampler.temperature, noise)

    def example_condition(self, rows: int, seed: int = 0) -> Instruction:
        """Texts of four or five tokens and a prompt."""
        return self._example(rows, seed)

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        """Sequences that begin with the prompt of :meth:`example_condition`."""
        ids, lengths = self._example_ids(rows, seed)
        return Tokens(ids[:, 0], lengths)


class _Row:
    """One row being written: its ids, and the readings that guidance compares, each with keys and values.

    Args:
        model: the model.
        text: (1, L, width).
        head: ids Long (P,) in front.
        prompt: ids Long (A,) that follow the end of the units.
        sampler: its guidance and the longest sequence.
    """

    def __init__(self, model: VoxInstructAR, text: Tensor, head: Tensor, prompt: Tensor,
                 sampler: InstructionSampler) -> None:
        self.model, self.text, self.prompt, self.sampler = model, text, prompt.tolist(), sampler
        self.ids, self.acoustic, self.done = head.tolist(), False, False
        self.begin_part()

    def begin_part(self) -> None:
        """Forget what is stored: the readings of units and of codes differ."""
        readings = ["all", "no text"] if self.guided[0] else ["all"]
        self.readings = readings + ["no units"] * (self.acoustic and self.guided[1])
        llama = self.model.llama
        length = self.text.shape[1] + self.sampler.max_ids + 1
        self.cache = KVCache(len(llama.stack.blocks), len(self.readings), llama.stack.blocks[0].attention.num_heads,
                             length, llama.head_dim, self.text.device, self.text.dtype)
        self.fed = 0

    @property
    def guided(self) -> tuple[bool, bool]:
        """Whether guidance compares with no text, and with no units."""
        strength = self.sampler.text_guidance if self.acoustic else self.sampler.semantic_guidance
        return strength != 1, self.sampler.unit_guidance != 1

    @torch.no_grad()
    def logits(self) -> Tensor:
        """Guided logits (size,) of the next id."""
        model, layout = self.model, self.model.layout
        if self.done:
            return self.text.new_zeros(layout.size, dtype=torch.float32)
        ids = torch.tensor([self.ids], device=self.text.device)
        segments = segments_of(ids, layout)[:, self.fed:]
        fresh = ids[:, self.fed:].expand(len(self.readings), -1)
        if "no units" in self.readings:
            without = torch.where(segments[0] == 1, 0, fresh[-1])
            fresh = torch.cat([fresh[:-1], without[None]])
        segments, x = segments.expand(len(fresh), -1), model.table(fresh)
        if self.fed:
            x, mask = x + model.llama.segments(segments), None
        else:
            text = torch.cat([self.text if reading != "no text" else torch.zeros_like(self.text)
                              for reading in self.readings])
            x = model.llama.with_text(text, x, segments)
            order = torch.arange(x.shape[1], device=x.device)
            mask = order <= order[:, None]
        self.fed = len(self.ids)
        states = model.llama.run(x, mask, self.cache.length, self.cache.layers)
        return self.guide(dict(zip(self.readings, model.head(states[:, -1]).float(), strict=True)))

    def guide(self, found: dict[str, Tensor]) -> Tensor:
        """One row of logits of those of all readings, without what may not come here."""
        layout, sampler, logits = self.model.layout, self.sampler, found["all"]
        if "no text" in found:
            strength = sampler.text_guidance if self.acoustic else sampler.semantic_guidance
            logits = found["no text"] + (logits - found["no text"]) * strength
        if "no units" in found:
            logits = found["no units"] + (logits - found["no units"]) * sampler.unit_guidance
        ids = torch.arange(layout.size, device=logits.device)
        if self.acoustic:
            allowed = (ids >= layout.border) & (ids < layout.begin) | (ids == layout.end)
        else:
            allowed = (ids < layout.border) | (ids == layout.semantic_end)
        return logits.masked_fill(~allowed, HIDDEN)

    def take(self, pick: int) -> None:
        """The next id."""
        if self.done:
            return
        layout = self.model.layout
        self.ids.append(pick)
        if not self.acoustic and pick == layout.semantic_end:
            self.ids += self.prompt
            self.acoustic = True
            self.begin_part()
        elif pick == layout.end or len(self.ids) >= self.sampler.max_ids:
            self.done = True
