"""Text to speech with delayed streams: words are fed as the model asks for them, speech follows some frames later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import Tensor

from photophone.core.noise import Noise
from photophone.generators.delayed_streams.conditioners import Attributes
from photophone.generators.delayed_streams.model import PADDING, ZERO, DelayedStreams
from photophone.generators.delayed_streams.script import Reading, Word, WordMachine
from photophone.generators.delayed_streams.session import StreamSession


@dataclass
class Speaking:
    """One run over B texts.

    Args:
        model: of text to speech.
        machine: of the model.
        delay: frames by which speech follows the text.
        spoken_books: codebooks to speak; None: all.
        temperature: of text and speech; 0 takes the likeliest.
        guidance: strength, 1 for none: as models are that were distilled with it.
        final_padding: frames after the last word.
        max_frames: at most, speech that has not ended by then is cut; None: it ends with its words.
        padding_bonus: added to the logit of pauses; more makes speech slower.
        keeps_said: whether ``said`` is kept, which grows with the speech.

    Attributes:
        readings: of each row.
        said: pairs of what the model predicted and what it was fed, of each row.
    """

    model: DelayedStreams
    machine: WordMachine
    delay: int = 16
    spoken_books: int | None = None
    temperature: float = 0.6
    guidance: float = 1.0
    final_padding: int = 4
    max_frames: int | None = 30_000
    padding_bonus: float = 0.0
    keeps_said: bool = True
    readings: list[Reading] = field(default_factory=list)
    said: list[list[tuple[int, int]]] = field(default_factory=list)

    def frames(self, texts: Sequence[Sequence[Word]], conditions: Sequence[Attributes], noise: Noise | None = None,
               prefixes: Sequence[Tensor] | None = None) -> Iterator[Tensor]:
        """Text and codes Long (B, 1 + Q) of frames, those before the speech begins included.

        Args:
            texts: words of each row.
            conditions: of each row.
            noise: B rows; None takes the likeliest.
            prefixes: codes Long (Q, P) of what was said before the text of each row, without its words; they come
                first. With guidance, rows without conditions do not see them.
        """
        rows, heard = len(texts), [0 if prefixes is None else prefixes[row].shape[1] for row in range(len(texts))]
        self.readings = [self.machine.begin(words) for words in texts]
        self.said = [[] for _ in texts]
        step = 0

        def on_text(text: Tensor) -> None:
            fed = [ZERO if step < count else self.machine.feed(step, reading, token)[0]
                   for reading, token, count in zip(self.readings, text.tolist(), heard, strict=True)]
            for row, pair in enumerate(zip(text.tolist(), fed) if self.keeps_said else ()):
                self.said[row].append(pair)
            text.copy_(torch.tensor(fed))

        def on_text_logits(logits: Tensor) -> None:
            logits[:, PADDING] += self.padding_bonus

        def on_codes(codes: Tensor) -> None:
            begins = session.delays[1:1 + codes.shape[1]] + self.delay
            codes.masked_fill_(step < begins, ZERO)
            for row, prefix in enumerate(prefixes or ()):
                known = (step >= begins) & (step < begins + heard[row])
                books = known.nonzero()[:, 0]
                codes[row, books] = prefix.to(codes)[books, step - begins[books]]

        with torch.no_grad():
            made = self.model.conditioners.conditions(conditions, with_null=self.guidance != 1)
        session = StreamSession(self.model, rows, made, noise=noise, temperature=self.temperature,
                                text_temperature=self.temperature, guidance=self.guidance,
                                without_text=self.guidance != 1, spoken_books=self.spoken_books,
                                hidden_until=None if prefixes is None else [count + self.delay for count in heard],
                                on_text_logits=on_text_logits, on_text=on_text, on_codes=on_codes)
        silence = torch.full((rows, session.spoken_books), ZERO, device=self.model.device)
        unheard = torch.full((rows, self.model.config.books - session.spoken_books), ZERO, device=self.model.device)
        with session.open():
            for step in count() if self.max_frames is None else range(self.max_frames):
                if self.ended(step):
                    return
                frame = session.step(unheard, silence if step < self.delay else None)
                if frame is not None:
                    yield frame

    def ended(self, step: int) -> bool:
        """Whether all rows have been spoken to their ends at a step."""
        ends = [reading.end for reading in self.readings]
        return None not in ends and step >= max(ends) + self.delay + self.final_padding
