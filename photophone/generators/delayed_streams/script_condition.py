"""What a delayed-streams text to speech reads, and the options of its draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from photophone.core.limits import MAX_GUIDANCE_SCALE
from photophone.generators.conditions import Condition
from photophone.generators.delayed_streams.script import Word
from photophone.generators.sampler import Sampler, option, temperature_option

MOST_PADDING = 1000
"""Frames of one pause."""


@dataclass(frozen=True)
class SpokenScript(Condition):
    """Words to say, one after the other, and the voice to say them with; rows are padded behind.

    Args:
        ids: Long (B, W, L), text ids of each word, -1 behind its last; a word without any is a break.
        padding: Long (B, W), frames after a word in which no other may begin; -1 behind the last word of a row.
        frames: float (B, M, D), of the voice.
        mask: bool (B, M), True for the frames that count.
        prefix: Long (B, Q, P), codes of a recording that the speech goes on from, -1 behind the last frame of a row;
            None: of models that know voices by ``frames``.
    """

    ids: Tensor
    padding: Tensor
    frames: Tensor
    mask: Tensor
    prefix: Tensor | None = None

    @classmethod
    def of_rows(cls, rows: Sequence[Sequence[tuple[Sequence[int], int]]],
                voices: Sequence[tuple[Tensor, Tensor]], prefixes: Sequence[Tensor] | None = None) -> SpokenScript:
        """A batch of texts.

        Args:
            rows: of each text the ids of its words and the frames after each.
            voices: of each text frames float (M, D), and which of them count, bool (M,).
            prefixes: of each text codes Long (Q, P), or None.
        """
        words, longest = max(map(len, rows)), max((len(ids) for row in rows for ids, _ in row), default=0)
        made, padding = torch.full((len(rows), words, max(1, longest)), -1), torch.full((len(rows), words), -1)
        for index, row in enumerate(rows):
            for place, (ids, frames) in enumerate(row):
                made[index, place, :len(ids)] = torch.tensor(list(ids), dtype=torch.long)
                padding[index, place] = frames
        frames, masks = zip(*voices, strict=True)
        pad = torch.nn.utils.rnn.pad_sequence
        prefix = None if prefixes is None else pad([codes.T for codes in prefixes], batch_first=True,
                                                   padding_value=-1).transpose(1, 2)
        return cls(made, padding, pad(frames, batch_first=True), pad(masks, batch_first=True), prefix)

    def words(self) -> list[list[Word]]:
        """The words of each row."""
        return [[Word(tuple(one for one in ids if one >= 0), "", frames)
                 for ids, frames in zip(row, padding) if frames >= 0]
                for row, padding in zip(self.ids.tolist(), self.padding.tolist(), strict=True)]

    def prefixes(self) -> list[Tensor] | None:
        """Codes Long (Q, P) in front of each row, or None."""
        return None if self.prefix is None else [codes[:, codes[0] >= 0] for codes in self.prefix]

    def check(self, text_card: int, dim: int) -> None:
        """Refuse what a model does not read.

        Raises:
            ValueError: other shapes or dtypes, ids outside the vocabulary, a row without words, or too long pauses.
        """
        ids, padding, frames, mask = self.ids, self.padding, self.frames, self.mask
        if ids.ndim != 3 or ids.dtype != torch.long or padding.shape != ids.shape[:2] or padding.dtype != torch.long:
            raise ValueError(f"ids and padding must be Long (B, W, L) and (B, W), got {ids.dtype} {tuple(ids.shape)} "
                             f"and {padding.dtype} {tuple(padding.shape)}")
        if frames.ndim != 3 or frames.shape[::2] != (len(ids), dim) or not frames.is_floating_point():
            raise ValueError(f"frames must be float ({len(ids)}, M, {dim}), got {frames.dtype} {tuple(frames.shape)}")
        if mask.shape != frames.shape[:2] or mask.dtype != torch.bool:
            raise ValueError(f"mask must be bool {tuple(frames.shape[:2])}, got {mask.dtype} {tuple(mask.shape)}")
        if not len(ids) or not (padding >= 0).any(dim=1).all():
            raise ValueError("every row needs a word to say")
        if int(ids.max()) >= text_card or int(ids.min()) < -1:
            raise ValueError(f"ids must lie in 0..{text_card - 1}, got {int(ids.min())}..{int(ids.max())}")
        if int(padding.max()) > MOST_PADDING:
            raise ValueError(f"a pause may last {MOST_PADDING} frames, got {int(padding.max())}")

    def check_prefix(self, books: int, card: int) -> None:
        """Refuse codes of a recording that are none of the model's.

        Raises:
            ValueError: another shape, codes outside 0..card - 1, or a row without any.
        """
        codes = self.prefix
        if codes is None:
            return
        if codes.ndim != 3 or codes.shape[:2] != (len(self.ids), books) or codes.dtype != torch.long:
            raise ValueError(f"prefix must be Long ({len(self.ids)}, {books}, P), got {codes.dtype} "
                             f"{tuple(codes.shape)}")
        held = codes >= 0
        if not codes.shape[2] or not held[:, 0].any(dim=1).all() or (held != held[:, :1]).any() or \
                int(codes.max()) >= card:
            raise ValueError(f"prefix must hold codes in 0..{card - 1} of a frame at least in each row, -1 behind")


@dataclass(frozen=True)
class SpeakingSampler(Sampler):
    """Options of :class:`photophone.generators.delayed_streams.speech.DelayedSpeech`; defaults of the authors."""

    temperature: float = temperature_option(0.6)
    guidance_scale: float = option(2.0, "how closely text and voice are followed; 1 is not at all more. Distilled "
                                        "models know 1 to 4 in steps of 0.5", low=0, high=MAX_GUIDANCE_SCALE)
    padding_bonus: float = option(0.0, "added to the logit of pauses: more makes speech slower", low=-10, high=10)
    initial_padding: int = option(2, "frames before the first word", low=0, high=MOST_PADDING)
    max_padding: int = option(8, "frames that the model may pause after a word", low=0, high=MOST_PADDING)
    final_padding: int = option(4, "frames after the last word", low=0, high=MOST_PADDING)
