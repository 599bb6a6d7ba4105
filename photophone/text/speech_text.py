"""Text to be read aloud: what is refused, sentences, and pieces of phonemes that a generator speaks one by one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from photophone.core.limits import MAX_TEXT_CHARACTERS
from photophone.text.captions import check_characters, shorten
from photophone.text.forms.characters import plain_characters
from photophone.text.forms.tables import GREEK
from photophone.text.forms.words import STARTERS
from photophone.text.lexicon import Lexicon
from photophone.text.marked_text import MarkedText, mark_script, mark_words
from photophone.text.phonemes import Reading, encode_phonemes, join_readings, read_words
from photophone.text.script import Directed, Manner, Script, Stop, direct
from photophone.text.spoken_words import NO_SOUND, PlacedWord, place_words
from photophone.text.written_forms import read_written

MAX_PIECE_PHONEMES = 120
"""Of one piece: as long as the sentences that the built-in voice was trained on."""

_LETTERS = ("Lu", "Ll", "Lt", "Lo")
_KNOWN = ("LATIN", "SUPERSCRIPT", "SUBSCRIPT", "MASCULINE", "FEMININE", "MICRO", "DIGIT", "FULLWIDTH")
_END = re.compile(r"[.!?]+(?=\s+\S)")
_PUNCTUATION = " ,.;:!?\"'-"
_CONJUNCTION = re.compile(r" (?=(?:and|but|or|because|which|who|that|when|while|where|if|so|then|with|for|to|of|in|on)"
                          r"\b)")


@dataclass(frozen=True)
class SpeechPiece:
    """A part of a text that is spoken in one go.

    Attributes:
        text: the words as they are read.
        phonemes: in the alphabet of :mod:`photophone.text.phonemes`, 1 to MAX_PIECE_PHONEMES of them.
        ends: what ends with this piece: "clause", "sentence" or "paragraph".
        words: where the words stand in the phonemes.
    """

    text: str
    phonemes: str
    ends: str
    words: tuple[PlacedWord, ...] = ()


def check_text(text: str) -> None:
    """Refuse what cannot be read aloud as English.

    Raises:
        ValueError: not a string, empty, too long, without a letter or digit, with letters of another script, or see
            :func:`photophone.text.captions.check_characters`.
    """
    if not isinstance(text, str):
        raise ValueError(f"the text must be a string, got {type(text).__name__}")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"the text has {len(text)} characters, the limit is {MAX_TEXT_CHARACTERS}; split it")
    if not text.strip():
        raise ValueError(f"the text is empty ({shorten(text, 30)!r}); give words to say")
    check_characters(text)
    unknown = unknown_letters(text)
    if unknown:
        raise ValueError(f"the text {shorten(text, 30)!r} has letters that cannot be read as English: "
                         f"{', '.join(unknown)}; write them in Latin letters")
    if not any(character.isalnum() or not character.isascii() and unicodedata.category(character)[0] == "S"
               for character in text):
        raise ValueError(f"the text {shorten(text, 30)!r} has only punctuation; give words to say")


def unknown_letters(text: str, most: int = 10) -> list[str]:
    """Up to ``most`` letters of other scripts with their names; one or two Greek letters together are read."""
    found: dict[str, None] = {}
    for word in re.findall(r"[^\W_]+", plain_characters(text)):
        greek = sum(character in GREEK for character in word)
        for character in word:
            name = unicodedata.name(character, "")
            foreign = unicodedata.category(character) in _LETTERS and not name.startswith(_KNOWN)
            if foreign and not (greek <= 2 and character in GREEK):
                found[f"{character} ({name.lower() or f'U+{ord(character):04X}'})"] = None
    return list(found)[:most]


def split_sentences(text: str) -> Iterator[tuple[str, str]]:
    """Sentences of a text with what ends with each: "sentence" or "paragraph".

    A full stop after an initial or before a small letter ends no sentence; a line break with an empty line, or after
    an end of a sentence, ends a paragraph.

    Args:
        text: of :func:`photophone.text.written_forms.rewrite`, in which only ends of sentences have full stops.
    """
    for paragraph in re.split(r"\n[ \t]*\n+|(?<=[.!?:])\s*\n", text):
        line = " ".join(paragraph.split())
        start = 0
        for match in _END.finditer(line):
            if _ends_sentence(line, match):
                yield line[start:match.end()].strip(), "sentence"
                start = match.end()
        if line[start:].strip():
            yield line[start:].strip(), "paragraph"


def _ends_sentence(line: str, match: re.Match) -> bool:
    behind = line[match.end():].lstrip()
    if behind[:1].islower() and not _NUMBER_WORD.match(behind):
        return False
    if match.group() != ".":
        return True
    if behind.split(maxsplit=1)[0].rstrip(",.!?") in STARTERS:
        return True
    word = re.split(r"[\s(\"']", line[:match.start()])[-1]
    return not (len(word) == 1 and word.isupper() and word != "I" or re.fullmatch(r"(?:[A-Za-z]\.)+[A-Za-z]", word))


_NUMBER_WORD = re.compile(r"(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|"
                          r"fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|"
                          r"ninety|minus)\b")
"""What a sentence that was written with digits begins with."""


def speech_pieces(text: str, limit: int = MAX_PIECE_PHONEMES, british: bool = False) -> Iterator[SpeechPiece]:
    """What is spoken of a text, piece by piece, made as it is asked for.

    Sentences over ``limit`` phonemes are split at the punctuation of clauses, else between words.

    Args:
        text: English.
        limit: phonemes of a piece.
        british: see :func:`photophone.text.phonemes.phonemize`.

    Raises:
        ValueError: see :func:`check_text`; or nothing in the text can be read.
    """
    check_text(text)
    return _speech_pieces(text, limit, british)


def _speech_pieces(text: str, limit: int, british: bool) -> Iterator[SpeechPiece]:
    for item in direct(marked_pieces(MarkedText(text), limit, british=british)):
        yield item.piece


def script_pieces(script: Script, lexicon: Lexicon, limit: int = MAX_PIECE_PHONEMES,
                  british: bool = False) -> list[Directed]:
    """What is spoken of a script, piece by piece.

    Args:
        script: of a text that :func:`check_text` accepts.
        lexicon: pronunciations of words, both as they are written and as they are read.
        limit: phonemes of a piece.
        british: see :func:`photophone.text.phonemes.phonemize`.

    Raises:
        ValueError: nothing can be read; or see :func:`photophone.text.marked_text.mark_script`.
    """
    return list(direct(marked_pieces(mark_script(script, lexicon), limit, lexicon, british)))


def marked_pieces(marked: MarkedText, limit: int, lexicon: Lexicon | None = None,
                  british: bool = False) -> Iterator[Directed | Stop]:
    """Pieces of a marked text and the stops between them, made as they are asked for.

    Raises:
        ValueError: nothing in the text can be read.
    """
    spoken, manner = False, Manner()
    words = read_written(marked.text).text
    if lexicon is not None:
        words = mark_words(marked, words, lexicon)
    for sentence, ends in split_sentences(words):
        for part in marked.parts(sentence):
            if isinstance(part, Manner):
                manner = part
            elif isinstance(part, Stop):
                yield part
            else:
                for piece in _sentence_pieces(part, limit, marked, british):
                    spoken = True
                    yield Directed(piece, manner)
        yield Stop(ends)
    if not spoken:
        raise ValueError(f"nothing in the text {shorten(marked.restore(marked.text), 30)!r} can be read; give words to "
                         "say")


def _sentence_pieces(sentence: str, limit: int, marked: MarkedText, british: bool) -> Iterator[SpeechPiece]:
    """A sentence in pieces of at most ``limit`` phonemes, each of which ends a clause."""
    if len(sentence) <= 2 * limit or " " not in sentence:  # else it cannot fit: do not read all of it only to see that
        readings = read_words(marked.apart(sentence), marked.phonemes, british)
        phonemes = tidy_phonemes(join_readings(readings))
        if len(phonemes) <= limit:
            if any(map(str.isalpha, phonemes)):
                yield SpeechPiece(marked.restore(sentence), phonemes, "clause",
                                  place_words(_counted(readings, marked), phonemes))
            return
        if " " not in sentence:  # one word, such as a long number
            words, skipped = _counted(readings, marked), 0
            for part in _cut_phonemes(phonemes, limit):
                yield SpeechPiece(marked.restore(sentence), part, "clause", place_words(words, part, skipped))
                skipped += sum(symbol not in NO_SOUND for symbol in part)
            return
    for part in _halves(sentence):
        yield from _sentence_pieces(part, limit, marked, british)


def _counted(readings: list[Reading], marked: MarkedText) -> list[tuple[str, int]]:
    """Words as they are written, without punctuation at their ends, with the number of their sounds."""
    words: list[tuple[str, int]] = []
    text, sounds = "", 0
    for reading in readings:
        text, sounds = text + reading.text, sounds + sum(symbol not in NO_SOUND for symbol in reading.phonemes)
        if reading.space or reading is readings[-1]:
            words.append((marked.restore(text).replace("\u2060", "").strip(_PUNCTUATION), sounds))
            text, sounds = "", 0
    return words


def _halves(sentence: str) -> tuple[str, str]:
    """A sentence in two parts of similar length, cut at the best place near the middle."""
    middle = len(sentence) / 2
    length = len(sentence)
    for pattern, reach in ((r"[;:] ", 0.3), (r", ", 0.3), (_CONJUNCTION, 0.15), (r" ", 0.5)):
        cuts = [match.end() for match in re.finditer(pattern, sentence) if abs(match.end() - middle) <= reach * length]
        cuts = [cut for cut in cuts if sentence[:cut].strip() and sentence[cut:].strip()]
        if cuts:
            cut = min(cuts, key=lambda place: abs(place - middle))
            return sentence[:cut].strip(), sentence[cut:].strip()
    raise ValueError(f"{shorten(sentence)!r} has no place to cut")  # not reached: a space inside is a place


def _cut_phonemes(phonemes: str, limit: int) -> Iterator[str]:
    """Phonemes in parts of at most ``limit``, cut at spaces where there are any."""
    while len(phonemes) > limit:
        cut = phonemes.rfind(" ", limit // 2, limit)
        cut = cut if cut > 0 else limit - 1
        yield tidy_phonemes(phonemes[:cut])
        phonemes = phonemes[cut:].strip()
    if any(map(str.isalpha, phonemes)):
        yield tidy_phonemes(phonemes)


def tidy_phonemes(phonemes: str) -> str:
    """Phonemes with the few kinds of punctuation that occur in training, and an end.

    Quotes go, brackets and dashes become commas, one mark stands for several, and the last one is a full stop, a
    question or an exclamation mark.
    """
    phonemes = re.sub(r"[\"“”]", "", phonemes)
    phonemes = re.sub(r"[()—…;:]|\.{2,}", ",", phonemes)
    phonemes = re.sub(r"\s*([,.!?])[\s,.!?]*", lambda match: (
        next((mark for mark in "?!." if mark in match.group()), ",") + " "), phonemes)
    phonemes = re.sub(r"\s+", " ", phonemes).strip(" ,")
    phonemes = re.sub(r"^[\s,.!?]+", "", phonemes)
    return phonemes if not phonemes or phonemes[-1] in ".!?" else phonemes + "."


def unread_parts(text: str) -> tuple[str, ...]:
    """What of a text is not said, such as the query of a web address or a smiley: in order, each once.

    Args:
        text: English that :func:`check_text` accepts.
    """
    return read_written(text).unread


class PhonemeFront:
    """Text for generators that read phonemes.

    Args:
        british: see :func:`photophone.text.phonemes.phonemize`.
    """

    def __init__(self, british: bool = False) -> None:
        self.british = british

    def pieces(self, text: str) -> list[SpeechPiece]:
        """All pieces of a text; see :func:`speech_pieces`."""
        return list(speech_pieces(text, british=self.british))

    def script_pieces(self, script: Script, lexicon: Lexicon) -> list[Directed]:
        """All pieces of a script; see :func:`script_pieces`."""
        return script_pieces(script, lexicon, british=self.british)

    def ids(self, piece: SpeechPiece) -> Tensor:
        """Ids Long (L,) of a piece."""
        return encode_phonemes(piece.phonemes)
