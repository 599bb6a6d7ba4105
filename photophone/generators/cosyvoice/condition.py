"""What CosyVoice's flow reads, and the noise that it may start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from photophone.core.noise import Noise, SeededNoise
from photophone.core.tokens import Tokens
from photophone.generators.conditions import Condition
from photophone.generators.sampler import Sampler, guidance_option, option, steps_option, temperature_option


@dataclass(frozen=True)
class SpeechTokens(Condition):
    """Speech tokens, the speaker, and perhaps a prompt: speech that is continued.

    Args:
        tokens: Long (B, N); below 0 counts as 0.
        speaker: float (B, speaker_dim), of any length but 0.
        lengths: Long (B,), tokens of each row, or None when all rows are full.
        prompt_tokens, prompt_mel: Long (B, P) and float (B, G, mel_dim), both or neither. Training makes prompts of
            its own, of the frames to be learned.
        following: Long (B, ahead), tokens that follow and of which only the look ahead knows; None: the speech ends.
    """

    tokens: Tensor
    speaker: Tensor
    lengths: Tensor | None = None
    prompt_tokens: Tensor | None = None
    prompt_mel: Tensor | None = None
    following: Tensor | None = None

    @classmethod
    def of_rows(cls, rows: Sequence[Sequence[int]], speaker: Tensor) -> Self:
        """A batch without prompts, on the CPU."""
        tokens = [torch.tensor(row, dtype=torch.long) for row in rows]
        return cls(pad_sequence(tokens, batch_first=True), speaker, torch.tensor([len(row) for row in rows]))

    @property
    def counts(self) -> Tensor:
        """Tokens of each row, Long (B,)."""
        return Tokens(self.tokens, self.lengths).mask.sum(dim=1)

    def check(self, vocab_size: int, speaker_dim: int, mel_dim: int) -> None:
        """Refuse what does not fit.

        Raises:
            ValueError: other shapes or dtypes, tokens outside the vocabulary, rows without tokens, half a prompt.
        """
        rows = len(self.tokens)
        if self.tokens.ndim != 2 or self.tokens.dtype != torch.long or len(self.speaker) != rows:
            raise ValueError(f"expected Long tokens (B, N) and B speakers, got {self.tokens.dtype} "
                             f"{tuple(self.tokens.shape)} and {len(self.speaker)}")
        if not self.tokens.numel() or int(self.counts.min()) < 1:
            raise ValueError("every row needs at least one speech token")
        for given in (self.tokens, self.prompt_tokens, self.following):
            if given is not None and given.numel() and int(given.max()) >= vocab_size:
                raise ValueError(f"speech tokens must lie below {vocab_size}, got {int(given.max())}")
        if self.speaker.ndim != 2 or self.speaker.shape[1] != speaker_dim:
            raise ValueError(f"speaker vectors must be (B, {speaker_dim}), got {tuple(self.speaker.shape)}")
        if (self.prompt_tokens is None) != (self.prompt_mel is None):
            raise ValueError("a prompt needs both prompt_tokens and prompt_mel")
        if self.prompt_tokens is None or self.prompt_mel is None:
            return
        tokens, mel = tuple(self.prompt_tokens.shape), tuple(self.prompt_mel.shape)
        if len(tokens) != 2 or len(mel) != 3 or mel[2] != mel_dim or not tokens[0] == mel[0] == rows:
            raise ValueError(f"a prompt of {rows} rows has tokens ({rows}, P) and frames ({rows}, G, {mel_dim}), got "
                             f"{tokens} and {mel}")

    def with_prompt(self, mel_dim: int) -> Self:
        """The same, with an empty prompt where there is none."""
        if self.prompt_tokens is not None:
            return self
        return replace(self, prompt_tokens=self.tokens[:, :0],
                       prompt_mel=self.speaker.new_zeros(len(self.tokens), 0, mel_dim))


@dataclass(frozen=True)
class FlowSampler(Sampler):
    """Options of :class:`photophone.generators.cosyvoice.flow.CosyVoiceFlow`."""

    num_inference_steps: int = steps_option(10, "solver steps from noise to mel frames")
    guidance_scale: float = guidance_option(1.7)
    temperature: float = temperature_option()
    chunked: bool = option(False, "attention by chunks, as in a stream; versions 2 and 3")
    left_chunks: int | None = option(None, "with chunked: pieces before its own that a frame sees beside the prompt; "
                                           "none: all", low=0)


class ReseededNoise(Noise):
    """The noise that GLM-4-Voice's flow starts from: that of seed 42 afresh for every clip, so it follows from the
    number of frames alone, and is the same in every row."""

    SEED = 42

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, mel_dim, frames) of it."""
        return SeededNoise.from_seeds([self.SEED]).normal(1, *shape[1:], dtype=dtype).expand(shape)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> NoReturn:
        """There is no such noise."""
        raise ValueError("the noise of GLM-4-Voice's flow is normal noise for mel frames")


class FixedNoise(Noise):
    """The noise that CosyVoice 2 and 3 start every clip from: drawn once from seed 0, the same in every row.

    Each draw takes the frames that follow those of the draw before, so pieces join.

    Args:
        mel_dim: of the frames.
        frames: how many there are.
    """

    def __init__(self, mel_dim: int, frames: int) -> None:
        self.drawn = SeededNoise.from_seeds([0]).normal(1, mel_dim, frames)
        self.used = 0

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, mel_dim, frames) of it.

        Raises:
            ValueError: there are not so many frames any more.
        """
        rows, _, size = shape
        first, last = self.used, self.used + size
        if last > self.drawn.shape[-1]:
            raise ValueError(f"the fixed noise has {self.drawn.shape[-1]} frames, {last} are needed; give "
                             "noise=SeededNoise.from_seeds([...])")
        self.used = last
        return self.drawn[:, :, first:last].expand(rows, -1, -1).to(dtype)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> NoReturn:
        """There is no such noise."""
        raise ValueError("the fixed noise of CosyVoice is normal noise for mel frames")
