"""The language model of delayed streams: text and codes of speech, and a transformer over the codebooks of a frame.

Papers: Moshi (arXiv 2410.00037), delayed streams (2509.08753). Official code: kyutai-labs/moshi, MIT. Weights: CC BY
4.0. The codes are those of :class:`photophone.codecs.mimi.model.Mimi`.

Row 0 of the codes is text, row 1 + q codebook q; each row has a delay. The model reads all rows of a frame and predicts
the text of the next; the depth transformer then predicts the codebooks of that frame one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, notify
from photophone.generators.base import Generator, LossOutput
from photophone.generators.delayed_streams.conditioners import Conditioners, StreamConditions
from photophone.generators.delayed_streams.config import model_config
from photophone.generators.delayed_streams.hearing import HeardCodes, StreamSampler
from photophone.generators.delayed_streams.keys import convert
from photophone.generators.delayed_streams.layers import (
    DepthBlock,
    KeysValues,
    StreamBlock,
    StreamEmbedding,
    WideRMSNorm,
)
from photophone.layers.lengths import masked_mean
from photophone.loading.checkpoints import OriginalCheckpoint, State

ZERO, UNKNOWN = -1, -2
"""Codes that embed to zeros, and that are not known yet."""
NEW_WORD, PADDING = 0, 3
"""Text ids: a word begins, and nothing is said."""


def delay_rows(codes: Tensor, delays: list[int], start: Tensor) -> Tensor:
    """Codes (B, K, T), each row late by its delay, behind a column of ``start`` (1, K, 1): (B, K, T + 1)."""
    first = start.expand(len(codes), -1, -1)
    rows = [torch.cat([first[:, row:row + 1].expand(-1, -1, delay + 1), codes[:, row:row + 1]], dim=-1)
            for row, delay in enumerate(delays)]
    return torch.cat([row[..., :codes.shape[-1] + 1] for row in rows], dim=1)


def undelay_rows(logits: Tensor, delays: list[int]) -> tuple[Tensor, Tensor]:
    """Logits (B, K, T, V), each row early by its delay with zeros behind, and bool (B, K, T), True where they are."""
    length = logits.shape[2]
    rows = [nn.functional.pad(logits[:, row, delay:], (0, 0, 0, min(delay, length)))
            for row, delay in enumerate(delays)]
    known = torch.arange(length, device=logits.device) < length - torch.tensor(delays, device=logits.device)[:, None]
    return torch.stack(rows, dim=1), known.expand(len(logits), -1, -1)


def masked_cross_entropy(logits: Tensor, codes: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropies float32 (B, K, T) of logits (B, K, T, V) and codes; 0 where ``mask`` is False."""
    targets = torch.where(mask, codes, 0)
    logits = logits.float()
    chosen = logits.gather(-1, targets[..., None])[..., 0]
    return torch.where(mask, logits.logsumexp(dim=-1) - chosen, 0)


class DelayedStreams(OriginalCheckpoint, Generator):
    """Speech that is heard to text and codes of speech that is spoken, frame by frame.

    As a generator it hears codes Long (B, Q', T) and makes codes Long (B, 1 + Q, T - d), text first, with d its longest
    delay: Moshi speaks while it listens, speech to text only writes. For text to speech see
    :class:`photophone.generators.delayed_streams.speaking.Speaking`.

    Args:
        card: codes of a codebook; code ``card`` stands before the first frame.
        text_card: ids of the text vocabulary; id ``text_card`` stands before the first frame.
        text_out: ids that are predicted; None: ``text_card``.
        books: codebooks that are read; the first ``spoken_books`` of them are predicted, the others are those of a
            listener.
        spoken_books: 0 for a model that only writes.
        delays: of text and codebooks, in frames.
        width, depth, num_heads, num_kv_heads, hidden: of the transformer over frames.
        window: frames that a frame sees; None: all.
        rotary_base: of the rotary frequencies.
        two_texts: a text code holds two, see :class:`photophone.generators.delayed_streams.layers.StreamEmbedding`.
        depth_width, depth_layers, depth_heads, depth_hidden: of the transformer over codebooks.
        depth_rank: width of its embeddings, which are then projected; None: ``depth_width``, and no projection.
        depth_sets, input_sets: sets of weights of its codebooks, and of the layers between frames and codebooks.
        cross_attention: the transformer over frames attends to conditions.
        conditioners, sums, crosses, cross_positions: see
            :class:`photophone.generators.delayed_streams.conditioners.Conditioners`.
        extra_heads, extra_dim: further linear heads, such as those that tell a pause; None: none.
        semantic_weight: of the loss of the first codebook, where the others have 1.
        speech_delay: frames by which speech follows the text that it says; None for models that are no text to speech.
        words_ahead: the second of two texts holds the ids of the word so far ahead; None without a second.
        text_delay: seconds by which the text follows the speech that is heard.
        silent_start: seconds of silence that are heard first.
        signature: by which files of voices name the weights.

    Raises:
        ValueError: for delays or sets of another number of rows.
    """

    Condition = HeardCodes
    Sampler = StreamSampler
    streams = True
    CONTAINERS = ("fsdp_best_state.model",)

    def __init__(self, card: int = 2048, text_card: int = 32000, text_out: int | None = None, books: int = 16,
                 spoken_books: int = 8, delays: list[int] = (0, 0, *[1] * 7, 0, *[1] * 7), width: int = 4096,
                 depth: int = 32, num_heads: int = 32, num_kv_heads: int | None = None, hidden: int = 11264,
                 window: int | None = 3000, rotary_base: float = 10_000.0, two_texts: bool = False,
                 depth_width: int = 1024, depth_layers: int = 6, depth_heads: int = 16, depth_hidden: int = 2816,
                 depth_rank: int | None = None, depth_sets: list[int] = tuple(range(8)),
                 input_sets: list[int] = tuple(range(8)), cross_attention: bool = False,
                 conditioners: dict | None = None, sums: list[str] = (), crosses: list[str] = (),
                 cross_positions: float = 0.0, extra_heads: int | None = None, extra_dim: int = 6,
                 semantic_weight: float = 100.0, speech_delay: int | None = None,
                 words_ahead: int | None = None, text_delay: float = 0.0, silent_start: float = 0.0,
                 signature: str | None = None) -> None:
        super().__init__()
        if len(delays) != books + 1 or not len(depth_sets) == len(input_sets) == spoken_books:
            raise ValueError(f"text and {books} codebooks need {books + 1} delays and {spoken_books} sets of weights, "
                             f"got {len(delays)}, {len(depth_sets)} and {len(input_sets)}")
        self.delays, self.spoken_books = list(delays), spoken_books
        self.emb = nn.ModuleList(StreamEmbedding(card + 1, width) for _ in range(books))
        self.text_emb = StreamEmbedding(text_card + 1, width, two=two_texts)
        self.blocks = nn.ModuleList(StreamBlock(width, num_heads, hidden, window, rotary_base, num_kv_heads,
                                                cross_attention) for _ in range(depth))
        self.norm = WideRMSNorm(width)
        self.text_linear = nn.Linear(width, text_out or text_card, bias=False)
        self.extra_heads = nn.ModuleList(nn.Linear(width, extra_dim, bias=False) for _ in range(extra_heads or 0))
        self.conditioners = Conditioners(conditioners or {}, width, sums, crosses, cross_positions)
        ways = max(input_sets, default=-1) + 1
        self.depformer_in = nn.ModuleList(nn.Linear(width, depth_width, bias=False) for _ in range(ways))
        self.depformer_emb = nn.ModuleList(StreamEmbedding(card + 1, depth_width, depth_rank)
                                           for _ in range(spoken_books - 1))
        self.depformer_text_emb = StreamEmbedding(text_card + 1, depth_width, depth_rank, two_texts) \
            if spoken_books else None
        self.depth_blocks = nn.ModuleList(DepthBlock(depth_width, depth_heads, depth_hidden, depth_sets)
                                          for _ in range(depth_layers if spoken_books else 0))
        self.linears = nn.ModuleList(nn.Linear(depth_width, card, bias=False) for _ in range(spoken_books))

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """See :func:`photophone.generators.delayed_streams.config.model_config`."""
        return model_config(official)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """See :func:`photophone.generators.delayed_streams.keys.convert`."""
        return convert(state)

    def start_codes(self) -> Tensor:
        """The codes (1, K, 1) before the first frame."""
        codes = [self.config.text_card, *[self.config.card] * self.config.books]
        return torch.tensor(codes, device=self.device)[None, :, None]

    def cross_keys(self, conditions: StreamConditions) -> list[KeysValues | None]:
        """What each block attends to, made once for a stream."""
        if conditions.cross is None:
            return [None] * len(self.blocks)
        return [block.cross.keys_values(conditions.cross.to(self.dtype)) for block in self.blocks]

    def states(self, codes: Tensor, total: Tensor | None = None,
               cross: list[KeysValues | None] | None = None) -> Tensor:
        """Codes Long (B, K, T) to states (B, T, C); within a stream, of the next T frames.

        Args:
            total: (B, 1, C), added to every frame.
            cross: of :meth:`cross_keys`.
        """
        x = sum(embed(codes[:, 1 + book]) for book, embed in enumerate(self.emb)) + self.text_emb(codes[:, 0])
        if total is not None:
            x = x + total.to(x)
        for block, known in zip(self.blocks, cross or [None] * len(self.blocks), strict=True):
            x = block(x, known)
        return self.norm(x)

    def depth_input(self, book: int, states: Tensor, before: Tensor) -> Tensor:
        """States (..., C) and the code before, Long (...), to what codebook ``book`` reads."""
        embed = self.depformer_text_emb if book == 0 else self.depformer_emb[book - 1]
        return self.depformer_in[self.config.input_sets[book]](states) + embed(before)

    def depth_logits(self, book: int, states: Tensor, before: Tensor, past: list[KeysValues | None]) -> Tensor:
        """Logits (B, V) of a codebook of one frame.

        Args:
            book: codebook.
            states: (B, C).
            before: Long (B,), the text, or the code of the codebook before.
            past: keys and values of each block, which this call replaces; all None at first.
        """
        x = self.depth_input(book, states, before)[:, None]
        for index, block in enumerate(self.depth_blocks):
            x, past[index] = block(x, book, past[index])
        return self.linears[book](x[:, 0])

    def logits(self, codes: Tensor, conditions: StreamConditions | None = None
               ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Codes Long (B, K, T), not delayed, to logits at the same places, each from what comes before it.

        Returns:
            Logits of the spoken codebooks (B, Q, T, V) and bool (B, Q, T), True where they count; the same of the text,
            (B, 1, T, V') and (B, 1, T). What does not count for its delay is zero.
        """
        conditions = conditions or StreamConditions()
        delayed = delay_rows(codes, self.delays, self.start_codes())
        states = self.states(delayed[..., :-1], conditions.total, self.cross_keys(conditions))
        target = delayed[..., 1:]
        text, text_known = undelay_rows(self.text_linear(states)[:, None], self.delays[:1])
        count = self.spoken_books
        if not count:
            nothing = text.new_zeros(len(codes), 0, codes.shape[-1])
            return nothing[..., None], nothing.bool(), text, text_known & (codes[:, :1] != ZERO)
        x = torch.stack([self.depth_input(book, states, target[:, book]) for book in range(count)], dim=2)
        x = x.flatten(0, 1)  # (B, T, Q, D) -> (BT, Q, D)
        for block in self.depth_blocks:
            x, _ = block(x)
        logits = torch.stack([self.linears[book](x[:, book]).unflatten(0, states.shape[:2]) for book in range(count)],
                             dim=1)
        logits, known = undelay_rows(logits, self.delays[1:1 + count])
        return logits, known & (codes[:, 1:1 + count] != ZERO), text, text_known & (codes[:, :1] != ZERO)

    # as a generator ---------------------------------------------------------------------------------------------

    @property
    def heard_books(self) -> int:
        """Codebooks of the listener, Q'."""
        return self.config.books - self.spoken_books

    def loss(self, tokens: Tokens, condition: HeardCodes, *, noise: Noise | None = None) -> LossOutput:
        """Cross-entropy of the text, and that of the codebooks as weighted.

        Args:
            tokens: Long (B, 1 + Q, T), text and spoken codes, not delayed.
            condition: what is heard meanwhile, of the same T frames.
            noise: unused.
        """
        return self.losses(tokens, tokens.values[:, :1], condition.codes)

    def losses(self, tokens: Tokens, asked: Tensor, heard: Tensor, conditions: StreamConditions | None = None
               ) -> LossOutput:
        """Cross-entropies of text and codes.

        Args:
            tokens: Long (B, 1 + Q, T), text and spoken codes, not delayed.
            asked: Long (B, 1, T), the text that is predicted.
            heard: Long (B, Q', T), codes of the listener.
            conditions: of the model.
        """
        spoken = tokens.values
        logits, mask, text, text_mask = self.logits(torch.cat([spoken, heard], dim=1), conditions)
        valid = tokens.mask[:, None]
        wrong = masked_mean(masked_cross_entropy(text, asked, text_mask & valid), text_mask & valid)
        total, metrics = wrong, {"text_loss": wrong.detach()}
        if self.spoken_books:
            counted = mask & valid
            weights = torch.ones(self.spoken_books, device=logits.device)
            weights[0] = self.config.semantic_weight
            weights = weights[:, None] * counted
            errors = masked_cross_entropy(logits, spoken[:, 1:], counted)
            audio = (errors * weights).sum() / weights.sum().clamp(min=1)
            total, metrics["audio_loss"] = total + audio, audio.detach()
        return LossOutput(total, metrics)

    def check_condition(self, condition: HeardCodes) -> None:
        """Codes of the listener's codebooks, longer than the longest delay; none for a model with conditions."""
        if self.conditioners:
            raise ValueError("this model is conditioned on more than what it hears; use Speaking or a StreamSession")
        condition.check(self.heard_books, self.config.card, max(self.delays))

    def _generate(self, condition: HeardCodes, *, noise: Noise, sampler: StreamSampler,
                  callback: Callback | None) -> Tokens:
        """Codes Long (B, 1 + Q, T - d)."""
        parts = list(self._stream(condition, noise=noise, sampler=sampler, callback=callback))
        return Tokens(torch.cat([part.values for part in parts], dim=-1), condition.mask.sum(dim=1) - max(self.delays))

    def _stream(self, condition: HeardCodes, *, noise: Noise, sampler: StreamSampler,
                callback: Callback | None) -> Iterator[Tokens]:
        """Codes Long (B, 1 + Q, 1) with lengths 1, or 0 for rows that have ended."""
        from photophone.generators.delayed_streams.session import StreamSession

        session = StreamSession(self, len(condition), noise=noise, **sampler.settings())
        lengths = condition.mask.sum(dim=1) - max(self.delays)
        total = condition.codes.shape[-1]
        made = 0
        with session.open():
            for index in range(total):
                frame = session.step(condition.codes[..., index])
                if frame is not None:
                    yield Tokens(frame[..., None], (made < lengths).long())
                    made += 1
                    notify(callback, made, total - max(self.delays))

    def example_condition(self, rows: int, seed: int = 0) -> HeardCodes:
        """Speech of different lengths."""
        shape = rows, self.heard_books, max(self.delays) + 4
        codes = torch.randint(self.config.card, shape, generator=torch.Generator().manual_seed(seed))
        counts = torch.tensor([shape[2] - row % 3 for row in range(rows)])
        return HeardCodes(codes, torch.arange(shape[2]) < counts[:, None])

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        """Text and codes as long as the examples of conditions."""
        generator, length = torch.Generator().manual_seed(seed), max(self.delays) + 4
        text = torch.randint(self.config.text_card, (rows, 1, length), generator=generator)
        codes = torch.randint(self.config.card, (rows, self.spoken_books, length), generator=generator)
        return Tokens(torch.cat([text, codes], dim=1))
