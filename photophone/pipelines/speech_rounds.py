"""Many texts spoken at a time: sentences of different texts share the steps of the generator.

A text is taken in, or let go, between two rounds. A round takes the next sentences of the texts that have waited
longest and share one sampler, generates them together, and decodes each as the next part of its own text. What a text
gets does not depend on the others: sentences have their own seeds, rows of a batch do not see each other, and the codec
remembers the past of every text apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from photophone.core.noise import SeededNoise
from photophone.core.tokens import Tokens
from photophone.generators.sampler import Sampler
from photophone.layers.streaming import StreamMemory
from photophone.pipelines.language_fronts import Made, PieceFront
from photophone.pipelines.speech_pieces import PAUSE, Piece, Row, SpeechCall, count_of
from photophone.pipelines.text_sound import TextSound, in_steps
from photophone.pipelines.text_to_speech import PIECES_AT_ONCE, GivenVoice, TextToSpeechPipeline
from photophone.text.lexicon import Pronunciations

MOST_AT_ONCE = 16
"""Sentences of a round."""
FIRST_PATCHES = 2
"""Of a streamed text, in its first chunk; each further chunk of a sentence has ``GROWTH`` times as many as came before,
up to the limit: speech is made faster than it is heard, and few long parts are decoded faster than many short ones."""
GROWTH = 4
MOST_PATCHES = 32


@dataclass(eq=False)
class Utterance:
    """A text that is being spoken.

    Attributes:
        call: what is asked for.
        pieces: sentences that wait.
        sound: decodes their tokens, within ``memory``; None where pieces become sound on their own.
        memory: of the codec.
        is_streamed: chunks come while a sentence is made; else when it is complete.
        tokens: how many became sound.
    """

    call: SpeechCall
    pieces: deque[Piece]
    sound: TextSound | None
    memory: StreamMemory | None
    is_streamed: bool
    tokens: int = 0

    @property
    def row(self) -> Row:
        """What its sentences share: their times and faults."""
        return self.call.rows[0][0].row

    @property
    def faults(self) -> list[str]:
        """What went wrong so far, in words."""
        return self.row.faults

    @property
    def sampler(self) -> Sampler:
        """Of all its sentences."""
        return self.call.sampler

    @property
    def is_done(self) -> bool:
        """Whether nothing of it waits any more."""
        return not self.pieces


@dataclass(eq=False)
class _Row:
    """A sentence of a round: its tokens so far (1, n, ...) in parts, and how many parts became sound."""

    utterance: Utterance
    piece: Piece
    made: list[Tensor]
    spoken: int = 0


class SpeechRounds:
    """Speaks many texts at a time with one pipeline, which nothing else may use meanwhile.

    Args:
        pipeline: of speech, in eval mode.
        most: sentences of a round.
    """

    def __init__(self, pipeline: TextToSpeechPipeline, most: int = MOST_AT_ONCE) -> None:
        self.pipeline = pipeline
        self.most = most
        self.active: list[Utterance] = []

    @torch.no_grad()
    def join(self, text: str, *, generator: torch.Generator, is_streamed: bool = False, speed: float = 1.0,
             pause: float = 0.15, voice: GivenVoice = None, instruction: str | None = None,
             normalize: bool | None = None, pronounce: Pronunciations | None = None, markup: bool | None = None,
             **options: Any) -> Utterance:
        """Take in a text; the next rounds speak it.

        Args:
            text, generator, speed, pause, voice, instruction, normalize, pronounce, markup, options: see
                :meth:`photophone.TextToSpeechPipeline.stream`.
            is_streamed: give chunks while a sentence is made.

        Raises:
            ValueError: what :meth:`photophone.TextToSpeechPipeline.stream` refuses.
        """
        pipeline = self.pipeline
        call = pipeline.call_of([text], generator, voice, instruction, normalize, pronounce, markup, speed, pause,
                                **options)
        sound = memory = None
        if not isinstance(pipeline.front, PieceFront):
            memory = StreamMemory(pipeline.codec, 1)
            with memory.resume():
                sound = TextSound(pipeline, call)
        utterance = Utterance(call, deque(call.rows[0]), sound, memory, is_streamed)
        self.active.append(utterance)
        return utterance

    def leave(self, utterance: Utterance) -> None:
        """Forget a text; nothing happens when it is complete."""
        if utterance in self.active:
            self.active.remove(utterance)

    @torch.no_grad()
    def step(self) -> Iterator[tuple[Utterance, np.ndarray]]:
        """One round: float32 (T,) of the texts that it speaks, each text's in order. All of it is to be taken; texts
        that are complete afterwards leave."""
        rows = self._next()
        if not rows:
            return
        parts = self._sounds(rows) if isinstance(self.pipeline.front, PieceFront) else self._decoded(rows)
        for utterance, audio in parts:
            if len(audio):
                yield utterance, audio.float().cpu().numpy()
        for utterance in {id(row.utterance): row.utterance for row in rows}.values():
            if utterance.is_done:
                utterance.row.close()
        self.active = [utterance for utterance in self.active if not utterance.is_done]

    def _next(self) -> list[_Row]:
        """Sentences to make together; their texts go behind those that wait."""
        if not self.active:
            return []
        sampler = self.active[0].sampler
        chosen = [utterance for utterance in self.active if utterance.sampler == sampler][:self.most]
        self.active = [utterance for utterance in self.active if utterance not in chosen] + chosen
        each = min(PIECES_AT_ONCE, max(1, self.most // len(chosen)))
        rows = []
        for utterance in chosen:
            waiting = list(utterance.pieces)[:each]
            for piece in self.pipeline.group(waiting):
                rows.append(_Row(utterance, piece, []))
                utterance.pieces.popleft()
        return rows

    def _decoded(self, rows: list[_Row]) -> Iterator[tuple[Utterance, Tensor]]:
        """Speech of sentences whose tokens the codec decodes, those of one text in order."""
        pipeline = self.pipeline
        condition = pipeline.condition_of([row.piece for row in rows], rows[0].utterance.sampler)
        options = {"noise": SeededNoise.from_seeds([row.piece.seed for row in rows], pipeline.speech_generator.device),
                   "sampler": rows[0].utterance.sampler}
        live = [row for index, row in enumerate(rows) if row.utterance.is_streamed and (
            index == 0 or rows[index - 1].utterance is not row.utterance)]  # the next sentence of each streamed text
        if not live:
            _keep(rows, pipeline.speech_generator.generate(condition, **options))
        else:
            due = FIRST_PATCHES
            for count, tokens in enumerate(pipeline.speech_generator.stream(condition, **options), 1):
                _keep(rows, tokens)
                if count == due:
                    due += min(GROWTH * count, MOST_PATCHES)
                    for row in live:
                        yield from self._speak(row)
        for index, row in enumerate(rows):
            yield from self._speak(row, is_complete=True)
            pipeline.end_piece(row.piece, condition, index, row.made)

    def _speak(self, row: _Row, is_complete: bool = False) -> Iterator[tuple[Utterance, Tensor]]:
        """What of a sentence is not sound yet, and the silence in front of it and, if it is complete, behind it."""
        utterance, piece, parts = row.utterance, row.piece, []
        new = row.made[row.spoken:]
        if new:
            if piece.before and not row.spoken:
                parts.append((self.pipeline.silence(piece.before), PAUSE))
            parts.append((torch.cat(new, dim=1 if new[0].is_floating_point() else -1), None if row.spoken else piece))
            row.spoken = len(row.made)
        if is_complete and piece.pause:
            parts.append((self.pipeline.silence(piece.pause), PAUSE))
        for values, opened in parts:
            if isinstance(opened, Piece):
                opened.begin(utterance.tokens, *self.pipeline.clock)
            utterance.tokens += count_of(values)
            for part, first in in_steps([(values, opened)]):
                with utterance.memory.resume():
                    audio = utterance.sound(part, first)
                yield utterance, audio
        if is_complete and piece is utterance.call.rows[0][-1]:
            yield utterance, utterance.sound.finish()

    def _sounds(self, rows: list[_Row]) -> Iterator[tuple[Utterance, Tensor]]:
        """Speech of sentences that become sound on their own."""
        front = self.pipeline.front
        requests, seeds = [row.piece.request for row in rows], [row.piece.seed for row in rows]
        made = [Made(row.utterance.faults) for row in rows]
        written = front.write(requests, seeds, rows[0].utterance.sampler, made)
        for row, request, seed, one, own in zip(rows, requests, seeds, written, made):
            parts = iter([front.sound_of(request, one, seed, own)])
            for audio in self.pipeline.around(row.piece, parts, row.utterance.call):
                yield row.utterance, audio
            row.piece.row.voice = own.voice or row.piece.row.voice


def _keep(rows: list[_Row], tokens: Tokens) -> None:
    """Add to each sentence what a batch of tokens holds of it."""
    axis = 1 if tokens.is_continuous else -1
    for index, (row, count) in enumerate(zip(rows, tokens.mask.sum(dim=1).tolist())):
        if count:
            row.made.append(tokens.values[index:index + 1].narrow(axis, 0, count))
