"""Speech while its text still comes: ids and speech tokens take turns in CosyVoice 2 and 3 (arXiv 2412.10117)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from photophone.core.noise import Noise
from photophone.generators.cosyvoice.qwen_lm import CosyVoiceQwenLM
from photophone.generators.cosyvoice.spoken_text import SpeechLMSampler

GROWTH = 512
"""Positions by which the memory of a stream grows."""


class TextStream:
    """One row of speech whose text comes in pieces.

    After ``mix[0]`` ids of text the model writes ``mix[1]`` tokens and then a fill, at which it waits for more text.
    Speech of a prompt takes turns with its words in the same way. What the authors' code does at the ends is repeated:
    speech of a prompt that has too few words is left out, and where the text ends at a fill with less than ``mix[0]``
    ids left, the last speech token is read twice.

    Args:
        model: of CosyVoice 2 or 3.
        prompt_text: ids of the words of the prompt, or of an instruction.
        prompt_tokens: Long (P,), its speech.
        noise: one row.
        sampler: options; ``min_ratio`` and ``max_ratio`` count the ids that have come.
        separator: id behind an instruction, all of which is read at once: of "<|endofprompt|>" in CosyVoice 3.

    Raises:
        ValueError: a separator that ``prompt_text`` does not have.
    """

    def __init__(self, model: CosyVoiceQwenLM, prompt_text: Tensor, prompt_tokens: Tensor, *, noise: Noise,
                 sampler: SpeechLMSampler | None = None, separator: int | None = None) -> None:
        self.model, self.noise, self.sampler = model, noise, sampler or SpeechLMSampler()
        layout, self.mix = model.layout, tuple(model.config.mix)
        self.layout, device = layout, model.device
        prompt_text, prompt_tokens = prompt_text.to(device), prompt_tokens.to(device)
        self.waiting = layout.start[None]  # not read yet
        if separator is not None:
            ids = prompt_text.tolist()
            if separator not in ids:
                raise ValueError(f"the prompt must hold the separator {separator} (<|endofprompt|>) behind its "
                                 f"instruction")
            front = ids.index(separator) + 1
            self.waiting = torch.cat([self.waiting, self._embed(prompt_text[:front])], dim=1)
            prompt_text = prompt_text[front:]
        self.text = self._embed(prompt_text)  # for which there was no turn yet
        self.speech = model.speech_embedding(prompt_tokens)[None]
        self.made = torch.zeros(1, 0, dtype=torch.long, device=device)  # fills included
        self.next_fill = (len(prompt_tokens) // self.mix[1] + 1) * self.mix[1] - len(prompt_tokens)
        self.cache, self.size, self.heard = None, 0, 0

    @torch.no_grad()
    def push(self, ids: Tensor) -> Iterator[Tensor]:
        """Speech tokens Long (1,), one by one, that the next text ids Long (n,) allow.

        Raises:
            ValueError: the model ends speech while text still comes.
        """
        text = self.text = torch.cat([self.text, self._embed(ids.to(self.model.device))], dim=1)
        self.heard += len(ids)
        width, length = self.mix
        while self.speech.shape[1] and self.text.shape[1] >= width:
            self.waiting = torch.cat([self.waiting, self.text[:, :width], self.speech[:, :length]], dim=1)
            self.text, self.speech = self.text[:, width:], self.speech[:, length:]
        if self.speech.shape[1]:
            return
        filled = self.made.shape[1] > 0 and int(self.made[0, -1]) == self.layout.fill
        if filled or (not self.made.shape[1] and self.waiting.shape[1] == 1):
            text = self.text[:, :width]
            if text.shape[1] < width:
                return
            self.waiting, self.text = text if filled else torch.cat([self.waiting, text], dim=1), self.text[:, width:]
        yield from self._until(self.layout.fill)

    @torch.no_grad()
    def finish(self) -> Iterator[Tensor]:
        """The rest of the speech, at most ``max_ratio`` tokens for each id that has come.

        Raises:
            ValueError: the model writes a token that has no meaning here.
        """
        self.waiting = torch.cat([self.waiting, self.text, self.layout.task[None]], dim=1)
        yield from self._until(self.layout.end)

    def _until(self, last: int) -> Iterator[Tensor]:
        """Tokens up to a special one."""
        model, count = self.model, self.model.config.num_tokens
        while last == self.layout.fill or self.made.shape[1] <= max(self.heard, 1) * self.sampler.max_ratio:
            scores = model.scores(self._read())
            place = self.made.shape[1]
            if last == self.layout.fill:
                if place == self.next_fill:
                    token = torch.full((1,), last, device=scores.device)
                    self.next_fill += self.mix[1] + 1
                else:
                    scores[:, count] = float("-inf")
                    token = model.pick(scores, self.made, self.noise, self.sampler)
                if int(token) == last:
                    self.next_fill = place + self.mix[1] + 1
            else:
                token = model.pick(scores, self.made, self.noise, self.sampler)
            self.made = torch.cat([self.made, token[:, None]], dim=1)
            if int(token) >= count:
                if int(token) == last:
                    return
                raise ValueError(f"the model wrote the token {int(token)} where speech or {last} was due; give it "
                                 "more text at once, or another seed")
            self.waiting = model.embed_next(token)
            yield token

    def _embed(self, ids: Tensor) -> Tensor:
        return self.model.text_embedding(ids.long())[None]

    def _read(self) -> Tensor:
        """States of what was not read yet."""
        size = self.size + self.waiting.shape[1]
        if self.cache is None or size > self.cache.layers[0].buffer.shape[3]:
            self._grow(size)
        mask = torch.ones(1, size, dtype=torch.bool, device=self.waiting.device)
        self.size = size
        return self.model.states(self.waiting, mask, self.cache)

    def _grow(self, size: int) -> None:
        """A memory of enough positions, with what the old one holds.

        Raises:
            ValueError: the model has not so many positions.
        """
        self.model.check_room(size, 0)
        larger = self.model.cache(1, min(size + GROWTH, self.model.config.max_length))
        if self.cache is not None:
            for new, old in zip(larger.layers, self.cache.layers, strict=True):
                new.append(*old.stored())
        self.cache = larger


def speak_pieces(stream: TextStream, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """Speech tokens Long (1,) of text ids Long (n,) as they come."""
    for piece in pieces:
        yield from stream.push(piece)
    yield from stream.finish()


def without_long_silence(tokens: Iterable[Tensor], silent: Iterable[int], most: int = 5) -> Iterator[Tensor]:
    """Tokens Long (1,) without those silent ones that follow ``most`` others."""
    known, run = frozenset(silent), 0
    for token in tokens:
        run = run + 1 if int(token) in known else 0
        if run <= most:
            yield token
