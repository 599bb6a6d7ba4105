"""Telephone numbers, codes, versions, scores, ranges, fractions, and every other number."""

from __future__ import annotations

import re

from photophone.text.forms.number_words import (
    NUMBER,
    VULGAR,
    amount,
    cardinal,
    code_number,
    digits,
    fraction,
    ordinal,
    plain_number,
    spell,
    vulgar,
)
from photophone.text.forms.rules import Rule, numeric, rule

_MONTH_DAYS = re.compile(r"\b(?:on|by|since|until|till|before|after|from|dated|due|of|date)\s+$", re.I)


def _phone(match: re.Match) -> str:
    number, extension = match.group("number"), match.groupdict().get("extension")
    plus = "plus " if number.startswith("+") else ""
    letters = re.search(r"[A-Z]{3,}.*", number)
    words = digits(number[:letters.start()] if letters else number)
    words += f", {letters.group().lower().replace('-', ' ')}" if letters else ""
    return plus + words + (f", extension {code_number(extension)}" if extension else "")


def _called(match: re.Match) -> str:
    return match.group(1) + digits(match.group(2))


def _ungroup(match: re.Match) -> str:
    whole = re.sub(r"\D", "", match.group(1))
    return f"{int(whole):,}"


def _european(match: re.Match) -> str:
    return f"{int(match.group(1).replace('.', '')):,}.{match.group(2)}"


def _version(match: re.Match) -> str:
    return "version " + points(match.group(1))


def points(text: str) -> str:
    """"one point two point three" of 1.2.3."""
    return " point ".join(cardinal(int(part)) for part in text.split(".") if part)


def _address(match: re.Match) -> str:
    words = " dot ".join(cardinal(int(part)) for part in match.group(1).split("."))
    length, port = match.group(2, 3)
    return words + (f" slash {cardinal(int(length))}" if length else "") + (f" port {cardinal(int(port))}" if port
                                                                            else "")


def _mixed(match: re.Match) -> str:
    whole, above, below = match.groups()
    if not 0 < int(above) < int(below):
        return match.group()
    return f"{cardinal(int(whole))} and {fraction(int(above), int(below))}"


def _mixed_vulgar(match: re.Match) -> str:
    words = vulgar(match.group(2))
    words = re.sub("^one (half|quarter|third|fifth|sixth|seventh|eighth|ninth|tenth)$", lambda m: (
        f"{'an' if m.group(1) == 'eighth' else 'a'} {m.group(1)}"), words)
    return f"{amount(match.group(1))} and {words}" + (" " if match.group(3) else "")


def _slashed(match: re.Match) -> str:
    """A fraction, a date, or two numbers."""
    first, second = match.groups()
    above, below = int(first), int(second)
    if below and above < below and (below <= 10 or below in (12, 16, 20, 24, 32, 64, 100, 1000)) and not (
            _MONTH_DAYS.search(match.string[:match.start()][-12:]) and above <= 12 and below <= 31):
        return _as_date(match, above, below) or fraction(above, below)
    return _as_date(match, above, below) or f"{plain_number(first)} out of {plain_number(second)}"


def _as_date(match: re.Match, above: int, below: int) -> str | None:
    from photophone.text.forms.dates import _NAMES

    called = bool(_MONTH_DAYS.search(match.string[:match.start()][-12:]))
    if not 1 <= above <= 12 or not 1 <= below <= 31 or (below <= 10 and above < below and not called) or (
            below in (12, 16, 20, 24) and not called):
        return None
    return f"{_NAMES[above - 1]} {ordinal(below)}"


def _power_of_ten(match: re.Match) -> str:
    number, sign, power = match.groups()
    return f"{plain(number)} times ten to the {'minus ' if sign == '-' else ''}{cardinal(int(power))}"


def plain(text: str) -> str:
    """A number that may have a sign, as words."""
    sign = "minus " if text.startswith("-") else ""
    return sign + plain_number(text.lstrip("-+"))


def _range(match: re.Match) -> str:
    return f"{plain(match.group(1))} to {plain(match.group(2))}"


def _minus(match: re.Match) -> str:
    return f"minus {match.group(1)}"


def code(match: re.Match) -> str:
    """A name of letters and digits, part by part; letters are spelled where they make no word."""
    parts = re.findall(r"[A-Za-z]+|\d+", match.group())
    words = []
    for index, part in enumerate(parts):
        if part.isdigit():
            middle = part == "2" and 0 < index < len(parts) - 1
            words.append("to" if middle else _number_of_code(part, (parts[index - 1] if index else "")))
        elif part in ("th", "st", "nd", "rd", "s") and words:
            words[-1] += part
        else:
            spelled = part.isupper() or len(part) == 1 or not re.search("[aeiouyAEIOUY]", part)
            words.append(spell(part) if spelled else part)
    return " ".join(words)


def _number_of_code(text: str, before: str = "") -> str:
    if before == "FY":
        return plain_number(text)
    if len(text) == 4 and len(before) < 2 and re.fullmatch(r"1[0-9]\d\d|20\d\d", text):
        return plain_number(text) if text >= "1100" else f"{cardinal(int(text[:2]))} {cardinal(int(text[2:]))}"
    return code_number(text)


def _behind_dash(match: re.Match) -> str:
    word, number = match.groups()
    spelled = (word.isupper() and len(word) <= 3) or len(word) == 1
    return f"{spell(word) if spelled else word} {_number_of_code(number)}"


def _ordinal(match: re.Match) -> str:
    return ordinal(int(match.group(1).replace(",", "")))


def _several(number: str) -> str:
    words = plain_number(number)
    return words[:-1] + "ies" if words.endswith("y") else words + ("es" if words.endswith("x") else "s")


def _possessive(match: re.Match) -> str:
    return _several(match.group(1)) if match.group(2) == "s" else plain_number(match.group(1)) + match.group(2)


def _possessive_of(match: re.Match) -> str:
    return plain_number(match.group(1)) + ("'s" if match.group().endswith("s") else "'")


def _to_the_year(match: re.Match) -> str:
    return f"{match.group(1)} {code_number(match.group(2))}"


PHONES: tuple[Rule, ...] = (
    numeric(r"\b((?:[Cc]all|[Dd]ial|[Rr]ing|[Tt]ext|[Pp]hone|[Tt]el|[Ff]ax|[Mm]obile|[Cc]ell)(?:ed|ing)?[.:]? )"
            r"(\(?\d{2,5}\)?(?:[ .-]?\d{2,4}){1,3}|\d{3})\b(?![-.]?\d|,\d)(?! (?:people|times|of|men|women|more))",
            _called),
    numeric(r"\b((?:call|dial|phone|ring|text)(?:s|ed|ing)?) (911|999|112|411|311|211|988|101|111|000)\b(?![-.,]?\d)"
            r"(?! (?:people|men|women|times|numbers|of)\b)", lambda m: f"{m.group(1)} {digits(m.group(2))}", re.I),
    numeric(r"(?<![\w.,-])(911|999|112|411|311|211|988|101|111)(?= (?:call|dispatcher|operator|emergency)s?\b)",
            lambda m: digits(m.group(1))),
    numeric(r"(?<![\w.-])(?P<number>1-\d{3}-[A-Z\d]{3,}(?:-?[A-Z\d]+)*)(?![\w-])", _phone),
    numeric(r"(?<![\w.+])(?P<number>(?:\+\d{1,3}[ .-]?|1[ .-])?(?:\(\d{2,4}\)[ .-]?|\d{3}[.-])\d{3}[ .-]\d{4})"
            r"(?![\w-]|\.\d)(?:,? ?(?:ext\.?|extension|x) ?(?P<extension>\d{1,5}))?", _phone),
    numeric(r"(?<![\w.])(?P<number>\+\d{1,3}(?:[ .-]?\(?\d{1,10}\)?){1,7})(?![\w-])(?P<extension>(?!x)x)?", _phone),
    numeric(r"(?<![\w.,-])(?P<number>[2-9]\d\d \d{3} \d{4})(?![\w,-]|\.\d| \d)", _phone),
    numeric(r"(?<![\w.-])(?P<number>\d{3}-\d{4})(?![\w-]|\.\d)", _phone),
    numeric(r"(?<![\w.-])(?P<number>0\d{2,4}[ -]\d{3,4}[ -]?\d{3,4})(?![\w-]|\.\d)", _phone),
    numeric(r"\bISBN(?:-1[03])?:?\s(\d[\d -]{7,}[\dX])\b", lambda m: f"I.S.B.N {digits(m.group(1))}" + (
        " X" if m.group(1)[-1] == "X" else "")),
    numeric(r"\b(SSN|ISSN)\b:?\s(\d[\d-]{6,}[\dX])\b", lambda m: f"{spell(m.group(1))} {digits(m.group(2))}"),
    numeric(r"(?<![\w.,-])(\d{4}(?:[ -]\d{4}){2,3})(?![\w-])", lambda m: digits(m.group(1))),
    numeric(r"(?<![\w.,-])(\d{3}-\d{2}-\d{4})(?![\w-])", lambda m: digits(m.group(1))),
    numeric(r"(?<![\w.])((?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d))(?:/(\d\d?))?(?::(\d{1,5}))?"
            r"(?![\w]|\.\d)", _address),
)
_GROUP_END = r"(?![\w]|[.,]?\d| \d)"
GROUPS: tuple[Rule, ...] = (
    numeric(rf"(?<![\w.,])(?<!\d )([1-9]\d{{0,2}}(?: \d{{3}}){{2,}}){_GROUP_END}", _ungroup),
    numeric(rf"(?<![\w.,])(?<!\d )([1-9]\d{{0,2}} \d{{3}}){_GROUP_END}(?=\s*(?:[a-zA-Zμ€£%°]|[.,;:!?)]|$))", _ungroup),
    numeric(r"(?<![\w.,])([1-9]\d{0,2}(?:'\d{3})+)(?![\w'\"])", _ungroup),
    numeric(r"(?<![\w.,])([1-9]\d{0,2}(?:_\d{3})+)(?!\w)", _ungroup),
    numeric(r"(?<![\w.,])([1-9]\d?(?:,\d\d)+,\d{3})(?![\w,])", _ungroup),
    numeric(r"(?<![\w.,])([1-9]\d{0,2}(?:\.\d{3})+),(\d{1,2})(?![\w,])", _european),
    numeric(r"(?<![\w.,])([1-9]\d{0,2}(?:\.\d{3}){2,})(?![\w]|\.\d)", _ungroup),
)

VERSIONS: tuple[Rule, ...] = (
    numeric(r"\b(?:[Vv]ersion|[Vv]ers?\.?|[Vv]\.?)\s?(\d+(?:\.\d+)+)(?:-(?=[a-z]))?(?=[^\w]|rc|b\d|a\d|_|$)",
            lambda m: _version(m) + " "),
    numeric(r"\b(?:[Vv]ers?\.|v)\s?(\d+)\b", lambda m: f"version {cardinal(int(m.group(1)))}"),
    numeric(r"(?<![\d.])(\d+(?:\.\d+){2,})(?!\.?\d)", lambda m: points(m.group(1))),
    numeric(r"\b(Python|Ubuntu|Node|Java|Perl|Ruby|Go|iOS|macOS|Android|Windows|PHP|CUDA|Debian|Linux|Firefox|Chrome) "
            r"(\d+\.\d+)\b", lambda m: f"{m.group(1)} {points(m.group(2))}"),
    numeric(r"(?<![\w.])(-?\d+(?:\.\d+)?)[eE]([+-]?)(\d{1,3})\b(?!\.\d)", _power_of_ten),
)

_SCORE = r"\b(?:won|wins?|lost|loses?|beat|beats|led|leads?|drew|draws?|tied|score[ds]?|defeated|ahead|down|up)\b"
SCORES: tuple[Rule, ...] = (
    numeric(r"(?<![\w./])(50|20)\s?[-/]\s?(50|20)(?![\w/])", lambda m: (
        f"{cardinal(int(m.group(1)))} {cardinal(int(m.group(2)))}")),
    numeric(r"(?<![\w./])([2-9])/([48])(?= (?:time|meter|metre|measure|bar|beat|signature|rhythm)\b)", lambda m: (
        f"{cardinal(int(m.group(1)))} {cardinal(int(m.group(2)))}")),
    numeric(r"\b[Ff]/(\d+(?:\.\d+)?)\b", lambda m: f"F {amount(m.group(1))}"),
    numeric(r"(?<![\w./])(\d+\.\d+)/(\d+)(?![\w/])", lambda m: f"{amount(m.group(1))} out of {amount(m.group(2))}"),
    numeric(r"(?<![\w.:])(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)(?=[-\s]+(?:ratio|scale|odds|aspect|mixture|screen|display)\b)",
            lambda m: f"{amount(m.group(1))} to {amount(m.group(2))}"),
    numeric(r"(?<![\w.:])(\d{1,3}):(\d{1,3})(?![\w:]|\.\d)", lambda m: f"{amount(m.group(1))} to {amount(m.group(2))}"),
    numeric(r"(?<![\w.:])(\d{1,3})(?::\d{1,3}){2,}(?![\w:])", lambda m: digits(m.group())),
)

FRACTIONS: tuple[Rule, ...] = (
    numeric(r"(?<![\w.])(\d+)[ -](\d{1,2})/(\d{1,3})(?![\w/])", _mixed),
    numeric(rf"(?<![\w.])({NUMBER})\s?([{VULGAR}])(-(?=[a-z]))?", _mixed_vulgar),
    rule(r"½ (?=(?:cup|hour|mile|day|inch|pound|dozen|teaspoon|tablespoon|liter|pint|year)\b)", "half a "),
    rule(rf"[{VULGAR}]", lambda m: f" {vulgar(m.group())} "),
    numeric(r"⅟(\d+)", lambda m: fraction(1, int(m.group(1))) if int(m.group(1)) > 1 else "one over one"),
    numeric(r"(?<![\w./])(\d{1,4})/(\d{1,4})(?![\w/]|\.\d)", _slashed),
)

_MANY = r"(?:two|three|four|five|six|seven|eight|nine|ten|these|those|his|her|my|your|their|some|all|of|many|several)"
ORDINALS: tuple[Rule, ...] = (
    numeric(rf"\b({_MANY}) (\d{{1,3}})s\b", lambda m: f"{m.group(1)} {_several(m.group(2))}"),
    rule(r"(?<![\w'])([A-F])\+(?![\w+])", lambda m: f"{spell(m.group(1))} plus"),
    rule(r"(?<![\w'])([A-F])-(?=\s[a-z]|[,.]|$)", lambda m: f"{spell(m.group(1))} minus"),
    rule(r"&\s?([A-Z])s\b", r" and \1's"),
    numeric(r"(?<![\w.,])(\d[\d,]*)(?:st|nd|rd|th|ST|ND|RD|TH)\s?[-–—]\s?(?=\d[\d,]*(?:st|nd|rd|th)\b)", lambda m: (
        _ordinal(m) + " to ")),
    numeric(r"(?<![\w.])(\d{1,3}(?:,\d{3})*|\d+)-?(?:st|nd|rd|th|ST|ND|RD|TH)\b", _ordinal),
)
NUMBERS: tuple[Rule, ...] = (
    numeric(r"(?<![\w.])(\d+(?:\.\d+)?)x(?!\w)", lambda m: f"{amount(m.group(1))} times"),
    numeric(r"(?<=\d)(?:\s?[x×X]\s?)(?=\d)", " by "),
    numeric(r"(?<![\w.])(\d+(?:\.\d+)?)[kK]\b(?=\+?(?:[^\w-]|$))(?! (?:video|resolution|TV|screen|display|monitor))",
            lambda m: f"{amount(m.group(1))} thousand"),
    numeric(r"(?<![\w.])(\d+(?:\.\d+)?)M\b(?=\+?\s+[a-z])", lambda m: f"{amount(m.group(1))} million"),
    numeric(r"(?<![\w.])(\d+(?:\.\d+)?)(?:B|bn)\b(?=\+?\s+[a-z])", lambda m: f"{amount(m.group(1))} billion"),
    numeric(r"#\s?(?=\d)", "number "),
    rule(r"№ ?", "number "),
    numeric(r"\b(COVID|Covid|covid)-?19\b", "covid nineteen"),
    numeric(r"\b([A-Za-z]+)-(\d{1,4})(?![\w.,]\d|\w|-)", _behind_dash),
    numeric(r"(?<![\w.,])(?=\w*[A-Za-z])(?=\w*\d)(?:[A-Za-z]*\d+)+[A-Za-z]*(?!\w|[.,]\d)(?<!\d[a-z]{2})(?<!\ds)", code),
    numeric(rf"(?<![\w.,-])(-?{NUMBER})\s?[–—]\s?(-?{NUMBER})(?!\w)", _range),
    numeric(rf"(?<![\w.,-])({NUMBER})-({NUMBER})(?![\w-])", _range),
    numeric(r"(?<=\d)%\s?[-–—]\s?(?=\d)", " percent to "),
    numeric(r"(?<=\d) [-–] (?=\d)", " minus "),
    numeric(r"(?<=\d) ?/ ?(?=\d)", " divided by "),
    numeric(r"(?<=\d) ?\* ?(?=\d)", " times "),
    numeric(r"(?<![\w.])(\d+)'s?(?!\w)", _possessive_of),
    numeric(rf"(?<![\w)\].,])[-–−](?={NUMBER}|\.\d)", "minus "),
    numeric(r"(?<![\w)])\+(?=\d)", "plus "),
    numeric(r"(?<![\w.])\.(\d+)", lambda m: f"zero point {digits(m.group(1))}"),
    numeric(r"(?<![\w.])(\d+)('s|s)\b", _possessive),
    numeric(r"(?<![\d.,])(\d{16,})(?![\d,])", lambda m: digits(m.group(1))),
    numeric(r"\b((?:[Rr]oom|[Ff]light|[Rr]oute|[Hh]ighway|[Bb]us|[Ss]uite|[Aa]pt|[Aa]partment|[Aa]rea|[Ee]xtension)) "
            r"(\d{3})(?![\w]|[.,]\d)", _to_the_year),
    numeric(r"\b(ZIP|zip|PIN|pin|code|Code|postcode) (\d{4,6})(?![\w,]|\.\d)", lambda m: (
        f"{m.group(1).lower()} {digits(m.group(2))}")),
    numeric(rf"(?<![\d.,])({NUMBER})", lambda m: _spaced(m, plain_number(m.group(1)))),
    numeric(r"\d+", lambda m: _spaced(m, code_number(m.group()))),
)


def _spaced(match: re.Match, words: str) -> str:
    """Words with spaces where letters touch the number."""
    before, behind = match.string[:match.start()][-1:], match.string[match.end():][:1]
    return (" " if before.isalnum() else "") + words + (" " if behind.isalnum() else "")
