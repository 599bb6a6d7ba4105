"""Texts as the words that are spoken, so that "-5", "minus five" and "Minus 5" count as the same speech.

A judge needs rules of its own here: with those of the text front end, whose speech it judges, a number that the front
end misreads would be misread in the reference as well and count as right. Case, punctuation, titles and contractions
are left to Whisper's normaliser; its numbers are not used, since it drops signs and makes "one.5" of "one and a half".
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable

from photophone.evaluation.metrics.spoken_numbers import (
    cardinal,
    fraction,
    one_form,
    ordinal,
    plural_decade,
    with_point,
)

MONEY = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent"), "¥": ("yen", "sen")}
UNITS = {"km/h": "kilometer per hour", "kph": "kilometer per hour", "mph": "mile per hour", "m/s": "meter per second",
         "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz", "Hz": "hertz", "dB": "decibel", "km": "kilometer",
         "cm": "centimeter", "mm": "millimeter", "m": "meter", "kg": "kilogram", "mg": "milligram", "g": "gram",
         "ml": "milliliter", "mL": "milliliter", "l": "liter", "L": "liter", "ft": "foot", "lb": "pound",
         "lbs": "pound", "oz": "ounce", "h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute",
         "ms": "millisecond", "s": "second", "kW": "kilowatt", "W": "watt", "V": "volt", "mi": "mile"}
"""Signs of units behind a number, as one of them is called."""
MAGNITUDES = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion", "tn": "trillion"}
_SINGULAR = {"feet": "foot", "pence": "penny", "pennies": "penny", "metre": "meter", "metres": "meter",
             "kilometre": "kilometer", "kilometres": "kilometer", "litre": "liter", "litres": "liter",
             **{f"{word}s": word for name in [*UNITS.values(), "degree", "dollar", "cent", "euro"]
                for word in name.split()[:1]}}
_COINED = {"dollar", "euro", "pound"}
"""Behind these an "and" may be said or not: "two dollars and fifty cents"."""
_NUMBER = r"\d{1,15}(?:\.\d{1,15})?"
_SIGNS = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))
_BIG = "hundred|thousand|million|billion|trillion"


def spoken_words(text: str) -> list[str]:
    """The words of a written or recognised English text, numbers, money, units and signs as they are said.

    Numbers have one form: "nineteen ninety", "1990" and "one thousand nine hundred and ninety" are the same words.
    What stands in square or angle brackets, such as [noise], is not spoken.
    """
    text = re.sub(r"[<\[][^>\]]*[>\]]", " ", text).translate(str.maketrans("()’‘−–", "  ''--"))
    for pattern, replacement in _rules():
        text = pattern.sub(replacement, text)
    words = [_SINGULAR.get(word, word) for word in re.sub(r"[^\w\s']|_", " ", _whisper()(text)).split()]
    words = [word for index, word in enumerate(words) if word != "and" or words[max(0, index - 1)] not in _COINED]
    return _joined_letters(one_form(words))


@functools.cache
def _rules() -> list[tuple[re.Pattern, str | Callable[[re.Match], str]]]:
    """Written forms and what is said instead, in the order in which they are looked for."""
    rules: list[tuple[str, str | Callable[[re.Match], str]]] = [
        (r"[¼-¾⅐-⅞]", lambda match: " " + unicodedata.normalize("NFKC", match[0]).replace("\u2044", "/")),
        (r"(?<=\d),(?=\d{3}(?!\d))", ""),
        (r"(?<![\w.,)])-(?=[$£€¥]?\.?\d)", " minus "),
        (rf"([$£€¥])\s?({_NUMBER})(?:\s?({_BIG})\b|(k|m|bn|b|tn)\b)?", _money),
        (r"\b(\d{1,2}):(\d{2})(?!\d)", lambda match: _clock(match[1], match[2])),
        (r"(?<=\d)\s*([ap])\.?\s?m\b\.?", r" \1m "),
        (r"(?i)\bo'clock\b", " "), (r"(?i)\bper cent\b", "percent"), (r"%", " percent "),
        (r"°\s?C\b", " degree celsius "), (r"°\s?F\b", " degree fahrenheit "), (r"°", " degree "),
        (r"'?\b(\d*[1-9]0|\d+00)'?s\b", lambda match: plural_decade(match[1])),
        (rf"(?<=\d)\s?({_SIGNS})\b(?!['.]\w)", lambda match: f" {UNITS[match[1]]} "),
        (r"\b(\d{1,15})(?:st|nd|rd|th)\b", lambda match: ordinal(int(match[1]))),
        (r"(?<![\d/.])(?:(\d{1,9}) )?(\d{1,9})/(\d{1,9})(?![\d/])", lambda match: fraction(*match.groups())),
        (r"(?<!\d)(\d{3})-(?=\d{4}(?!\d))", r"\1 "), (r"(?<=\d)\s?-\s?(?=\d)", " to "),
        (r"(?i)(?:#|\bno\.)\s?(?=\d)", " number "),
        (r"&", " and "), (r"\+", " plus "), (r"=", " equals "), (r"@", " at "),
        (r"(?<![\d.])\.(?=\d)", " 0."), (r"\d+(?:\.\d+)+", lambda match: f" {with_point(match[0])} "),
        (r"\d+", lambda match: f" {cardinal(match[0])} ")]
    return [(re.compile(pattern), replacement) for pattern, replacement in rules]


@functools.cache
def _whisper() -> Callable[[str], str]:
    """Whisper's normaliser of English from transformers, without its reading of numbers.

    Its table of British spellings is not part of the package, so "colour" and "color" stay different words.
    """
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer
    normalizer = EnglishTextNormalizer({})
    normalizer.standardize_numbers = str
    return normalizer


def _money(match: re.Match) -> str:
    sign, amount, word, letter = match.groups()
    whole, part = MONEY[sign]
    big = word or MAGNITUDES.get(letter or "", "")
    units, _, hundredths = amount.partition(".")
    if big or len(hundredths) not in (0, 2):
        return f" {amount} {big} {whole} "
    said = [f"{units} {whole}"] if int(units) or not int(hundredths or 0) else []
    said += [f"{int(hundredths)} {part}"] if int(hundredths or 0) else []
    return f" {' '.join(said)} "


def _clock(hours: str, minutes: str) -> str:
    if minutes == "00":
        return f" {int(hours)} "
    return f" {int(hours)} {'oh ' if minutes[0] == '0' else ''}{int(minutes)} "


def _joined_letters(words: Iterable[str]) -> list[str]:
    """``words`` with runs of single letters as one word: "u s a" is "usa"."""
    result: list[str] = []
    spelled = False
    for word in words:
        letter = len(word) == 1
        if letter and spelled:
            result[-1] += word
        else:
            result.append(word)
        spelled = letter
    return result
