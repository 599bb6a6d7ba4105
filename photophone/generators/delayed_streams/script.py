"""What is to be said, word by word, and the machine that feeds it to a model that asks for words."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

NEW_WORD, MAIN, OTHER, PAD = 0, 1, 2, 3
"""Text ids: the next word begins; the main and the other speaker begin; nothing is said."""


@dataclass(frozen=True)
class Word:
    """One word to say, or a break.

    Args:
        tokens: its text ids; none for a break.
        text: the word.
        padding: frames after it in which no other word may begin.
    """

    tokens: tuple[int, ...]
    text: str
    padding: int = 0


@dataclass
class Reading:
    """How far a text has been said.

    Attributes:
        words: that are still to come.
        may_pad: frames that the model may still pause.
        must_pad: frames that it still has to.
        queued: ids of the word that is being said.
        ahead: ids of a later word, for models that read ahead.
        end: the frame at which the model asked for a word when there was none left.
        begun: frames at which words and breaks began.
        transcript: words and the frames at which they began.
    """

    words: deque[Word]
    may_pad: int
    must_pad: int
    queued: deque[int] = field(default_factory=deque)
    ahead: deque[int] = field(default_factory=deque)
    end: int | None = None
    begun: list[int] = field(default_factory=list)
    transcript: list[tuple[str, int]] = field(default_factory=list)

    def tokens_ahead(self, count: int) -> tuple[int, ...]:
        """Ids of the word that follows ``count`` - 1 others, or none."""
        spoken = (word.tokens for word in self.words if word.tokens)
        return next(islice(spoken, count - 1, None), ())


@dataclass(frozen=True)
class WordMachine:
    """Turns what a model says of a text, "a word begins" or "nothing", into the ids that it is fed.

    Args:
        text_codes: rows of the model's text table: what the ids of two texts are packed with.
        words_ahead: the second text holds the ids of the word so far ahead; 0: there is no second text.
        max_padding: frames that a model may pause after a word.
        initial_padding: frames before the first word.
    """

    text_codes: int
    words_ahead: int = 0
    max_padding: int = 6
    initial_padding: int = 2

    def begin(self, words: Sequence[Word]) -> Reading:
        """The reading of a text, at its beginning."""
        return Reading(deque(words), self.initial_padding, self.initial_padding)

    def feed(self, step: int, reading: Reading, token: int) -> tuple[int, bool]:
        """The text code of a frame.

        Args:
            step: of the frame.
            reading: of the row, which moves on.
            token: what the model predicted.

        Returns:
            The code, and whether a word or break began.
        """
        begun = False
        asks = token == NEW_WORD
        if reading.queued or reading.must_pad > 0:
            asks = False
        elif reading.may_pad <= 0:
            asks = True
        if asks:
            asks, begun = self._next_word(step, reading)
        if asks:
            output = NEW_WORD
        else:
            reading.may_pad = max(reading.may_pad - 1, 0)
            reading.must_pad = max(reading.must_pad - 1, 0)
            output = reading.queued.popleft() if reading.queued else PAD
        return (self._with_second(reading, output) if self.words_ahead else output), begun

    def _next_word(self, step: int, reading: Reading) -> tuple[bool, bool]:
        """Whether the model is told that a word begins, and whether a word or break did."""
        if not reading.words:
            tells = bool(self.words_ahead) and reading.end is None
            reading.end = step if reading.end is None else reading.end
            return tells, False
        word = reading.words.popleft()
        reading.begun.append(step)
        reading.must_pad = word.padding
        if not word.tokens:
            return False, True
        reading.transcript.append((word.text, step))
        reading.queued.extend(word.tokens)
        if self.words_ahead:
            reading.ahead.extend(reading.tokens_ahead(self.words_ahead))
        reading.may_pad = self.max_padding
        return True, True

    def _with_second(self, reading: Reading, output: int) -> int:
        """The code of both texts. The second says that a word begins, so that its first id comes at once."""
        second = -1
        if output == NEW_WORD:
            second = NEW_WORD
            output = reading.queued.popleft() if reading.queued else PAD
        elif reading.ahead:
            second = reading.ahead.popleft()
        return (second + 1) * self.text_codes + output
