"""How TASTE's spoken language model lays out text and the codes of its words.

The codes of a word stand at the id that begins it. They come late by ``delay`` words (or ids), so that a word is spoken
when the words behind it are known; what is late at the end follows behind the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from photophone.core.limits import MAX_TEMPERATURE
from photophone.generators.conditions import Condition
from photophone.generators.sampler import Sampler, option

IGNORED = -1
"""In codes: no word begins here."""
SPOKEN = frozenset(".,'")
"""Signs that text may have, beside letters and digits of ASCII."""


def piece_tables(pieces: Sequence[str], start: int, end: int) -> dict[str, Tensor]:
    """What ids of a vocabulary are, bool (V,) each, for :class:`SpokenPrompt`.

    Args:
        pieces: of the vocabulary, a word's first one with its space.
        start: id of the begin of a text; this and all behind it begin words.
        end: id of its end, which never comes.

    Returns:
        ``opens``: begins a word; ``banned``: never comes, such as pieces without anything to say; ``stops``: has a full
        stop.
    """
    opens = [piece.startswith(" ") or index >= start for index, piece in enumerate(pieces)]
    silent = [not any(sign in SPOKEN or sign.isascii() and sign.isalnum() for sign in piece) or "\n" in piece
              for piece in pieces]
    silent[end] = True
    return {"opens": torch.tensor(opens), "banned": torch.tensor(silent),
            "stops": torch.tensor(["." in piece for piece in pieces])}


@dataclass(frozen=True)
class SpokenPrompt(Condition):
    """Text that was spoken, which is to be continued; rows are padded behind.

    Args:
        ids: Long (B, N) of the language model's vocabulary.
        lengths: Long (B,), ids of each row; 0 for speech from nothing, which takes ``codes``.
        codes: Long (B, N, Q) at ids that begin a word, ``IGNORED`` at others; None: text that nobody spoke, and that
            the official model continues without its begin.
        opens, banned, stops: bool (V,), see :func:`piece_tables`.
    """

    SHARED = ("opens", "banned", "stops")

    ids: Tensor
    lengths: Tensor
    codes: Tensor | None
    opens: Tensor
    banned: Tensor
    stops: Tensor

    def check(self, vocab_size: int, num_levels: int, codebook_size: int) -> None:
        """Refuse what does not fit.

        Raises:
            ValueError: names what was expected and what came.
        """
        ids, rows, codes = self.ids, len(self.ids), self.codes
        if ids.ndim != 2 or ids.dtype != torch.long or not ids.numel():
            raise ValueError(f"ids must be Long (B, N), got {ids.dtype} {tuple(ids.shape)}")
        if not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
            raise ValueError(f"ids must lie in 0..{vocab_size - 1}, got {int(ids.min())}..{int(ids.max())}")
        least = int(codes is None)
        if self.lengths.shape != (rows,) or int(self.lengths.min()) < least or int(self.lengths.max()) > ids.shape[1]:
            raise ValueError(f"lengths must be Long ({rows},) of {least}..{ids.shape[1]}, got {self.lengths.tolist()}")
        if codes is not None and (codes.shape != (*ids.shape, num_levels) or codes.dtype != torch.long
                                  or not IGNORED <= int(codes.min()) <= int(codes.max()) < codebook_size):
            raise ValueError(f"codes must be Long {(*ids.shape, num_levels)} in {IGNORED}..{codebook_size - 1}")
        for name in self.SHARED:
            table = getattr(self, name)
            if table.shape != (vocab_size,) or table.dtype != torch.bool:
                raise ValueError(f"{name} must be bool ({vocab_size},), got {table.dtype} {tuple(table.shape)}")
        if self.banned.all():
            raise ValueError("every id of the vocabulary is banned")


@dataclass(frozen=True)
class ContinuationSampler(Sampler):
    """Options of :class:`photophone.generators.taste.spoken_lm.TasteSpokenLM`; the defaults are those of the
    authors, but for ``max_ids``: they let ids that never begin a word go on for ever."""

    extra_words: int = option(8, "the text ends at a full stop behind so many words, at three times as many anyhow",
                              low=1, high=10_000)
    text_top_p: float = option(0.3, "ids come from the likeliest before this probability is passed, the likeliest in "
                                    "any case; 0 takes that one", low=0, high=1)
    text_temperature: float = option(0.5, "scales the randomness of the text", low=0.01, high=MAX_TEMPERATURE)
    repetition_penalty: float = option(1.1, "ids that came before are so much less likely; 1 is none", low=0.1, high=10)
    max_ids: int = option(400, "ids of new text at most", low=1, high=100_000)


def late_codes(codes: Tensor, lengths: Tensor, delay: int, by_word: bool) -> Tensor:
    """Codes Long (B, N + delay, Q) as they come, ``IGNORED`` where none do.

    Args:
        codes: Long (B, N, Q), ``IGNORED`` where no word begins.
        lengths: Long (B,), ids of each row.
        delay: words, or ids.
        by_word: count words.
    """
    made = codes.new_full((len(codes), codes.shape[1] + delay, codes.shape[2]), IGNORED)
    for late, row, length in zip(made, codes, lengths.tolist(), strict=True):
        begins = (row[:length, 0] >= 0).nonzero()[:, 0]
        after = torch.arange(length, length + delay, device=codes.device)
        places = torch.cat([begins, after])[delay:] if by_word else begins + delay
        late[places] = row[begins]
    return made


def last_before(codes: Tensor) -> Tensor:
    """Places Long (B, M) of the last codes (B, M, Q) at or before each place; -1 where there are none."""
    places = torch.arange(codes.shape[1], device=codes.device)
    return torch.where(codes[..., 0] >= 0, places, -1).cummax(dim=1).values
