"""A user's own pronunciations, by words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from photophone.core.files import check_source
from photophone.core.limits import MAX_LEXICON_BYTES, MAX_LEXICON_ENTRIES
from photophone.text.ipa import read_ipa, with_s

MOST_CHARACTERS = 100
"""Of a written word."""
_EDGE = r"(?<![\w@/.]){}(?P<s>['’]s)?(?![\w@/]|['’.]\w)"
Pronunciations = Mapping[str, str] | str | Path
"""Words with their phonemes, or a file of them."""


class Lexicon:
    """Words, or several words together, and how they are said.

    A word in small letters stands for itself in any case, one with capitals for this writing alone; ``'s`` may follow.

    Args:
        entries: written words and their phonemes, see :func:`photophone.text.ipa.read_ipa`.

    Raises:
        ValueError: too many entries, a word without a letter or digit, or phonemes that cannot be read.
    """

    def __init__(self, entries: Mapping[str, str]) -> None:
        if not isinstance(entries, Mapping):
            raise ValueError(f"pronunciations must be words with their phonemes, such as {{'GIF': 'dʒɪf'}}, got "
                             f"{entries!r:.60}")
        if len(entries) > MAX_LEXICON_ENTRIES:
            raise ValueError(f"{len(entries)} pronunciations, the limit is {MAX_LEXICON_ENTRIES}")
        self.given: dict[str, str] = {}
        self.phonemes: dict[str, str] = {}
        for word, said in entries.items():
            if not isinstance(word, str) or not isinstance(said, str):
                raise ValueError(f"pronunciations are strings, got {word!r:.40}: {said!r:.40}")
            key = " ".join(word.split())
            if not any(character.isalnum() for character in key) or len(key) > MOST_CHARACTERS:
                raise ValueError(f"{word[:40]!r} cannot be given a pronunciation: it has no letter or digit, or over "
                                 f"{MOST_CHARACTERS} characters")
            self.given[key], self.phonemes[key] = said, read_ipa(said)

    def among(self, text: str) -> dict[str, str]:
        """The entries, as they were given, whose words all occur in a text."""
        there = set(_words(text))
        return {key: said for key, said in self.given.items() if there.issuperset(_words(key))}

    def replace(self, text: str, with_words: Callable[[str, str], str]) -> str:
        """A text in which each word of the lexicon is what ``with_words(written, phonemes)`` gives for it."""
        keys = sorted(self.among(text), key=len, reverse=True)
        if not keys:
            return text
        choice = "|".join(r"\s+".join(map(re.escape, key.split())) for key in keys)

        def said(match: re.Match) -> str:
            phonemes = self.find(match["key"])
            if phonemes is None:
                return match.group()
            return with_words(match.group(), with_s(phonemes) if match["s"] else phonemes)

        return re.sub(_EDGE.format(f"(?P<key>{choice})"), said, text, flags=re.IGNORECASE)

    def find(self, written: str) -> str | None:
        """The phonemes of a word as it is written, or None."""
        key = " ".join(written.split())
        return self.phonemes.get(key) or self.phonemes.get(key.lower())


def make_lexicon(given: Pronunciations | None) -> Lexicon:
    """The lexicon of an argument: entries, a file of them, or None for none.

    Raises:
        ValueError, OSError: see :class:`Lexicon` and :func:`read_lexicon`.
    """
    return Lexicon(read_lexicon(given) if isinstance(given, str | Path) else given or {})


def read_lexicon(path: str | Path) -> dict[str, str]:
    """The entries of a file in UTF-8: a JSON object, or lines of a word, a tab and its phonemes; ``#`` begins a
    comment.

    Raises:
        ValueError: it is too long, no UTF-8, or has other lines.
        OSError: it cannot be read.
    """
    path = check_source(path)
    if path.is_file() and path.stat().st_size > MAX_LEXICON_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, the limit of a lexicon is {MAX_LEXICON_BYTES}")
    with path.open("rb") as file:
        data = file.read(MAX_LEXICON_BYTES + 1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: byte 0x{data[error.start]:02X} at position {error.start}") from error
    if path.suffix.lower() != ".json":
        return dict(_lines(path, text))
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(entries, dict):
        raise ValueError(f"{path} must hold a JSON object of words and phonemes")
    return entries


def _lines(path: Path, text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        word, tab, said = line.partition("\t")
        if not (tab and word.strip() and said.strip()):
            raise ValueError(f"{path}, line {number}: {line[:40]!r} is no word, tab and phonemes")
        yield word.strip(), said.strip()


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
