"""Markup, smileys, and lines: which line breaks end something, and which words they cut in two."""

from __future__ import annotations

import re

from photophone.text.forms.rules import Rule, dropped, rule, word_set
from photophone.text.phonemes import is_word

MARKUP: tuple[Rule, ...] = (
    rule(r"```\w*", " "),
    rule(r"!?\[([^\[\]\n]{1,300})\]\(([^()\n]{0,300})\)", r"\1", unread=lambda m: m.group(2)),  # links: their words
    rule(r"<!--.{0,2000}?-->", " ", re.S, unread=re.Match.group),
    rule(r"</?[A-Za-z][^<>\n]{0,200}>", " "),
    rule(r"^[^\S\n]*\|?[-:| ]*-{3,}[-:| ]*\|?[^\S\n]*$", "\n\n", re.M),  # the line below a table's head
    rule(r"(?<=[^\s|])[^\S\n]*\|[^\S\n]*(?=[^\s|])", ", "),
    rule(r"(?<!\S)\|(?=\s)|(?<=\s)\|(?!\S)|^\||\|$", " ", re.M),
    rule(r"^[^\S\n]*(?:[-*+] )?\[[ xX✓✔]?\]\s+", "\n\n", re.M),
    rule(r"^[^\S\n]*(?:#{1,6}|>+|[*+•‣▪◦·–-])\s+", "\n\n", re.M),
    rule(r"^[^\S\n]*(\d{1,3}|[A-Za-z])[.)](?=\s+\S)", r"\n\n\1.", re.M),
    rule(r"(?<!\w)(\*\*\*|\*\*|__|\*|_|~~|`)(?=\S)(.{1,300}?)(?<=\S)\1(?!\w)", r"\2"),
    rule(r"(?<!\w)(\*\*|__|\*|_|~~|`)(?=\S)(.{1,300}?)(?<=\S)\1(?!\w)", r"\2"),
    rule(r"^[^\S\n]*[-=_*#~+]{3,}[^\S\n]*$", "\n\n", re.M),
    dropped(r"(?<!\S)(?:[:;=8]['-]?[)(DPpOo|/\\*\]\[]|<3+|\^[_.]?\^|[xX]D|-_-|:3|\(:|\):|¯\\_\(ツ\)_/¯)(?![\w/])"),
)
_WIDEST_ITEM = 40
"""Characters of a line that may be an item of a list without marks."""


def join_hyphens(text: str) -> str:
    """Words that a line break cuts are joined: "hy-" and "phenated", but not "well-" and "known"."""
    return re.sub(r"([A-Za-z]{2,})-[^\S\n]*\n[^\S\n]*([a-z]{2,})", _joined, text)


def _joined(match: re.Match) -> str:
    first, second = match.group(1, 2)
    hyphened = not is_word(first + second) and is_word(first) and is_word(second)
    return f"{first}-{second}" if hyphened else first + second


def split_lines(text: str) -> str:
    """Text in which every line break that ends an item, a title or a line of an address is an empty line."""
    return "\n\n".join(_block(block) for block in re.split(r"\n\s*\n", text))


def _block(block: str) -> str:
    lines = [line.strip() for line in block.split("\n") if line.strip()]
    if len(lines) < 2:
        return block
    counts = [len(line.split()) for line in lines]
    widest = max(map(len, lines))
    commas = any(line.endswith(",") for line in lines[:-1])
    ended = any(line[-1] in ".!?" for line in lines[:-1])
    listed = not ended and max(counts) <= (2 if commas or len(lines) < 3 else 4)
    parts = [lines[0]]
    for before, line in zip(lines, lines[1:]):
        word = line.split(maxsplit=1)[0]
        fits = len(before) + 1 + len(word) <= widest or widest <= _WIDEST_ITEM
        fresh = (word[0].isupper() or word[0].isdigit()) and fits and before[-1] not in ",-" and not _goes_on(before)
        over = before[-1] in ".!?:"
        parts.append(("\n\n" if (listed and before[-1] != ",") or fresh or over else " ") + line)
    return "".join(parts)


def _goes_on(line: str) -> bool:
    """Whether a line ends with a word that needs another."""
    return line.rsplit(maxsplit=1)[-1].lower() in _OPEN


_OPEN = word_set("a an the of to in on at by for with from and or but nor as is was were are be my your his her our "
                   "their its this that than into over mr. mrs. dr. ms. st. new saint")
