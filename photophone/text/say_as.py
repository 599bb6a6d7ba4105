"""``say-as``: how a text is to be understood, as words that are read so."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import date

from photophone.text.forms.number_words import amount, cardinal, digits, ordinal, spell, year
from photophone.text.forms.tables import MONTHS

_MONTHS = list(dict.fromkeys(MONTHS.values()))
DATE_ORDERS = ("mdy", "dmy", "ymd", "md", "dm")


def say_as(text: str, kind: str, order: str | None = None) -> str:
    """The words of a text that is to be understood as something.

    Args:
        text: of the element.
        kind: a key of ``KINDS``, or one of ``AS_WRITTEN``, which is left to the rules for written forms.
        order: of the numbers of a date, one of ``DATE_ORDERS``; None: as they are written.

    Raises:
        ValueError: an unknown kind or order, or a text that is none such.
    """
    if kind == "date" and order is not None:
        return _date(text, order)
    if order is not None:
        raise ValueError(f"say-as has a format for dates alone, got format={order!r} with interpret-as={kind!r}")
    if kind in AS_WRITTEN:
        return text
    if kind not in KINDS:
        raise ValueError(f"say-as does not know interpret-as={kind!r}; it knows {', '.join((*KINDS, *AS_WRITTEN))}")
    return KINDS[kind](text.strip())


def _characters(text: str) -> str:
    """Letters by their names, digits one by one, signs by theirs."""
    words = []
    for part in re.findall(r"[A-Za-z]+|\d|[^\sA-Za-z\d]", text):
        if part.isascii() and part.isalpha():
            words.append(spell(part))
        elif part.isdigit():
            words.append(cardinal(int(part)))
        else:
            words.append(unicodedata.name(part, "sign").lower().replace("-", " "))
    return " ".join(words)


def _cardinal(text: str) -> str:
    match = _number(text, r"([-−+]?)((?:\d{1,3}(?:[, ]\d{3})+|\d+)(?:\.\d+)?)", "a number")
    return ("minus " if match[1] in ("-", "−") else "") + amount(match[2].replace(" ", ""))


def _ordinal(text: str) -> str:
    return ordinal(int(_number(text, r"(\d{1,36})(?:st|nd|rd|th)?", "a whole number")[1]))


def _digits(text: str) -> str:
    return digits(_number(text, r"\d[\d\s,.-]*", "digits")[0])


def _telephone(text: str) -> str:
    found = _number(text, r"\+?[\d\s().,/-]*\d[\d\s().,/-]*", "a telephone number")[0]
    return ("plus " if found.startswith("+") else "") + digits(found)


def _year(text: str) -> str:
    return year(int(_number(text, r"\d{1,4}", "a year")[0]))


def _number(text: str, pattern: str, noun: str) -> re.Match:
    match = re.fullmatch(pattern, text)
    if match is None:
        raise ValueError(f"say-as needs {noun}, got {text[:40]!r}")
    return match


def _date(text: str, order: str) -> str:
    if order not in DATE_ORDERS:
        raise ValueError(f"say-as knows the formats {', '.join(DATE_ORDERS)} of dates, got {order!r}")
    parts = re.findall(r"\d+", text)
    if len(parts) != len(order):
        raise ValueError(f"say-as needs {len(order)} numbers for a date of format {order!r}, got {text[:40]!r}")
    found = dict(zip(order, map(int, parts)))
    try:
        day = date(found.get("y", 2000), found["m"], found["d"])
    except ValueError as error:
        raise ValueError(f"say-as got {text[:40]!r} with format {order!r}, which is no date: {error}") from error
    words = f"{_MONTHS[day.month - 1]} {ordinal(day.day)}"
    return f"{words}, {year(day.year)}" if "y" in found else words


KINDS: dict[str, Callable[[str], str]] = {
    "characters": _characters, "spell-out": _characters, "cardinal": _cardinal, "number": _cardinal,
    "ordinal": _ordinal, "digits": _digits, "telephone": _telephone, "year": _year}
AS_WRITTEN = ("date", "time", "fraction", "unit", "currency")
"""Kinds that the rules for written forms tell by themselves."""
