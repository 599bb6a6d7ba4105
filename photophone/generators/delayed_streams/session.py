"""Step by step through delayed streams: a frame of the listener in, a frame of text and speech out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from photophone.core.noise import Noise
from photophone.generators.delayed_streams.conditioners import StreamConditions
from photophone.generators.delayed_streams.layers import KeysValues
from photophone.generators.delayed_streams.model import UNKNOWN, ZERO, DelayedStreams
from photophone.layers.streaming import streaming


def draw_code(logits: Tensor, temperature: float, top_k: int, noise: Noise | None) -> Tensor:
    """Codes Long (B,) of logits (B, V); without noise or at temperature 0 the likeliest."""
    logits = logits.float()
    if noise is None or temperature == 0:
        return logits.argmax(dim=-1)
    chances = torch.softmax(logits / temperature, dim=-1)
    chances, codes = chances.topk(min(top_k or chances.shape[-1], chances.shape[-1]), dim=-1)
    place = (chances / noise.exponential(*chances.shape).to(chances)).argmax(dim=-1, keepdim=True)
    return codes.gather(-1, place)[:, 0]


class StreamSession:
    """One stream of B rows through a model; use within :meth:`open`.

    Args:
        model: in eval mode.
        rows: B.
        conditions: of the model, B rows, or 2 B with guidance: those without conditions behind.
        noise: B rows; None takes the likeliest codes.
        temperature, text_temperature, top_k, text_top_k: of the draws of codes and of text.
        guidance: strength, 1 for none.
        without_text: rows without conditions see no text, and the text is not guided.
        hidden_until: Long (B,) or a list: rows without conditions see nothing of their own up to this frame and the
            delay of a row of codes.
        spoken_books: codebooks to speak; None: all that the model speaks.
        on_text_logits, on_text, on_codes: called with logits (B, V), text Long (B,) and codes Long (B, Q) as they are
            made, which they may change in place.
    """

    def __init__(self, model: DelayedStreams, rows: int, conditions: StreamConditions | None = None, *,
                 noise: Noise | None = None, temperature: float = 0.8, text_temperature: float = 0.7,
                 top_k: int = 250, text_top_k: int = 25, guidance: float = 1.0, without_text: bool = False,
                 hidden_until: Sequence[int] | Tensor | None = None, spoken_books: int | None = None,
                 on_text_logits: Callable[[Tensor], None] | None = None,
                 on_text: Callable[[Tensor], None] | None = None,
                 on_codes: Callable[[Tensor], None] | None = None) -> None:
        self.model, self.rows, self.noise = model, rows, noise
        self.conditions = conditions or StreamConditions()
        self.temperature, self.text_temperature = temperature, text_temperature
        self.top_k, self.text_top_k = top_k, text_top_k
        self.guidance, self.without_text = guidance, without_text
        self.hidden_until = None if hidden_until is None else \
            torch.as_tensor(hidden_until, device=model.device)[:, None]
        self.spoken_books = model.spoken_books if spoken_books is None else spoken_books
        self.on_text_logits, self.on_text, self.on_codes = on_text_logits, on_text, on_codes
        self.delays = torch.tensor(model.delays, device=model.device)
        self.most = max(model.delays)
        self.ring = torch.full((rows, len(model.delays), self.most + 2), UNKNOWN, device=model.device)
        self.offset = 0
        self.states = torch.empty(0)
        self._cross: list[KeysValues | None] = []

    @contextmanager
    def open(self) -> Iterator[StreamSession]:
        """The model remembers the stream until the context ends."""
        self._cross = self.model.cross_keys(self.conditions)
        with streaming(self.model, self.rows * (2 if self.guidance != 1 else 1)):
            yield self

    @torch.no_grad()
    def step(self, heard: Tensor | None = None, spoken: Tensor | None = None) -> Tensor | None:
        """One frame.

        Args:
            heard: Long (B, Q'), codes of the listener, for models that have one.
            spoken: Long (B, Q), codes to take instead of drawing them.

        Returns:
            Text and spoken codes Long (B, 1 + Q) of the frame whose last code this step made; None for the first steps,
            as many as the longest delay.

        Raises:
            ValueError: codes of another number of codebooks than the model hears.
        """
        own, size = self.spoken_books, self.ring.shape[-1]
        wanted = self.ring.shape[1] - 1 - own
        if wanted and (heard is None or heard.shape != (self.rows, wanted)):
            raise ValueError(f"a step hears codes ({self.rows}, {wanted}), got "
                             f"{'none' if heard is None else tuple(heard.shape)}")
        rows = torch.arange(self.ring.shape[1], device=self.ring.device)
        if wanted:
            self.ring[:, rows[own + 1:], (self.offset + self.delays[own + 1:]) % size] = heard
        early = (self.offset <= self.delays)[None].expand(self.rows, -1)
        codes = torch.where(early, self.model.start_codes()[..., 0], self.ring[..., self.offset % size])
        self.states = self.model.states(self._guided(codes, early)[..., None], self.conditions.total,
                                        self._cross)[:, 0]
        text = self._draw_text()
        self.offset += 1
        place = self.offset % size
        self.ring[:, 0, place] = text
        if own:
            self.ring[:, 1:own + 1, place] = codes = self._speak(text) if spoken is None else spoken.clone()
            if self.on_codes is not None:
                self.on_codes(codes)
                self.ring[:, 1:own + 1, place] = codes
        if self.offset <= self.most:
            return None
        return self.ring[:, rows[:own + 1], (self.offset - self.most + self.delays[:own + 1]) % size]

    def heads(self) -> Tensor:
        """Chances (heads, B, D) of the further heads at the last frame."""
        return torch.stack([head(self.states).softmax(dim=-1) for head in self.model.extra_heads])

    def _guided(self, codes: Tensor, early: Tensor) -> Tensor:
        """Codes (B, K), and with guidance those of rows without conditions behind."""
        if self.guidance == 1:
            return codes
        null = codes
        if self.hidden_until is not None:
            null = torch.where((self.offset <= self.delays + self.hidden_until) & ~early, ZERO, null)
        if self.without_text:
            null = torch.cat([torch.where(early[:, :1], null[:, :1], ZERO), null[:, 1:]], dim=1)
        return torch.cat([codes, null])

    def _combine(self, logits: Tensor) -> Tensor:
        if self.guidance == 1:
            return logits
        logits, null = logits.chunk(2)
        return null + (logits - null) * self.guidance

    def _draw_text(self) -> Tensor:
        logits = self.model.text_linear(self.states)
        logits = logits[:self.rows] if self.without_text else self._combine(logits)
        if self.on_text_logits is not None:
            self.on_text_logits(logits)
        text = draw_code(logits, self.text_temperature, self.text_top_k, self.noise)
        if self.on_text is not None:
            self.on_text(text)
        return text

    def _speak(self, text: Tensor) -> Tensor:
        """Codes Long (B, Q) of the next frame."""
        past: list[KeysValues | None] = [None] * len(self.model.depth_blocks)
        before, made = text, []
        for book in range(self.spoken_books):
            both = before.repeat(2) if self.guidance != 1 else before
            logits = self._combine(self.model.depth_logits(book, self.states, both, past))
            before = draw_code(logits, self.temperature, self.top_k, self.noise)
            made.append(before)
        return torch.stack(made, dim=1)
