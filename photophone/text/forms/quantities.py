"""Money and measures: numbers with currencies, units, percents and degrees."""

from __future__ import annotations

import re

from photophone.text.forms.number_words import NUMBER, VULGAR, amount, cardinal, fraction, vulgar
from photophone.text.forms.rules import Rule, choices, numeric, rule, word_set
from photophone.text.forms.tables import ALONE, BASES, CURRENCIES, MAGNITUDES, PLURALS, PREFIXES, TAKES, UNITS

_DASH = r"\s?(?:[-–—])\s?"
_SIGNS = choices(sign for sign in CURRENCIES if not sign.replace(".", "").isalpha())
_CODES = choices(code for code in CURRENCIES if code.replace(".", "").isalpha())
_MONEY = rf"(?:{NUMBER}|\.\d\d)"
_MAGNITUDE = (r"(?P<magnitude>[\s-]?(?:hundred|thousand|million|billion|trillion)\b|\s?(?:bn|mn|tn|mil|tr|[kKmMbBT])"
              r"(?![\w'.]\w|\w))?")
_DETERMINER = re.compile(r"\b(?:[Aa]n?|[Tt]he|[Tt]his|[Tt]hat|[Ee]ach|[Ee]very|[Oo]ne|[Aa]nother|[Mm]y|[Yy]our|[Hh]is|"
                         r"[Hh]er|[Ii]ts|[Oo]ur|[Tt]heir|[Aa]ny|per)\s+(?:(?!(?:of|for|to|in|at|by)\b)[a-z]+\s+)?$")
_NOT_A_NOUN = word_set(
    "of in on at to and or is was are were be been per from by for with than as if when while but so because that "
    "which who whom he she it they we i you long tall wide deep high thick away ago later old each every more less "
    "only too above below before after over under between into out up down off back apart total here there now today "
    "yesterday tomorrow has have had will would can could may might must should do does did not a an the this these "
    "those his her their our my your its all north south east west then just about around till until since without "
    "within through plus minus times nor yet also still even again further faster slower longer shorter higher lower "
    "heavier lighter bigger smaller farther square cubic")


_NAMED = frozenset(sign for sign in CURRENCIES if len(sign) > 1)
"""Signs that stand for a currency as such where no number is beside them: "the US$"."""


def describes(match: re.Match) -> bool:
    """Whether a measure stands before what it measures: "a $20 bill", not "the $20 that he gave"."""
    behind = re.match(r"[\s-]([a-z]+)", match.string[match.end():match.end() + 40])
    if not behind or behind.group(1) in _NOT_A_NOUN:
        return False
    return bool(_DETERMINER.search(match.string[:match.start()][-60:]))


def _money(match: re.Match) -> str:
    """Words of an amount with its currency before or behind it."""
    first, number, magnitude = match.group("first", "number", "magnitude")
    one, many, cent, cents = CURRENCIES[match.group("symbol")]
    if describes(match):
        many, cents = one, cent
    elif match.group("symbol") in ("R$", "BRL"):
        one = "real"
    words = "minus " if match.group("sign") else ""
    if first:
        words += f"{amount(first)} to "
    if magnitude:
        magnitude = magnitude.strip(" -")
        return f"{words}{amount(number)} {MAGNITUDES.get(magnitude, magnitude)} {many}"
    whole, _, part = number.partition(".")
    if not cent or len(part) != 2:
        return f"{words}{amount(number)} {one if number == '1' and not first else many}"
    pieces = [] if whole in ("0", "") and part != "00" else [f"{amount(whole)} {one if whole == '1' else many}"]
    if part != "00":
        pieces.append(f"{cardinal(int(part))} {cent if part == '01' else cents}")
    return words + " and ".join(pieces)


def _between(match: re.Match) -> str:
    """"five to" of "$5–" before another amount of the same currency."""
    return f"{match.group(2)}–{match.group(1)}"


MONEY: tuple[Rule, ...] = (
    numeric(rf"({_SIGNS})({NUMBER}){_DASH}\1(?={NUMBER})", lambda m: f"{m.group(1)}{m.group(2)}-"),
    numeric(rf"(?<!\w)(?P<sign>[-−])?(?P<symbol>{_SIGNS})\s?-?(?:(?P<first>{NUMBER}){_DASH})?(?P<number>{_MONEY})"
            rf"{_MAGNITUDE}", _money),
    numeric(rf"(?<!\w)(?P<sign>[-−])?(?P<symbol>{_CODES})\s(?:(?P<first>{NUMBER}){_DASH})?(?P<number>{NUMBER}){_MAGNITUDE}"
            r"(?!\w)", _money),
    numeric(rf"(?<![\w.])(?P<sign>[-−])?(?:(?P<first>{NUMBER}){_DASH})?(?P<number>{NUMBER}){_MAGNITUDE}\s?"
            rf"(?P<symbol>{_CODES}|[$€£₹₿¥₽₺])(?![\w])", _money),
    numeric(rf"(?<![\w.])({NUMBER})\s?¢", lambda m: f"{amount(m.group(1))} cent" + (
        "" if m.group(1) == "1" or describes(m) else "s")),
    rule(rf"(?<!\w)(?:{_SIGNS})(?!\d|\.\d)", lambda m: f" {CURRENCIES[m.group()][m.group() not in _NAMED]} "),
    rule(rf"(?<=dollars|.pounds|..euros|..cents)/({choices(UNITS)})\b", lambda m: f" per {UNITS[m.group(1)]}"),
    rule(r"(?<=[a-z]s)/(min|sec|hr|yr|mo|wk|d|h|s)\b(?!/)", lambda m: " per " + {"s": "second", **UNITS}[m.group(1)]),
    rule(r"\b(dollar|pound|euro|cent|rupee|yuan|yen|pence|franc|million|billion|thousand)(s?)/\s?(?=[a-z]{2,})",
         r"\1\2 per "),
)


def _all_units() -> dict[str, str]:
    units = {prefix + base: PREFIXES[prefix] + BASES[base] for prefix, bases in TAKES.items() for base in bases.split()}
    return units | {base: BASES[base] for base in ALONE} | UNITS


ALL_UNITS = _all_units()
"""Every unit's symbol and its name."""
_UNIT = choices(ALL_UNITS)
_POWER = r"(?:[²³⁴]|\^[234]|(?<=[mt])[23](?!\w))?"
_COMPOUND = rf"(?:{_UNIT}){_POWER}(?:\s?[/·]\s?(?:{_UNIT}){_POWER}|\s(?:{_UNIT})⁻[¹²³])*"
_ONE_UNIT = re.compile(rf"([/·\s]*)({_UNIT})([²³⁴]|\^?[234]|⁻[¹²³])?(?=$|[/·\s⁻])")
_POWERS = {"²": "square", "2": "square", "³": "cubic", "3": "cubic", "⁴": "quartic", "4": "quartic"}


def plural(name: str) -> str:
    """Many of a unit: the s stands behind its last word, or before "per", "of", "Celsius"."""
    head, _, tail = name.partition(" ")
    if tail and not tail.startswith(("per ", "of ", "Celsius", "Fahrenheit")):
        return f"{head} {plural(tail)}"
    many = PLURALS.get(head) or (head if head.endswith("hertz") else head + "s")
    return f"{many} {tail}" if tail else many


def unit_words(symbols: str, many: bool) -> str:
    """"milligrams per deciliter" of mg/dL."""
    words = ""
    place = 0
    while match := _ONE_UNIT.match(symbols, place):
        between, symbol, power = match.groups()
        place = match.end()
        name = ALL_UNITS[symbol]
        power = (power or "").lstrip("^")
        below = "/" in between or power.startswith("⁻")
        if power in _POWERS:
            measured = name.endswith("meter") or name in ("foot", "inch", "mile", "yard")
            name = f"{_POWERS[power]} {name}" if measured and not below else name
            squared = "" if measured and not below else " squared" if power in "²2" else " cubed"
        else:
            squared = {"⁻²": " squared", "⁻³": " cubed"}.get(power, "")
        if below and measured_area(symbol, power):
            name, squared = f"{'square' if power[-1] in '²2' else 'cubic'} {name}", ""
        if not words:
            words = (plural(name) if many else name) + squared
        else:
            words += (" per " if below else " ") + name + squared
    return words


def measured_area(symbol: str, power: str) -> bool:
    """Whether a unit below a fraction is an area or a volume: "per square meter", but "per second squared"."""
    return power[-1:] in ("²", "2", "³", "3") and ALL_UNITS[symbol].endswith(("meter", "foot", "inch"))


def _measure(match: re.Match) -> str:
    first, number, between, symbols = match.group("first", "number", "between", "unit")
    hyphened = between == "-"
    singular = number.lstrip("-") == "1" and not first or hyphened or describes(match)
    sign = "minus " if match.group("sign") else ""
    start = f"{amount(first)} to " if first else ""
    return f"{sign}{start}{amount(number)} {unit_words(symbols, not singular)}"


def _feet(match: re.Match) -> str:
    return f"{cardinal(int(match.group(1)))} foot {amount(match.group(2))}"


def _angle(match: re.Match) -> str:
    words = f"{amount(match.group(1))} degrees"
    if match.group(2):
        words += f" {amount(match.group(2))} minutes"
    if match.group(3):
        words += f" {amount(match.group(3))} seconds"
    return words + (f" {_SIDES[match.group(4)]}" if match.group(4) else "")


_SIDES = {"N": "north", "S": "south", "E": "east", "W": "west"}
_BEHIND = r"(?![\wΩ°'⁻/]|-[a-z]*\d)"


def _part_of_unit(match: re.Match) -> str:
    whole, above, below, unit = match.groups()
    if not 0 < int(above) < int(below):
        return match.group()
    words = fraction(int(above), int(below))
    return (f"{cardinal(int(whole))} and " if whole else "") + f"{words} {unit_words(unit, bool(whole))}"


def _vulgar_unit(match: re.Match) -> str:
    whole, part, unit = match.groups()
    words = vulgar(part)
    return (f"{cardinal(int(whole))} and " if whole else "") + f"{words} {unit_words(unit, bool(whole))}"


UNIT_RULES: tuple[Rule, ...] = (
    numeric(rf"(?<![\w.,])(\d{{1,3}}),(\d{{1,2}})(?=\s?(?:%|(?:{_COMPOUND}){_BEHIND}))", r"\1.\2"),  # a decimal comma
    numeric(rf"({NUMBER})\s?%{_DASH}(?=\d)", lambda m: f"{amount(m.group(1))} percent to "),
    numeric(r"(?<=\d) K\b(?![\w.-])(?! [a-z]+s?\b)", " kelvins"),
    numeric(r"(?<![\w.])(\d{1,3}(?:\.\d+)?)\s?°\s?(\d{1,2}(?:\.\d+)?)'\s?(?:(\d{1,2}(?:\.\d+)?)(?:\"|''))?\s?([NSEW]\b)?",
            _angle),
    numeric(r"(?<![\w.])(\d{1,3}(?:\.\d+)?)\s?°\s?()()([NSEW])\b", _angle),
    numeric(r"\b(\d{1,2})'\s?(\d{1,2}(?:\.\d+)?)(?:''|\")?(?![\w'])", _feet),
    numeric(r"(?<![\w.'])(\d{1,3}(?:\.\d+)?)(?:''|\")(?=\s+[a-z]|\s?[x×])", lambda m: f"{amount(m.group(1))} inch" + (
        "" if m.group(1) == "1" or describes(m) else "es" if "x" in m.string[m.end():m.end() + 2] else "")),
    numeric(r"(?<!\w)(\d{1,3})'\s?[x×]\s?(\d{1,3})'", lambda m: (
        f"{cardinal(int(m.group(1)))} foot by {cardinal(int(m.group(2)))} foot")),
    numeric(r"(?<!\w)(\d+(?:\.\d+)?)\"?\s?[x×]\s?(\d+(?:\.\d+)?)\"", lambda m: (
        f"{amount(m.group(1))} by {amount(m.group(2))} inches")),
    numeric(r"(?<!\w)(\d{1,3})'(?=\s(?:tall|wide|long|deep|high)\b)", lambda m: f"{cardinal(int(m.group(1)))} feet"),
    numeric(r"(?<=[A-Za-z]) [x×] (?=\d)", " by "),
    numeric(rf"(?<![\w./])(?:(\d+)[ -])?(\d{{1,2}})/(\d{{1,2}})[\s-]?({_COMPOUND}){_BEHIND}", _part_of_unit),
    rule(rf"(?<![\w./])(\d+)?\s?([{VULGAR}])[\s-]?({_COMPOUND}){_BEHIND}", _vulgar_unit),
    numeric(rf"(?<![\w.])({NUMBER}) in\.(?=\s+[a-z])|(?<![\w.])({NUMBER}) in (?=(?:tall|wide|long|deep|high|thick|x)\b)"
            rf"|(?<=[a-z] )({NUMBER}) in(?=[.,;:]?$)", lambda m: (
                f"{amount(next(filter(None, m.groups())))} inches ")),
    numeric(rf"\b(\d+)\s?(?:ft\.?|feet)\s({NUMBER})\s?in\b(?:\.(?=\s+[a-z]))?(?!\s+(?:the|a|my|his)\b)", lambda m: (
        f"{amount(m.group(1))} feet {amount(m.group(2))} inches")),
    numeric(rf"(?<![\w.,])(?P<sign>(?<![\w)])[-−])?(?:(?P<first>{NUMBER}){_DASH})?(?P<number>{NUMBER})(?P<between>\s?|-)"
            rf"(?P<unit>{_COMPOUND})\.(?=\s+[a-z(]|,)", _measure),
    numeric(rf"(?<![\w.,])(?P<sign>(?<![\w)])[-−])?(?:(?P<first>{NUMBER}){_DASH})?(?P<number>{NUMBER})(?P<between>\s?|-)"
            rf"(?P<unit>{_COMPOUND}){_BEHIND}", _measure),
    numeric(rf"(?<![\w.,])(?P<sign>(?<![\w)])[-−])?(?:(?P<first>{NUMBER}){_DASH})?(?P<number>{NUMBER})(?P<between>\s?|-)"
            rf"(?P<unit>{_COMPOUND})/(?=[a-z]{{3,}})", lambda m: _measure(m) + " per "),
    rule(rf"(?<![\w/.])(?=\w{{2}})(?:{_UNIT}){_POWER}/(?:{_UNIT}){_POWER}(?![\w/])", lambda m: (
        unit_words(m.group(), True))),
    numeric(rf"(?<![\w.,])({NUMBER}){_DASH}({NUMBER})\s?%", lambda m: (
        f"{amount(m.group(1))} to {amount(m.group(2))} percent")),
    numeric(rf"(?<![\w.])({NUMBER})\s?%", lambda m: f"{amount(m.group(1))} percent"),
    numeric(rf"(?<![\w.])({NUMBER})/(?=(?:second|minute|hour|day|week|month|year|person|night|capita)\b)", lambda m: (
        f"{amount(m.group(1))} per ")),
    numeric(rf"(?<![\w.])({NUMBER})\s?°", lambda m: f"{amount(m.group(1))} degree" + (
        "" if m.group(1) == "1" or describes(m) else "s")),
)
