"""What the language models of CosyVoice read, and the options of their sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from photophone.core.tokens import Tokens
from photophone.generators.conditions import Condition
from photophone.generators.sampler import Sampler, option


@dataclass(frozen=True)
class SpokenText(Condition):
    """Text to speak, and perhaps speech that is continued and the vector of a speaker.

    Args:
        text: Long (B, T), ids of the words of the prompt or of an instruction, then of those to say.
        text_lengths: Long (B,); None: all rows are full.
        said: Long (B,), how many of the last ids are to be said: what the limits count; None: all.
        prompt_tokens: Long (B, P), speech tokens of the prompt; None: none.
        prompt_lengths: Long (B,); None: all rows are full.
        speaker: float (B, speaker_dim) of any length, zeros where a row has none; None: no row has one. CosyVoice 1
            reads it.
        instruction: Long (B,), how many of the first ids are an instruction; only the training of mixed sequences asks.
    """

    text: Tensor
    text_lengths: Tensor | None = None
    said: Tensor | None = None
    prompt_tokens: Tensor | None = None
    prompt_lengths: Tensor | None = None
    speaker: Tensor | None = None
    instruction: Tensor | None = None

    @classmethod
    def of_rows(cls, texts: Sequence[Sequence[int]], before: Sequence[Sequence[int]] = (),
                prompts: Sequence[Tensor | None] = (), speaker: Tensor | None = None) -> Self:
        """A batch on the CPU.

        Args:
            texts: ids to say.
            before: ids of the words of the prompt, or of an instruction.
            prompts: speech tokens Long (P,) that are continued.
            speaker: see above.
        """
        front = before or [()] * len(texts)
        rows = [torch.tensor([*first, *text], dtype=torch.long) for first, text in zip(front, texts, strict=True)]
        spoken = [torch.zeros(0, dtype=torch.long) if row is None else row for row in prompts]
        known = spoken and max(len(row) for row in spoken) > 0
        return cls(pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows]),
                   torch.tensor([len(text) for text in texts]),
                   pad_sequence(spoken, batch_first=True) if known else None,
                   torch.tensor([len(row) for row in spoken]) if known else None, speaker)

    @property
    def text_counts(self) -> Tensor:
        """Ids of each row, Long (B,)."""
        return Tokens(self.text, self.text_lengths).mask.sum(dim=1)

    @property
    def said_counts(self) -> Tensor:
        """Ids of each row that are to be said, Long (B,)."""
        return self.text_counts if self.said is None else self.said

    def rows(self) -> list[tuple[Tensor, Tensor]]:
        """Text ids and speech tokens of the prompt of each row, without padding."""
        none = self.text.new_zeros(len(self.text), 0)
        prompts = Tokens(none if self.prompt_tokens is None else self.prompt_tokens, self.prompt_lengths)
        return [(text[:count], prompt[mask]) for text, count, prompt, mask in
                zip(self.text, self.text_counts.tolist(), prompts.values, prompts.mask, strict=True)]

    def check(self, vocab_size: int, num_tokens: int, speaker_dim: int | None) -> None:
        """Refuse what a model does not read.

        Args:
            vocab_size: of the text.
            num_tokens: of the speech.
            speaker_dim: None for models without speakers, which ignore them.

        Raises:
            ValueError: other shapes or dtypes, ids outside the vocabulary, rows without text.
        """
        for name, values, most in (("text ids", self.text, vocab_size),
                                   ("speech tokens", self.prompt_tokens, num_tokens)):
            if values is None:
                continue
            if values.ndim != 2 or values.dtype != torch.long or len(values) != len(self.text):
                raise ValueError(f"{name} must be Long ({len(self.text)}, N), got {values.dtype} {tuple(values.shape)}")
            if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < most:
                raise ValueError(f"{name} must lie in 0..{most - 1}, got {int(values.min())}..{int(values.max())}")
        if self.prompt_lengths is not None and self.prompt_tokens is None:
            raise ValueError("prompt_lengths need prompt_tokens")
        counts, said = self.text_counts, self.said_counts
        if not self.text.numel() or int(said.min()) < 1 or (said > counts).any():
            raise ValueError(f"every row needs text to say, got {said.tolist()} of {counts.tolist()} ids")
        if self.instruction is not None and (self.instruction > counts).any():
            raise ValueError(f"instructions of {self.instruction.tolist()} ids in texts of {counts.tolist()}")
        speaker = self.speaker
        if speaker_dim is not None and speaker is not None and tuple(speaker.shape) != (len(self.text), speaker_dim):
            raise ValueError(f"speaker vectors must be ({len(self.text)}, {speaker_dim}), got {tuple(speaker.shape)}")


@dataclass(frozen=True)
class SpeechLMSampler(Sampler):
    """Options of the language models of CosyVoice; the defaults are those of the authors."""

    top_p: float = option(0.8, "draws come from the likeliest tokens that reach this probability", low=0.01, high=1)
    top_k: int = option(25, "and from this many of them at most", low=1)
    window: int = option(10, "tokens that a draw is compared with", low=1, high=1000)
    share: float = option(0.1, "a token that makes up this share of them is drawn again from all others", low=0, high=1)
    min_ratio: float = option(2.0, "speech tokens for each id of the text, before speech may end", low=0, high=1000)
    max_ratio: float = option(20.0, "speech tokens for each id of the text at most", low=0.01, high=1000)
    all_stops: bool = option(False, "nothing ends speech before min_ratio; the authors leave out one of the tokens "
                                    "that do, which in CosyVoice 3 is none that is drawn")
