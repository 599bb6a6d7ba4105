"""VoxInstruct's second model: the codes of the further books, book by book, the surest first.

Paper: VoxInstruct (arXiv 2408.15676), whose order of codes is that of SoundStorm (2305.09636). Origin:
github.com/thuhcsi/VoxInstruct, MIT by its README.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, notify
from photophone.generators.base import LossOutput
from photophone.generators.voxinstruct.condition import BookSampler, WrittenSpeech
from photophone.generators.voxinstruct.model import VoxInstructModel
from photophone.generators.voxinstruct.network import (
    CODES,
    MT5,
    InstructionEncoder,
    SpeechLlama,
    convert_keys,
    segments_of,
)
from photophone.layers.lengths import masked_mean
from photophone.loading.checkpoints import State


class VoxInstructNAR(VoxInstructModel):
    """Ids of the first book to codes Long (B, Q, A) of all books, those of the prompt too.

    A row has a code for each id behind the end of the units but for the end; codes outside the codec, which the
    official model can write, become its last one. Rows run one after the other.

    Args:
        num_languages, num_semantic, num_codes, num_books: as in the first model.
        width, depth, num_heads, hidden, max_text, mt5: as there.
        text_drop_rate: share of rows without instruction, in training.
        prompt_free_rate: share of batches without a prompt, in training.
    """

    Condition = WrittenSpeech
    Sampler = BookSampler

    def __init__(self, num_languages: int = 2, num_semantic: int = 500, num_codes: int = 1024, num_books: int = 8,
                 width: int = 1024, depth: int = 12, num_heads: int = 16, hidden: int = 4096, max_text: int = 512,
                 mt5: dict = MT5, text_drop_rate: float = 0.25, prompt_free_rate: float = 0.3) -> None:
        super().__init__()
        size = self.layout.size
        self.text = InstructionEncoder(width, mt5)
        self.llama = SpeechLlama(width, depth, num_heads, hidden)
        self.tables = nn.ModuleList(nn.Embedding(size, width, padding_idx=0) for _ in range(num_books))
        self.books = nn.Embedding(num_books - 1, width)
        self.heads = nn.ModuleList(nn.Linear(width, num_codes + 3, bias=False) for _ in range(num_books - 1))

    @staticmethod
    def convert_state_dict(state: State) -> State:
        return convert_keys(state, "model.")

    def logits(self, text: Tensor, ids: Tensor, segments: Tensor, book: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, N, num_codes + 3) of a book.

        Args:
            text: (B, L, width).
            ids: Long (B, Q, N) of all books; 0 where they are not known.
            segments: Long (B, N).
            book: Long (B,), 1 to Q - 1.
            mask: bool (B, N), False behind the end of a row.
        """
        x = sum(table(part) for table, part in zip(self.tables, ids.unbind(1), strict=True))
        x = self.llama.with_text(text, x + self.books(book - 1)[:, None], segments)
        seen = None if mask is None else F.pad(mask, (text.shape[1], 0), value=True)[:, None, None]
        states = self.llama.run(x, seen)[:, text.shape[1]:]
        return torch.cat([self.heads[number - 1](state[None]) for number, state in zip(book.tolist(), states)])

    def masked(self, ids: Tensor, segments: Tensor, mask: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """What a training pass hides: the book of each row Long (B,), places of its targets bool (B, N), and of the
        prompt bool (B, N).

        Of the codes of the book, those behind the prompt are hidden all, and a random share are targets.
        """
        rows = len(ids)
        book = noise.integers(1, self.config.num_books, rows).to(ids.device)
        codes = (segments == CODES) & mask
        counts, place = codes.sum(1), codes.cumsum(1)
        prompt = torch.zeros_like(codes)
        if float(noise.uniform(1)) >= self.config.prompt_free_rate:
            share = noise.uniform(rows).to(ids.device)
            prompt = codes & (place <= (share * counts).long()[:, None])
        open_codes = codes & ~prompt
        ratio = torch.cos(math.pi / 2 * noise.uniform(rows).to(ids.device))
        count = (ratio * open_codes.sum(1)).long().clamp(min=1)
        order = noise.uniform(*codes.shape).to(ids.device).masked_fill(~open_codes, 2.0)
        return book, open_codes & (order.argsort(1).argsort(1) < count[:, None]), prompt

    def loss(self, tokens: Tokens, condition: WrittenSpeech, *, noise: Noise | None = None) -> LossOutput:
        """Cross-entropy in nats of the targets of one book in each row.

        Args:
            tokens: whole sequences Long (B, Q, N) of ids; before the codes all books have the same.
            condition: the same clips; its ids and prompt are not read.
            noise: see :meth:`Generator.loss`.
        """
        noise = noise or GlobalNoise(tokens.values.device)
        ids, mask = tokens.values, tokens.mask
        text, segments = self.encode_text(condition), segments_of(ids[:, 0], self.layout)
        if self.training:
            dropped = noise.uniform(len(ids)).to(ids.device) < self.config.text_drop_rate
            text = torch.where(dropped[:, None, None], 0, text)
        logits, target, chosen = self.train_logits(text, ids, segments, mask, noise)
        losses = F.cross_entropy(logits.flatten(0, 1).float(), target.flatten(), reduction="none").view(target.shape)
        unused = sum(0 * weight.sum() for weight in self.parameters() if weight.requires_grad)
        return LossOutput(masked_mean(losses, chosen) + unused)

    def train_logits(self, text: Tensor, ids: Tensor, segments: Tensor, mask: Tensor,
                     noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, N, num_codes + 3), targets Long (B, N) and where they count, bool (B, N)."""
        book, chosen, prompt = self.masked(ids[:, 0], segments, mask, noise)
        numbers = torch.arange(ids.shape[1], device=ids.device)
        hidden = ((segments == CODES) & ~prompt)[:, None] & (numbers[:, None] >= book[:, None, None])
        logits = self.logits(text, torch.where(hidden, 0, ids), segments, book, mask)
        own = ids[torch.arange(len(ids), device=ids.device), book]
        return logits, (own - self.layout.first_code).clamp(min=0), chosen

    def check_condition(self, condition: WrittenSpeech) -> None:
        """See :meth:`Instruction.check`; each row has the end of its units, once, and something behind it.

        Raises:
            ValueError: other ids.
        """
        super().check_condition(condition)
        ids, layout = condition.ids, self.layout
        if ids is None or ids.ndim != 2 or ids.dtype != torch.long or len(ids) != len(condition.text_ids):
            raise ValueError("ids must be Long (B, N), the whole sequence of the first book")
        if not 0 <= int(ids.min()) <= int(ids.max()) < layout.size:
            raise ValueError(f"ids must lie in 0..{layout.size - 1}, got {int(ids.min())}..{int(ids.max())}")
        ended = (ids == layout.semantic_end) & Tokens(ids, condition.lengths).mask
        place = ended.long().argmax(dim=1)
        known = 0 if condition.codes is None else condition.codes.shape[2]
        if bool((ended.sum(1) != 1).any()) or bool((condition.counts - place - 1 <= known).any()):
            raise ValueError(f"each row needs the end of its units ({layout.semantic_end}) once, and codes behind "
                             "those of the prompt")

    def _generate(self, condition: WrittenSpeech, *, noise: Noise, sampler: BookSampler,
                  callback: Callback | None) -> Tokens:
        """Codes Long (B, Q, A). The callback counts the books of all rows."""
        text, layout, num_books = self.encode_text(condition), self.layout, self.config.num_books
        prompts, counts, made = condition.prompt_codes(layout, num_books), condition.counts.tolist(), []
        total = len(counts) * (num_books - 1)
        for row, count in enumerate(counts):
            ids = condition.ids[row, :count]
            books = self.fill(text[row:row + 1], ids, prompts[row], sampler, callback, row * (num_books - 1), total)
            ended = bool(ids[-1] == layout.end)
            first = int((ids == layout.semantic_end).long().argmax()) + 1
            codes = books[:, first:count - ended] - layout.first_code
            made.append(codes.clamp(0, self.config.num_codes - 1))
        lengths = torch.tensor([part.shape[1] for part in made])
        values = torch.stack([F.pad(part, (0, int(lengths.max()) - part.shape[1])) for part in made])
        return Tokens(values, None if int(lengths.min()) == values.shape[2] else lengths)

    def fill(self, text: Tensor, ids: Tensor, prompt: Tensor, sampler: BookSampler, callback: Callback | None = None,
             before: int = 0, total: int = 0) -> Tensor:
        """Ids Long (Q, N) of all books of one row.

        Args:
            text: (1, L, width).
            ids: Long (N,) of the first book.
            prompt: Long (Q, A), ids of the prompt's codes.
            sampler: its steps.
            callback, before, total: see :func:`photophone.decoding.loop.notify`.
        """
        layout, segments = self.layout, segments_of(ids[None], self.layout)
        first = int((ids == layout.semantic_end).long().argmax()) + 1
        start = first + prompt.shape[1]
        books = ids.expand(self.config.num_books, -1).clone()
        books[1:, first:start], books[1:, start:] = prompt[1:], 0
        count, steps = len(ids) - start, sampler.num_order_steps
        for book in range(1, len(books)):
            done = 0
            for step in range(steps):
                share = math.ceil(count * (1 - math.cos(math.pi / 2 * (step + 1) / steps))) - done
                logits = self.logits(text, books[None], segments, torch.tensor([book], device=ids.device))[0, start:]
                sure, best = logits.float().softmax(dim=-1).max(dim=-1)
                chosen = sure.masked_fill(books[book, start:] != 0, -1).sort(descending=True, stable=True).indices
                chosen = chosen[:count - done if step == steps - 1 else max(share, 0)]
                books[book, start + chosen] = best[chosen] + layout.first_code
                done += len(chosen)
            notify(callback, before + book, total)
        return books

    def example_condition(self, rows: int, seed: int = 0) -> WrittenSpeech:
        """Of the first model, and ids behind its prompt."""
        ids, _ = self._example_ids(rows, seed, ragged=0)
        return WrittenSpeech(**vars(self._example(rows, 0)), ids=ids[:, 0])

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        """Sequences of all books."""
        return Tokens(*self._example_ids(rows, seed))
