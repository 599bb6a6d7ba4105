"""Dates and times of day, and ranges of them."""

from __future__ import annotations

import re

from photophone.text.forms.number_words import cardinal, ordinal, plain_number, spell, year
from photophone.text.forms.rules import Rule, choices, numeric, rule
from photophone.text.forms.tables import DAYS, MONTHS

_NAMES = list(dict.fromkeys(MONTHS.values()))
_MONTH = rf"(?:{choices([*_NAMES, *(name.upper() for name in _NAMES)])}|(?:{choices(set(MONTHS) - {'May'})})\b\.?)"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_TH = r"(?:st|nd|rd|th|ST|ND|RD|TH)"
_DASH = r"\s?(?:[-–—]|\bto\b)\s?"
_YEAR = r"(?:1\d{3}|20\d\d)"
_CLOCK = r"(?P<hour>\d{1,2})(?:[:.](?P<minute>[0-5]\d))?(?::(?P<second>[0-5]\d)(?:\.\d+)?)?"
_HALF = r"(?P<half>[AaPp])(?:\.\s?[Mm]\b\.?|[Mm]\b)"


def month(text: str) -> str:
    """The name of a month that may be cut short."""
    return MONTHS[text.strip(". ").capitalize()[:3]]


def _date(of_year: str, number: int, day: int) -> str | None:
    """Words of a date; None when there is none such."""
    if not (1 <= number <= 12 and 1 <= day <= 31):
        return None
    return f"{_NAMES[number - 1]} {ordinal(day)}" + (f", {year(int(of_year))}" if of_year else "")


def _iso(match: re.Match) -> str:
    return _date(match.group(1), int(match.group(2)), int(match.group(3))) or match.group()


def _day_first(match: re.Match) -> str:
    day, number = int(match.group(1)), int(match.group(2))
    return _date(match.group(3), number, day) or _date(match.group(3), day, number) or match.group()


def _month_first(match: re.Match) -> str:
    number, day, of_year = int(match.group(1)), int(match.group(2)), match.group(3)
    if len(of_year) == 2:
        of_year = ("19" if int(of_year) > 30 else "20") + of_year
    return _date(of_year, number, day) or _date(of_year, day, number) or match.group()


def _month_day(match: re.Match) -> str:
    words = f"{month(match.group('month'))} {ordinal(int(match.group('day')))}"
    if match.group("last"):
        words += f" to {ordinal(int(match.group('last')))}"
    return words + (f", {year(int(match.group('year')))}" if match.group("year") else "")


def _day_month(match: re.Match) -> str:
    day, last, of_year = match.group("day", "last", "year")
    words = f"the {ordinal(int(day))}"
    if last:
        words += f" to the {ordinal(int(last))}"
    return f"{words} of {month(match.group('month'))}" + (f" {year(int(of_year))}" if of_year else "")


def half_of_day(letter: str, match: re.Match) -> str:
    """"P.M", with a full stop where one ends the sentence."""
    behind = match.string[match.end():match.end() + 12]
    ends = match.group().endswith(".") and re.match(r"\s*$|\s*\n|\s+[\"']?(?:[A-Z][a-z]+\b(?!\s*\d)|I\b)", behind)
    return f"{letter.upper()}.M" + ("." if ends else "")


def clock(hour: str, minute: str | None, second: str | None, half: bool) -> str | None:
    """Words of a time of day; None when there is none such."""
    if int(hour) > 24 or (half and not 0 <= int(hour) <= 12):
        return None
    words = cardinal(int(hour))
    if minute is None or int(minute) == 0:
        words += "" if half or second else " o'clock" if 1 <= int(hour) <= 12 else " hundred" if int(hour) else " hours"
    else:
        words += (" oh " if int(minute) < 10 else " ") + cardinal(int(minute))
    if second:
        words += f" and {cardinal(int(second))} second" + ("" if int(second) == 1 else "s")
    return words


def _time(match: re.Match) -> str:
    hour, minute, second, half = match.group("hour", "minute", "second", "half")
    words = clock(hour, minute, second, True)
    return match.group() if words is None else f"{words} {half_of_day(half, match)}"


def _time_of_24(match: re.Match) -> str:
    hour, minute, second = match.group("hour", "minute", "second")
    return clock(hour, minute, second, False) or match.group()


def _military(match: re.Match) -> str:
    hour, minute = match.group(1, 2)
    words = ("oh " if hour[0] == "0" else "") + cardinal(int(hour))
    return f"{words} " + ("hundred" if minute == "00" else cardinal(int(minute))) + " hours"


def _decade(match: re.Match) -> str:
    """"nineteen nineties" of 1990s, "twenties" of '20s."""
    number, behind = match.group("number", "behind")
    words = year(int(number)) if len(number) == 4 else cardinal(int(number))
    words = words[:-1] + "ies" if words.endswith("y") else words + "s" if not words.endswith("x") else words + "es"
    return words + ("'" if behind.endswith("'") and behind != "'s" else "")


def _years(match: re.Match) -> str:
    first, last = match.group(1, 2)
    return f"{year(int(first))} to {year(int(last)) if len(last) == 4 else plain_number(last.lstrip('0') or '0')}"


def _zone(match: re.Match) -> str:
    return f"{match.group(1)} {spell(match.group(2))}"


_DAYS = rf"(?:{choices(DAYS)})"
_LONG_DAYS = rf"(?:{choices(set(DAYS.values()))})"
DATES: tuple[Rule, ...] = (
    numeric(r"\b(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?::\d\d(?:\.\d+)?)?(?:Z\b|\+00:?00)", r"\1 at \2 U.T.C"),
    numeric(r"\b(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::\d\d(?:\.\d+)?)?(?:[+-]\d\d:?\d\d)?", r"\1 at \2"),
    numeric(r"(?<![\d.-])(\d{4})[-/](\d\d?)[-/](\d\d?)(?![\d/-]|\.\d)", _iso),
    numeric(r"(?<![\d.])(\d\d?)\.(\d\d?)\.((?:1[5-9]|20)\d\d)(?![\d.]\d)", _day_first),
    numeric(rf"(?<![\d/.-])(\d\d?)/(\d\d?)/({_YEAR}|\d\d)(?![\d/]|\.\d)", _month_first),
    numeric(rf"(?<![\d/.-])(\d\d?)-(\d\d?)-({_YEAR})(?![\d-]|\.\d)", _month_first),
    rule(rf"(?<!\w)({_DAYS})\.?{_DASH}({_DAYS})\b(?!\w)\.?(?=(\s+[a-z\d])?)", lambda m: (
        f"{DAYS[m.group(1)]} to {DAYS[m.group(2)]}" + _stop(m))),
    rule(rf"\b({_LONG_DAYS})\s?[-–—]\s?({_LONG_DAYS})\b", r"\1 to \2"),
    rule(rf"(?<!\w)((?:{choices(set(MONTHS))})\.?|{choices(_NAMES)})\s?[-–—]\s?(?=(?:{_MONTH}|May\b))", lambda m: (
        f"{month(m.group(1))} to ")),
    rule(rf"(?<= to )({choices(set(MONTHS) - {'May'})})\b\.?(?! \w+)", lambda m: month(m.group(1)) + _stop(m)),
    numeric(rf"\b(?P<month>{_MONTH}) (?P<day>{_DAY}){_TH}?(?:{_DASH}(?P<last>{_DAY}){_TH}?)?(?![\w:%]|[.,]\d|/\d)"
            rf"(?:,? (?P<year>{_YEAR})\b(?![:%]))?", _month_day),
    numeric(rf"\b(?:[Tt]he )?(?P<day>{_DAY}){_TH}?(?:{_DASH}(?P<last>{_DAY}){_TH}?)? (?:of )?(?P<month>{_MONTH})(?!\w)"
            rf"(?:,? (?P<year>{_YEAR})\b)?", _day_month),
    numeric(rf"(?<!\w)(?P<day>\d\d?)-(?P<month>{_MONTH})-(?P<year>{_YEAR})(?P<last>(?!x)x)?\b", _day_month),
    numeric(rf"\b({choices(set(MONTHS) - {'May'})})\.?(?= ?'?\d|,? {_YEAR}\b)", lambda m: month(m.group(1))),
    rule(rf"\b({choices(set(MONTHS) - {'May', 'Mar', 'Sep', 'Jan', 'Jun'})})\.(?=\s+[a-z,]|,)", lambda m: (
        month(m.group(1)))),
    rule(r"\b(Mon|Tues?|Wed|Thu(?:rs?)?|Fri|Sat|Sun)\.?(?=,? (?:the )?(?:January|February|March|April|May|June|July|"
         r"August|September|October|November|December|\d|at\b|to\b|and\b|from\b|morning|evening|night|afternoon))",
         lambda m: DAYS[m.group(1)]),
    rule(r"\b(Mon|Tues?|Wed|Thu(?:rs)?|Fri)\.(?=(\s+[a-z]|,|$|\s*\n))", lambda m: DAYS[m.group(1)] + _stop(m)),
    numeric(r"\b9/11\b", "nine eleven"),
    numeric(r"\b24\s?/\s?7\b", "twenty four seven"),
)


def _stop(match: re.Match) -> str:
    """The full stop of a match, where a sentence ends with it."""
    behind = match.string[match.end():]
    return "." if match.group().endswith(".") and (not behind.strip() or re.match(r"\s*\n|\s+[A-Z]", behind)) else ""


_PLAIN_CLOCK = r"\d{1,2}(?::[0-5]\d)?"
TIMES: tuple[Rule, ...] = (
    numeric(r"\b([Nn]oon|[Mm]idnight|[Nn]ow|[Tt]oday|[Dd]awn|[Dd]usk)\s?[-–—]\s?(?=\d)", r"\1 to "),
    rule(r"(?<=[\dm.])\s?[-–—]\s?(?=(?:noon|midnight|now|present|today|dawn|dusk|late)\b)", " to "),
    numeric(rf"\b({_PLAIN_CLOCK})\s?([AaPp])\.?\s?[Mm]\b\.?\s?[-–—]\s?(?={_PLAIN_CLOCK}\s?[AaPp]\.?\s?[Mm]\b)",
            r"\1 \2m to "),
    numeric(rf"\b({_PLAIN_CLOCK}){_DASH}(?={_PLAIN_CLOCK}\s?[AaPp]\.?\s?[Mm]\b)", lambda m: (
        (clock(*(m.group(1).split(":") + [None])[:2], None, True) or m.group(1)) + " to ")),
    numeric(r"(?<![\d.:])(\d{1,2}:[0-5]\d)\s?[-–—]\s?(?=\d{1,2}:[0-5]\d(?!\d))", r"\1 to "),
    numeric(rf"(?<![\d.,:$£€])\b{_CLOCK}\s?{_HALF}", _time),
    numeric(r"\b(?<![\d.:])([01]\d|2[0-3])([0-5]\d) (?:hours|hrs)\b", _military),
    numeric(r"(?<![\w.:])(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d)(?:\.\d+)?)?(?![\w:]|\.\d)"
            r"(?!\s+(?:ratio|scale|odds|aspect|mixture|screen|display)\b)", _time_of_24),
    rule(r"\b(A\.M|P\.M|o'clock|[a-z]+ (?:thirty|fifteen|forty five)) ([ECMP][SD]T|GMT|UTC|CET|CEST|BST|"
         r"JST|IST)\b", _zone),
    numeric(r"(?<![\w'])'(?P<number>\d0)(?P<behind>s'?)(?!\w)", _decade),
    numeric(r"(?<![\w.,])(?P<number>(?:1\d|20)\d0|[2-9]0)(?P<behind>'?s'?)\s?[-–—]\s?(?='?\d+0'?s\b)", lambda m: (
        _decade(m) + " to ")),
    numeric(r"(?<![\w.,$£€])(?P<number>(?:1\d|20)\d0|[2-9]0)(?P<behind>s'?|'s)(?!\w)", _decade),
    numeric(r"(?<![\w'])'(\d\d)(?![\w'\"])", lambda m: (
        ("oh " if m.group(1)[0] == "0" else "") + cardinal(int(m.group(1))))),
    numeric(rf"(?<![\w.,$£€-])({_YEAR})\s?[-–—]\s?({_YEAR}|\d\d)(?![\w%]|[.,-]\d)", _years),
    numeric(r"\bc(?:a?)\. ?(?=\d{3})", "circa "),
)
