"""Written English as plain words: what is written otherwise than it is said, kind by kind.

The reader of hibari-tts knows how words sound. Everything else is made words here, by the rules of
:mod:`photophone.text.forms`: markup and lines, addresses, pictures, chemistry, dates and times, telephone numbers,
money, measures, numbers of every other kind, abbreviations, Roman numerals, capitals, signs. How well, beside other
front ends, `docs/speech.md` says.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from photophone.text.forms.addresses import ADDRESSES
from photophone.text.forms.capitals import CAPITALS
from photophone.text.forms.characters import plain_characters, read_emoji, read_signs
from photophone.text.forms.dates import DATES, TIMES
from photophone.text.forms.markup import MARKUP, join_hyphens, split_lines
from photophone.text.forms.number_words import LETTER
from photophone.text.forms.numbers import FRACTIONS, GROUPS, NUMBERS, ORDINALS, PHONES, SCORES, VERSIONS
from photophone.text.forms.quantities import MONEY, UNIT_RULES
from photophone.text.forms.rules import Rule, apply, rule
from photophone.text.forms.science import CHEMISTRY, GREEK_RULES, MATHEMATICS, POWERS
from photophone.text.forms.words import ABBREVIATIONS, NUMERALS

LONGEST_WORD = 200
"""Characters; longer ones are cut, so that no rule looks far."""

SIGNS: tuple[Rule, ...] = (
    rule(r"(?<!\S)[#*~\\](?!\S)", lambda m: _LONE[m.group()]),
    rule(r"%", " percent "),
    rule(r"&", " and "),
    rule(r"\+", " plus "),
    rule(r"@", " at "),
)
LEFTOVERS: tuple[Rule, ...] = (
    rule(r"(?<=\w) ?'n'? (?=\w)", " and "),
    rule(r"(?<=[A-Za-z]{2})\s?–\s?(?=[A-Z]?[a-z])|(?<=[A-Z\u2060])–(?=[A-Z]\b)", lambda m: (
        " to " if m.group() == "–" and not m.string[m.end():m.end() + 1].islower() else ", ")),
    rule(r"(?<=\w)/(?=\w)", " slash "),
    rule(r"([A-Za-z])\1{3,}", r"\1\1"),
    rule(r"\b(\w{24})(?=\w{16})", r"\1 "),
)
PUNCTUATION: tuple[Rule, ...] = (
    rule(r"(?<=\w)\.(?=[,;:])", ""),
    rule(r"[\[({<]+\s*", ", "),
    rule(r"\s*[\])}>]+", ", "),
    rule(r"\s*(?:—|–|--+)\s*|\s+-\s+", ", "),
    rule(r"\.{2,}|(?:\. ){2,}\.", ", "),
    rule(r"[!?]*\?[!?]*", "?"),
    rule(r"!{2,}", "!"),
    rule(r"[\"`~|\\^_*#=<>/$]+", " "),
    rule(r"(?<!\w)'+|'+(?!\w)", " "),
    rule(r"(?<![\w\u2060])-+|-+(?![\w])", " "),
    rule(r"(?:\s*[,;:])+\s*(?=[.!?])|(?:\s*[,;:])*\s*([,;:])", r"\1"),
    rule(r"(?<=[.!?])(?:\s*[,;:])+", ""),
    rule(r"^(?:[^\S\n]|[,;:.])+", "", re.M),
    rule(r"[^\S\n]+(?=[.,!?;:](?!\w))", ""),
    rule(r"([,;:])(?=[^\W\d])", r"\1 "),
    rule(r"(?<=[a-z])([.!?])(?=[A-Z][a-z])", r"\1 "),
    rule(r"(?<![\w'.-])(?:A(?=[,;:!?]|\.(?!\w)|\s*$|-(?!\w)| to [B-Z]\b)|a(?=, [b-z]\b))"
         r"|(?<=[a-z,] )A(?![\w\u2060']|\.\w)(?!\s[A-Z][a-z])", "A" + LETTER),
)
_LONE = {"#": "hash", "*": "asterisk", "~": "tilde", "\\": "backslash"}
_KINDS = (CHEMISTRY, DATES, TIMES, PHONES, GROUPS, VERSIONS, SCORES, ORDINALS, MONEY, UNIT_RULES, POWERS, FRACTIONS,
          GREEK_RULES, MATHEMATICS, ABBREVIATIONS, NUMERALS, NUMBERS, CAPITALS)
"""In their order: what is told by its context comes before what is not."""


@dataclass(frozen=True)
class Words:
    """A text as words.

    Attributes:
        text: words and ``. , ; : ! ? ' -``; paragraphs stand apart by line breaks.
        unread: what of the text is not said, such as the query of a web address; without repetitions, in order.
    """

    text: str
    unread: tuple[str, ...]


def read_written(text: str) -> Words:
    """A text as words, with what could not be made words.

    Args:
        text: any text; letters that nothing is known of stay as they are.
    """
    unread: list[str] = []
    text = re.sub(r"[^\S\n]+", " ", plain_characters(html.unescape(text)))
    text = re.sub(rf"(\S{{{LONGEST_WORD}}})(?=\S)", r"\1 ", text)
    text = apply(MARKUP, join_hyphens(text), unread)
    text = apply(ADDRESSES, split_lines(text), unread)
    text = read_emoji(text)
    for rules in _KINDS:
        text = apply(rules, text, unread)
    text = apply(LEFTOVERS, read_signs(apply(SIGNS, text, unread), unread), unread)
    text = apply(PUNCTUATION, text, unread)
    return Words(re.sub(r"[^\S\n]+", " ", text).strip(), tuple(dict.fromkeys(unread)))


def rewrite(text: str) -> str:
    """The words alone of :func:`read_written`."""
    return read_written(text).text
