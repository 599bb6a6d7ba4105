"""What a rule is: a pattern and what stands in its place; and the list of what no rule could read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """A written form and its words.

    Attributes:
        pattern: finds the form.
        words: what is said: a template of :func:`re.sub`, or a function of the match.
        unread: of a match, the part that is left out, or None: it is reported, see
            :func:`photophone.text.written_forms.read_written`.
    """

    pattern: re.Pattern
    words: str | Callable[[re.Match], str]
    unread: Callable[[re.Match], str] | None = None


def rule(pattern: str, words: str | Callable[[re.Match], str], flags: int = 0,
         unread: Callable[[re.Match], str] | None = None) -> Rule:
    """A :class:`Rule` of the text of a pattern."""
    return Rule(re.compile(pattern, flags), words, unread)


def dropped(pattern: str, flags: int = 0) -> Rule:
    """A rule for what is not read at all, and reported."""
    return rule(pattern, " ", flags, re.Match.group)


def apply(rules: tuple[Rule, ...], text: str, unread: list[str]) -> str:
    """Text after all rules in order; what they leave out is added to ``unread``."""
    for one in rules:
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
