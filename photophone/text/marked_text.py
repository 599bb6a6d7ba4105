"""One text of a script for the rules of written forms: what they must not touch stands in it as signs that no text has.

A word of known pronunciation, and a place where the manner changes or speech stops, is two Yi syllables: letters to
every rule, part of no word that a rule knows, and refused in texts, see
:func:`photophone.text.speech_text.unknown_letters`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from photophone.text.ipa import read_ipa
from photophone.text.lexicon import Lexicon
from photophone.text.script import Manner, Script, Stop

_WORDS, _EVENTS, _SECOND = 0xA000, 0xA400, 0xA200
_HIGH, _LOW = 512, 512
WORD = re.compile("[\ua000-\ua1ff][\ua200-\ua3ff]")
EVENT = re.compile(r"\s*([\ua400-\ua43f][\ua200-\ua3ff])\s*")
MOST_WORDS, MOST_EVENTS = _HIGH * _LOW, 64 * _LOW


@dataclass
class MarkedText:
    """A text with signs, and what they stand for.

    Attributes:
        text: the signs stand in it.
        written: what each sign of a word stands for.
        phonemes: of each sign of a word.
        events: a stop, or the manner of what follows, of each other sign.
        signs: of the words.
    """

    text: str = ""
    written: dict[str, str] = field(default_factory=dict)
    phonemes: dict[str, str] = field(default_factory=dict)
    events: dict[str, Stop | Manner] = field(default_factory=dict)
    signs: dict[tuple[str, str], str] = field(default_factory=dict)

    def word(self, written: str, phonemes: str) -> str:
        """The sign of a word, between spaces.

        Raises:
            ValueError: a text has too many of them.
        """
        sign = self.signs.get((written, phonemes))
        if sign is None:
            sign = self.signs[written, phonemes] = _sign(_WORDS, len(self.signs), MOST_WORDS)
            self.written[sign], self.phonemes[sign] = written, phonemes
        return f" {sign} "

    def event(self, event: Stop | Manner) -> str:
        """The sign of a stop, or of a change of manner.

        Raises:
            ValueError: a text has too many of them.
        """
        sign = _sign(_EVENTS, len(self.events), MOST_EVENTS)
        self.events[sign] = event
        return f" {sign} "

    def restore(self, text: str) -> str:
        """A part of the text as it was written."""
        return WORD.sub(lambda match: self.written[match.group()], text) if self.written else text

    def apart(self, text: str) -> str:
        """With a space behind each sign of a word: the reader's tokenizer does not know where such a word ends."""
        return WORD.sub(r"\g<0> ", text) if self.written else text

    def parts(self, sentence: str) -> Iterator[str | Stop | Manner]:
        """What stands between stops and changes of manner, and these, in order."""
        if not self.events:
            yield sentence
            return
        for index, part in enumerate(EVENT.split(sentence)):
            if index % 2:
                yield self.events[part]
            elif part.strip():
                yield part.strip()


def mark_script(script: Script, lexicon: Lexicon) -> MarkedText:
    """A script as one text.

    Raises:
        ValueError: phonemes that cannot be read, or too many signs.
    """
    made, manner, parts = MarkedText(), Manner(), []
    for item in script.items:
        if isinstance(item, Stop):
            sign = made.event(item)
            parts.append(f"\n\n{sign}\n\n" if item.ends == "paragraph" else sign)
            continue
        if item.manner != manner:
            manner = item.manner
            parts.append(made.event(manner))
        parts.append(mark_words(made, item.text, lexicon) if item.phonemes is None
                     else made.word(item.text, read_ipa(item.phonemes)))
    made.text = join_signs("".join(parts))
    return made


def mark_words(made: MarkedText, text: str, lexicon: Lexicon) -> str:
    """A text with signs for the words of a lexicon."""
    return join_signs(lexicon.replace(text, made.word)) if lexicon.given else text


def join_signs(text: str) -> str:
    """Without the spaces that signs brought before punctuation, and without hyphens at their sides."""
    text = re.sub(f"({WORD.pattern}) +(?=[,.;:!?)\\]}}\"'])", r"\1", text)
    return re.sub(f"-(?: ({WORD.pattern}))|({WORD.pattern}) -(?=\\w)", lambda match: f" {match[1] or match[2]} ", text)


def _sign(first: int, index: int, most: int) -> str:
    if index >= most:
        raise ValueError(f"the text has over {most} pronunciations, pauses or changes of manner; split it")
    return chr(first + index // _LOW) + chr(_SECOND + index % _LOW)
