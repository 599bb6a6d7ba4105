"""What a rule is: a pattern and what stands in its place; and the list of what no rule could read."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

_DIGIT = re.compile(r"\d")


@dataclass(frozen=True)
class Rule:
    """A written form and its words.

    Attributes:
        source, flags: of the pattern that finds the form; it is compiled when it is first needed.
        words: what is said: a template of :func:`re.sub`, or a function of the match.
        unread: of a match, the part that is left out, or None: it is reported, see
            :func:`photophone.text.written_forms.read_written`.
        of_digits: the form has a digit, so that most texts need not be searched for it.
    """

    source: str
    words: str | Callable[[re.Match], str]
    flags: int = 0
    unread: Callable[[re.Match], str] | None = None
    of_digits: bool = False

    @functools.cached_property
    def pattern(self) -> re.Pattern:
        """The compiled pattern."""
        return re.compile(self.source, self.flags)


def rule(pattern: str, words: str | Callable[[re.Match], str], flags: int = 0,
         unread: Callable[[re.Match], str] | None = None) -> Rule:
    """A :class:`Rule` of the text of a pattern."""
    return Rule(pattern, words, flags, unread)


def numeric(pattern: str, words: str | Callable[[re.Match], str], flags: int = 0) -> Rule:
    """A :class:`Rule` of a form that has a digit."""
    return Rule(pattern, words, flags, of_digits=True)


def dropped(pattern: str, flags: int = 0) -> Rule:
    """A rule for what is not read at all, and reported."""
    return rule(pattern, " ", flags, re.Match.group)


def apply(rules: tuple[Rule, ...], text: str, unread: list[str]) -> str:
    """Text after all rules in order; what they leave out is added to ``unread``."""
    for one in rules:
        if one.of_digits and not _DIGIT.search(text):
            continue
        if one.unread is not None:
            left_out = (one.unread(match).strip() for match in one.pattern.finditer(text))
            unread.extend(part for part in left_out if part)
        text = one.pattern.sub(one.words, text)
    return text


def choices(words: object) -> str:
    """A pattern for any of several words, the longest first."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


def word_pairs(text: str) -> dict[str, str]:
    """What stands before and behind the colon of each word of a text."""
    return dict(pair.split(":") for pair in text.split())
