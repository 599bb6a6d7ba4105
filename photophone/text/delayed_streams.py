"""What a delayed-streams model says, word by word, and what it writes, word by word with times.

Texts are read as the authors' script reads them: kyutai-labs/moshi, MIT.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from photophone.core.limits import MAX_PAUSE_SECONDS
from photophone.text.voxcpm import check_words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NEW_WORD, MAIN_SPEAKER, END, PADDING = 0, 1, 2, 3
"""Text ids: a word begins, the main speaker begins, all is said, nothing is said."""
SPEAKERS = (MAIN_SPEAKER, 2)
"""Ids of the two who speak in turns: of text to speech, where nothing says that all is said."""
BREAK = re.compile(r'<break\s+time="(\d+(?:\.\d*)?)s"\s*/?>')
GAP = re.compile(rf"{BREAK.pattern}|\s+")
MOST_IDS = 100
"""Of one word that is heard; a longer one is cut, so that a model that repeats itself is heard too."""
CHARACTERS = str.maketrans({"’": "'", ":": " ", "(": None, ")": None})
"""Characters that the models do not know, and what stands for them."""


@dataclass(frozen=True)
class ScriptWord:
    """One word to say, or a break.

    Attributes:
        ids: of the word; none for a break.
        text: as it is said.
        padding: frames after it in which no other word may begin.
    """

    ids: tuple[int, ...]
    text: str
    padding: int


def check_script(text: str) -> None:
    """Refuse what has no words, or a break that is too long.

    Raises:
        ValueError: see :func:`photophone.text.voxcpm.check_words`; or a break over ``MAX_PAUSE_SECONDS``.
    """
    check_words(text)
    spoken = BREAK.sub(" ", text)
    check_words(spoken)
    for seconds in BREAK.findall(text):
        if float(seconds) > MAX_PAUSE_SECONDS:
            raise ValueError(f"the text has a break of {seconds} s, the limit is {MAX_PAUSE_SECONDS:g} s; use several "
                             "breaks, or speak the parts one by one")


def script_words(tokenizer: PreTrainedTokenizerBase, text: str, frame_rate: float, *, padding_between: int = 1,
                 speakers: bool = True, turns: bool = False) -> list[ScriptWord]:
    """The words of a text.

    Args:
        tokenizer: of the model.
        text: ``<break time="0.5s"/>`` in it is a pause.
        frame_rate: frames a second.
        padding_between: frames that are forced between words, beside those of a word's ids; 0: none are forced.
        speakers: the model knows several: where another one begins, the first word says which.
        turns: two speak in turns, a line each; blank lines count as nothing. Otherwise all is said by the main speaker.

    Raises:
        ValueError: see :func:`check_script`.
    """
    check_script(text)
    lines = [line for line in text.splitlines() if line.strip()] if turns else [text]
    words: list[ScriptWord] = []
    last = None
    for number, line in enumerate(lines):
        speaker = SPEAKERS[number % 2]
        begins = speaker if speakers and speaker != last else None
        made = _line_words(tokenizer, line, frame_rate, padding_between, begins)
        last = speaker if any(word.ids for word in made) else last
        words += made
    return words


def _line_words(tokenizer: PreTrainedTokenizerBase, line: str, frame_rate: float, padding_between: int,
                speaker: int | None) -> list[ScriptWord]:
    """The words of a line, the first with the id of who speaks, if there is one."""
    words: list[ScriptWord] = []
    line, place = line.translate(CHARACTERS), 0
    while place < len(line):
        gap = GAP.search(line, place)
        end, behind = (len(line), len(line)) if gap is None else gap.span()
        if end > place:
            ids = list(tokenizer(line[place:end], add_special_tokens=False)["input_ids"])
            if speaker is not None:
                ids, speaker = [speaker, *ids], None
            padding = max(0, padding_between + len(ids) - 1) if padding_between > 0 else 0
            words.append(ScriptWord(tuple(ids), line[place:end], padding))
        if gap is not None and gap[1] is not None:
            words.append(ScriptWord((), "", round(float(gap[1]) * frame_rate)))
        place = behind
    return words


@dataclass(frozen=True)
class TimedWord:
    """A word of a recording.

    Attributes:
        text: the word.
        start, end: in seconds from the begin of the recording.
    """

    text: str
    start: float
    end: float


@dataclass
class WordTimer:
    """Turns text ids, one a frame, into words with times as soon as both are known.

    A word lasts until the next one begins, or a second where a pause follows. Where several words come without a sign
    between them, each but the last gets a frame for each of its ids, as the authors' script does it.

    Args:
        decode: ids to text.
        count: ids that a word has.
        frame_rate: frames a second.
        late: seconds by which the ids follow the sound, and of silence in front of it.
        seconds: of the recording, beyond which no word lasts; None while it is not known.
    """

    decode: Callable[[list[int]], str]
    count: Callable[[str], int]
    frame_rate: float
    late: float
    seconds: float | None = None
    frame: int = 0
    start: int | None = None
    ids: list[int] = field(default_factory=list)

    def feed(self, token: int) -> list[TimedWord]:
        """Words that are known with the id of one more frame."""
        made: list[TimedWord] = []
        if token in (NEW_WORD, END):
            made = self._close(self.frame)
            self.start = self.frame + 1 if token == NEW_WORD else None
        elif token > PADDING:
            made = self._begin(token) if self.ids else []
            self.start = self.frame if self.start is None else self.start
            self.ids.append(token)
        elif self.ids and self.frame + 1 >= self.start + self.frame_rate:
            made = self._close(max(self.start + self.frame_rate, self.frame))
        self.frame += 1
        return made

    def _begin(self, token: int) -> list[TimedWord]:
        """The word so far, where an id begins the next one without a sign between them."""
        if len(self.decode([*self.ids, token]).split()) <= 1 and len(self.ids) < MOST_IDS:
            return []
        behind = min(self.start + self.count(self.decode(self.ids)), self.frame)
        made = self._close(behind)
        self.start = behind
        return made

    def finish(self) -> list[TimedWord]:
        """Words that are known with the end of the recording."""
        if self.start is None:
            return []
        return self._close(min(self.frame, self.start + self.frame_rate))

    def _close(self, end: float) -> list[TimedWord]:
        """Words of the ids so far, which end at a frame."""
        word, start = self.decode(self.ids).strip(), self.start
        self.ids, self.start = [], None
        return [TimedWord(word, self._seconds(start), self._seconds(max(start, end)))] if word else []

    def _seconds(self, frame: float) -> float:
        time = max(0.0, frame / self.frame_rate - self.late)
        return round(time if self.seconds is None else min(time, self.seconds), 3)
