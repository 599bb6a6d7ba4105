"""Written forms that the phoneme reader reads badly, rewritten as words that it reads well.

The reader of hibari-tts knows plain numbers, ordinals, years, fractions, clock times, common dates, titles, most
abbreviations and units. What stands here are the forms that it misreads or spells out: addresses of the web, file
names, emoji, markup, money in lists, telephone numbers, versions, symbols of units, words in capitals.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable

from photophone.text.names import (
    CURRENCIES,
    EXTENSIONS,
    FUNCTION_WORDS,
    GREEK,
    MAGNITUDES,
    REGNAL,
    SYMBOLS,
    TOP_LEVEL,
    UNITS,
)

LONGEST_WORD = 200
"""Characters; longer ones are cut, so that no rule looks far."""
NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
_DOMAIN = r"(?:[A-Za-z0-9](?:[\w-]*[A-Za-z0-9])?\.)+(?:[A-Za-z]{2,24})(?::\d{1,5})?"
_TOP = "|".join(sorted(TOP_LEVEL, key=len, reverse=True))
_ROMAN = r"(?=[IVX]{2})X{0,3}(?:IX|IV|V?I{0,3})"
Rule = tuple[re.Pattern, str | Callable[[re.Match], str]]


def digits(text: str) -> str:
    """Digits one by one, in groups as they are written: "(212) 555" becomes "2 1 2, 5 5 5"."""
    return ", ".join(" ".join(group) for group in re.findall(r"\d+", text))


def split_words(name: str) -> str:
    """A name of a program, tag or path as words: at underscores, dashes and capitals inside."""
    name = re.sub(r"[_\-+~%]+", " ", name)
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", " ", name)
    return " ".join("AI" if word.lower() == "ai" else word for word in name.split())


def dotted(name: str, endings: dict[str, str]) -> str:
    """Parts between dots as words, the last one by its usual name."""
    *parts, last = name.split(".")
    last = endings.get(last.lower(), split_words(last))
    return " dot ".join([*(split_words(part) for part in parts if part), last])


def _domain(name: str) -> str:
    name, _, port = name.partition(":")
    parts = name.split(".")
    cut = next((i for i in range(1, len(parts)) if all(p.lower() in TOP_LEVEL for p in parts[i:])), len(parts) - 1)
    words = [split_words(part) for part in parts[:cut]] + [TOP_LEVEL.get(p.lower(), p) for p in parts[cut:]]
    return " dot ".join(words) + (f" port {port}" if port else "")


def _url(match: re.Match) -> str:
    """The address without scheme, "www.", query and anchor, and at most three parts of its path."""
    whole = match.group()
    tail = ""
    stripped = whole.rstrip(".,;:!?)]}'\"”’")
    tail = whole[len(stripped):]
    host, _, path = re.sub(r"^(?:\w+://)?(?:www\.)?", "", stripped).partition("/")
    path = re.split(r"[?#]", path)[0]
    host = re.split(r"[?#]", host)[0]
    parts = [dotted(part, EXTENSIONS) for part in path.split("/") if part][:3]
    return " slash ".join([_domain(host), *parts]) + tail


def _email(match: re.Match) -> str:
    user = " dot ".join(split_words(part) for part in match.group(1).replace("+", " plus ").split("."))
    return f"{user} at {_domain(match.group(2))}"


def _file(match: re.Match) -> str:
    return dotted(match.group(), EXTENSIONS)


def _path(match: re.Match) -> str:
    parts = [dotted(part, EXTENSIONS) for part in re.split(r"[/\\]", match.group()) if part]
    return "slash " + " slash ".join(parts)


def _money(match: re.Match) -> str:
    """Words of an amount with its currency before or behind it."""
    sign, symbol, amount, magnitude, code = match.group("sign", "symbol", "amount", "magnitude", "code")
    one, many, cent, cents = CURRENCIES[symbol or code]
    sign = "minus " if sign else ""
    if magnitude:
        return f"{sign}{amount} {MAGNITUDES.get(magnitude.strip(), magnitude.strip())} {many}"
    whole, _, part = amount.partition(".")
    if not cent or len(part) != 2:
        return f"{sign}{amount} {one if amount == '1' else many}"
    words = [] if whole == "0" and part != "00" else [f"{whole} {one if whole == '1' else many}"]
    if part != "00":
        words.append(f"{int(part)} {cent if part == '01' else cents}")
    return sign + " and ".join(words)


def _unit(match: re.Match) -> str:
    number, unit = match.group(1, 2)
    one, many = UNITS[unit.replace("^2", "²").replace("^3", "³").rstrip(".")]
    return f"{number} {one if number.lstrip('-') in ('1', '1.0') else many}"


def _version(match: re.Match) -> str:
    word = "version" if match.group(1).lower() in ("v", "v.", "ver.", "version") else match.group(1)
    word = "Version" if match.group(1)[0] == "V" else word
    return f"{word} " + " point ".join(match.group(2).split("."))


def roman(numeral: str) -> int:
    """Value of a Roman numeral in capitals of I, V and X."""
    values = [{"I": 1, "V": 5, "X": 10}[letter] for letter in numeral]
    return sum(-v if v < following else v for v, following in zip(values, [*values[1:], 0]))


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def _tag(match: re.Match) -> str:
    return ("hashtag " if match.group(1) == "#" else "at ") + split_words(match.group(2))


def _shout(match: re.Match) -> str:
    """A run of words in capitals, lower case but for what looks like an abbreviation."""
    words = re.split(r"(\W+)", match.group())
    if sum(word in FUNCTION_WORDS or len(word) > 3 for word in words) < sum(map(str.isalpha, words)) / 2:
        return match.group()
    quiet = [word.lower() if word in FUNCTION_WORDS or (len(word) > 3 and re.search("[AEIOUY]", word)) else word
             for word in words]
    return "".join(quiet)[:1].upper() + "".join(quiet)[1:]


def _alternating(match: re.Match) -> str:
    word = match.group()
    changes = sum(a.isupper() != b.isupper() for a, b in zip(word, word[1:]))
    return word.capitalize() if changes > len(word) / 2 and not word.startswith(("Mc", "Mac")) else word


def _emoji_name(character: str) -> str:
    name = unicodedata.name(character, "").lower()
    name = re.sub(r"^(?:(?:white|black|heavy|medium|large|small|negative|squared|circled) )+", "", name)
    return re.sub(r" (?:sign|symbol)$| with rays$", "", name)


def is_emoji(character: str) -> bool:
    """True for pictures, not for letters, punctuation or signs of mathematics."""
    code = ord(character)
    return (0x1F300 <= code <= 0x1FAFF or 0x2600 <= code <= 0x27BF or 0x2B00 <= code <= 0x2BFF) and (
        unicodedata.category(character) == "So")


def read_emoji(text: str) -> str:
    """Each picture by its Unicode name between commas; a repeated one once; skin tones and joiners left out."""
    text = re.sub("[\U0001F3FB-\U0001F3FF\u200d\ufe0e\ufe0f\u20e3]", "", text)
    text = re.sub("[\U0001F1E6-\U0001F1FF]{2}", ", flag, ", text)
    parts: list[str] = []
    last = ""
    for character in text:
        if is_emoji(character):
            if character != last:
                parts.append(f", {_emoji_name(character)}, ")
            last = character
        else:
            parts.append(character)
            last = last if character.isspace() else ""
    text = "".join(parts)
    text = re.sub(r",[\s,]*(?=[,.!?;:])|(?<=[,.!?;:])\s*,", "", text) if ", " in text else text
    return re.sub(r"^[\s,]+", "", text)


def plain_characters(text: str) -> str:
    """One form of every character: composed, half width, without control and formatting characters."""
    text = unicodedata.normalize("NFC", text)
    text = "".join(_plain(character) for character in text)
    text = re.sub("[\u0300-\u036f\u0483-\u0489]+", "", text)  # marks that no letter took up
    return text.translate(_PUNCTUATION)


_PUNCTUATION = str.maketrans({"‘": "'", "’": "'", "‚": "'", "‛": "'", "´": "'", "ʼ": "'", "“": '"', "”": '"', "„": '"',
                              "«": '"', "»": '"', "‹": "'", "›": "'", "‐": "-", "‑": "-", "‒": "-", "−": "-",
                              "―": "—", "⁄": "/", "∕": "/", "…": "...", "¡": "", "¿": "", "。": ". ", "、": ", "})


def _plain(character: str) -> str:
    category = unicodedata.category(character)
    code = ord(character)
    if character in "\n\t" or category == "Zs":
        return "\n" if character == "\n" else " "
    if category in ("Zl", "Zp") or character in "\x0b\x0c\x85\r":
        return "\n"
    if category in ("Cc", "Cf", "Co", "Cs", "Cn"):
        return character if code == 0x200D else ""  # the joiner of emoji goes with them
    if 0xFF01 <= code <= 0xFF5E or 0xFB00 <= code <= 0xFB06 or 0x1D400 <= code <= 0x1D7FF or 0x2460 <= code <= 0x24FF:
        return unicodedata.normalize("NFKC", character)
    if 0x100 <= code < 0x250:  # Latin letters that the reader does not know
        return _LATIN.get(character) or unicodedata.normalize("NFKD", character)[0]
    return character


_LATIN = {"ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ı": "i", "œ": "oe", "Œ": "Oe", "ħ": "h", "ŋ": "ng", "ſ": "s",
          "ĸ": "k", "ŧ": "t", "Ŧ": "T"}


def _rule(pattern: str, replacement: str | Callable[[re.Match], str], flags: int = 0) -> Rule:
    return re.compile(pattern, flags), replacement


_SIGNS = "|".join(re.escape(s) for s in sorted((s for s in CURRENCIES if not s.isalpha()), key=len, reverse=True))
_CODES = "|".join(sorted((s for s in CURRENCIES if s.isalpha()), key=len, reverse=True))
_MAGNITUDE = r"(?P<magnitude>\s?(?:hundred|thousand|million|billion|trillion)\b|\s?(?:bn|mn|tn|[kKmMbBT])(?![\w]))?"
_UNIT = "|".join(re.escape(u) for u in sorted(UNITS, key=len, reverse=True)).replace("²", r"(?:²|\^2)").replace(
    "³", r"(?:³|\^3)")

MARKUP: tuple[Rule, ...] = (
    _rule(r"```\w*", " "),
    _rule(r"!?\[([^\[\]\n]{1,300})\]\([^()\n]{0,300}\)", r"\1"),  # Markdown links: only their text
    _rule(r"</?[A-Za-z][^<>\n]{0,200}>", " "),
    _rule(r"^[^\S\n]*(?:#{1,6}|>+|[*+•‣▪·-]|\d{1,3}[.)](?=\s+[A-Z]))\s+", "\n\n", re.M),
    _rule(r"(?<!\w)(\*\*|__|\*|_|~~|`)(?=\S)(.{1,300}?)(?<=\S)\1(?!\w)", r"\2"),
    _rule(r"^[^\S\n]*[-=_*#~+]{3,}[^\S\n]*$", "\n\n", re.M),
    _rule(r"(?<!\S)(?:[:;=8]-?[)(DPpOo|/\\*]|<3+|\^\^|xD)(?!\S)", ""),
)

ADDRESSES: tuple[Rule, ...] = (
    _rule(r"\b(?:https?|ftp)://[^\s<>\"]+|\bwww\.[^\s<>\"]+", _url, re.I),
    _rule(rf"(?<![\w.+-])([\w.+-]{{1,64}})@({_DOMAIN})\b", _email),
    _rule(rf"(?<![\w@./-])(?:[A-Za-z0-9][\w-]*\.)+(?:{_TOP})(?::\d+)?(?:/[^\s<>\"]*|(?![\w-]|\.\w))", _url),
    _rule(rf"(?<![\w.-])[\w-]+(?:\.[\w-]+)*\.(?:{'|'.join(EXTENSIONS)})(?![\w])", _file),
    _rule(r"(?<![\w.)\"])(?:~|[A-Za-z]:)?(?:[/\\][\w.-]*[A-Za-z][\w.-]*){2,}[/\\]?", _path),
    _rule(r"(?<![\w&])([@#])([A-Za-z_]\w*)", _tag),
    _rule(r"(?<![\w.])\.NET\b", "dot net"),
    _rule(r"\b([CFJ])#(?!\w)", r"\1 sharp"),
)

TIMES: tuple[Rule, ...] = (
    _rule(r"\b(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?::\d\d(?:\.\d+)?)?(?:Z\b|\+00:?00)", r"\1 at \2 UTC"),
    _rule(r"\b(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::\d\d(?:\.\d+)?)?(?:[+-]\d\d:?\d\d)?", r"\1 at \2"),
    _rule(r"\b(\d{4})/(\d\d)/(\d\d)\b", r"\1-\2-\3"),
    _rule(r"(?<![\d.])(0?[1-9]|[12]\d|3[01])\.(0?[1-9]|1[0-2])\.((?:19|20)\d\d)(?![\d.]\d)", lambda m: (
        f"{m.group(3)}-{int(m.group(2)):02d}-{int(m.group(1)):02d}")),
    _rule(r"\b(\d{1,2}(?::\d\d)?)\s?(?:[-–—]|to)\s?(\d{1,2}(?::\d\d)?)\s?([ap])\.?m\b\.?", r"\1 to \2 \3.m."),
    _rule(r"\b(\d{1,2}:\d\d)\s?[-–—]\s?(\d{1,2}:\d\d)\b", r"\1 to \2"),
    _rule(r"(\d)\s?([AaPp])\.?[Mm]\b(?:\.(?=\s+[a-z,;])|\.(?=[,;:!?]))?", lambda m: (
        f"{m.group(1)} {m.group(2).upper()}.M.")),
    _rule(r"\b(Mon|Tue|Tues|Wed|Thu|Thurs|Fri|Sat|Sun)\s?[-–]\s?(Mon|Tue|Tues|Wed|Thu|Thurs|Fri|Sat|Sun)\b",
          r"\1. to \2."),
    _rule(r"\b(Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\s?[-–]\s?"
          r"(Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b", r"\1. to \2."),
    _rule(r"\b24\s?/\s?7\b", "24 7"),
    _rule(r"\b9/11\b", "9 11"),
)

NUMBERS: tuple[Rule, ...] = (
    _rule(r"\b((?:[Cc]all|[Dd]ial|[Rr]ing) )(\d{3}-\d{4})\b(?!-)", lambda m: m.group(1) + digits(m.group(2))),
    _rule(r"\b((?:[Cc]all|[Dd]ial|[Rr]ing) )(\d{3})\b(?!-)", lambda m: m.group(1) + digits(m.group(2))),
    _rule(r"(?<![\w.-])1-(\d{3}-\d{3}-\d{4})(?![\w-])", lambda m: "1, " + digits(m.group(1))),
    _rule(r"(?<![\w.])(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)[ .-]?|\d{3}[.-])\d{3}[ .-]\d{4}(?![\w-])", lambda m: (
        ("plus " if m.group()[0] == "+" else "") + digits(m.group()))),
    _rule(r"(?<![\w.])\+\d{1,3}(?:[ .-]?\(?\d{2,10}\)?){1,5}(?![\w-])", lambda m: "plus " + digits(m.group())),
    _rule(r"\b(ISBN(?:-1[03])?:?|SSN:?)\s(\d[\d-]{7,}[\dX])\b", lambda m: f"{m.group(1)[:4].rstrip(':')} "
          + digits(m.group(2))),
    _rule(r"(?<![\w.])(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?::(\d+))?(?![\w.]\d)", lambda m: (
        " dot ".join(m.groups()[:4]) + (f" port {m.group(5)}" if m.group(5) else ""))),
    _rule(r"\b([Vv]ersion|[Vv]\.?|[Vv]er\.)\s?(\d+(?:\.\d+)+)", _version),
    _rule(r"(?<![\d.])(\d+(?:\.\d+){2,})(?!\.?\d)", lambda m: " point ".join(m.group(1).split("."))),
    _rule(r"(?<![\w.])(-?\d+(?:\.\d+)?)[eE]([+-]?)(\d{1,3})\b", lambda m: (
        f"{m.group(1)} times 10 to the {'minus ' if m.group(2) == '-' else ''}{m.group(3)}")),
    _rule(r"(?<![\w.])(\d+)\s(\d)/(\d)(?![\w/])", r"\1 and \2/\3"),
    _rule(r"(?<=\d)\s?([½¼¾⅓⅔⅛])", lambda m: " and " + _VULGAR[m.group(1)]),
    _rule(r"[⅓⅔⅛]", lambda m: _VULGAR[m.group()]),
    _rule(rf"({_SIGNS})({NUMBER})(?: [-–] |[-–])(?:{_SIGNS})?(?={NUMBER})", r"\2 to \1"),
    _rule(rf"(?<!\w)(?P<sign>[-−])?(?P<symbol>{_SIGNS})\s?(?P<amount>{NUMBER}){_MAGNITUDE}(?P<code>(?!x)x)?", _money),
    _rule(rf"(?<![\w.])(?P<sign>[-−])?(?P<amount>{NUMBER}){_MAGNITUDE}\s?(?P<code>{_CODES}|[€£₹₿])(?!\w)"
          r"(?P<symbol>(?!x)x)?", _money),
    _rule(r"(?<=(?:dollar|.pound|..euro))s?/(month|year|week|day|hour|person|night)\b", r"s per \1"),
    _rule(r"(?<=\d)/(month|year|week|day|hour|person|night)\b", r" per \1"),
    _rule(rf"(?<![\w.])({NUMBER})\s?[-–]\s?({NUMBER})\s?%", r"\1 to \2%"),
    _rule(r"\b(\d{1,2})'(\d{1,2})(?:''|\")", r"\1 foot \2"),
    _rule(r"\b(\d{1,3})(?:''|\")(?=\s+[a-z])", r"\1 inch"),
    _rule(r"(?<=\d)(?:\s?x\s?|×)(?=\d)", " by "),
    _rule(r"(?<![\w.\-])(?!\d{3}-\d{4})(\d{1,4})\s?[-–]\s?(\d{1,4})(?=\.(?:\s|$))", r"\1 to \2"),
    _rule(r"(?<![\w./])(\d{1,2}/\d{1,2})(?=\.(?:\s|$))", r"\1 "),
    _rule(r"(?<=\d) in\.(?=\s+[a-z])", " inches"),
    _rule(r"(?<=\d)(\s?ft\.?| feet)( \d+) in\b", r" feet\2 inches"),
    _rule(r"(?<=\d) s\b(?!')", " seconds"),
    _rule(r"(?<![\w.])(\d+(?:\.\d+)?)x(?!\w)", r"\1 times"),
    _rule(rf"(?<![\w.,])(-?{NUMBER})\s?({_UNIT})\.?(?=\s+[a-z(])(?![\w/])", _unit),
    _rule(rf"(?<![\w.,])(-?{NUMBER})\s?({_UNIT})(?![\w/°'])", _unit),
    _rule(r"°\s?([NSEW])\b", lambda m: " degrees " + {"N": "north", "S": "south", "E": "east",
                                                        "W": "west"}[m.group(1)]),
    _rule(r"(?<![\w.])(\d{2,}|[13679](?:\.\d+)?|\d\.\d+)[kK]\b", r"\1 thousand"),
    _rule(r"(?<![\w.])(\d+(?:\.\d+)?)M\b(?=\s+[a-z])", r"\1 million"),
    _rule(r"(?<![\w.])(\d+(?:\.\d+)?)(?:B|bn)\b(?=\s+[a-z])", r"\1 billion"),
    _rule(r"(?<![\w.])(\d{1,2}):(\d{1,2})(?=\s+(?:ratio|scale|odds|aspect|mixture|screen|display)\b)", r"\1 to \2"),
    _rule(r"(?<![\w.:])(\d{1,2}):(\d)(?![\w:])", r"\1 to \2"),
    _rule(r"(?<![\w./])(50|20)\s?[-/]\s?\1(?![\w/])", r"\1 \1"),
    _rule(r"(?<![\w./])(\d+\.\d+)/(\d+)(?![\w/])", r"\1 out of \2"),
    _rule(r"(?<![\w.])\.(?=\d)", "0."),
    _rule(r"(?<![\w.,])(\d{16,})(?![\w,])", lambda m: digits(m.group(1))),
    _rule(r"(?<![\w.,:-])(0\d+)(?![\w.,:/-]\d|\w)", lambda m: digits(m.group(1))),
    _rule(r"(?<=\d) - (?=\d)", " minus "),
    _rule(r"(?<=\d) / (?=\d)", " divided by "),
    _rule(r"(?<=\d) \* (?=\d)", " times "),
)
_VULGAR = {"½": "a half", "¼": "a quarter", "¾": "three quarters", "⅓": "a third", "⅔": "two thirds",
           "⅛": "an eighth"}

WORDS: tuple[Rule, ...] = (
    _rule(rf"\b({_ROMAN})(?=\s+(?:century|centuries|dynasty)\b)", lambda m: _ordinal(roman(m.group(1)))),
    _rule(rf"\b({'|'.join(REGNAL)}) ({_ROMAN})\b", lambda m: f"{m.group(1)} the {_ordinal(roman(m.group(2)))}"),
    _rule(rf"(?<=[a-z] )({_ROMAN})\b(?!['.]\w)", lambda m: str(roman(m.group(1)))),
    _rule(r"\b(?:[A-Z]{2,}|A|I)(?:(?: |, |[-'])(?:[A-Z]{2,}|A|I)\b){2,}", _shout),
    _rule(r"\b(?:[A-Z]+N'T|I'M|(?:WE|YOU|THEY|HE|SHE|IT|I|THAT|WHAT|THERE)'(?:S|RE|VE|LL|D))\b", lambda m: (
        m.group().capitalize())),
    _rule(rf"\b(?:{'|'.join(sorted(word for word in FUNCTION_WORDS if len(word) > 3))})\b", lambda m: (
        m.group().lower())),
    _rule(r"\b(?=\w*[a-z])[A-Za-z]{5,}\b", _alternating),
    _rule(r"\bAT&T\b", "A.T. and T"),
    _rule(r"\bREADME\b", "reed me"),
    _rule(r"\bJSON\b", "json"),
    _rule(r"\b[Ss]hh+\b", "shush"),
    _rule(r"#\s?(?=\d)", "number "),
    _rule(r"\bkm/h\b", "kilometers per hour"),
    _rule(r"\^2\b", " squared"),
    _rule(r"\^3\b", " cubed"),
    _rule(r"\^", " to the power of "),
    _rule(r"(?<=[\w)])\s*<\s*(?=[\w(-])", " is less than "),
    _rule(r"(?<=[\w)])\s*>\s*(?=[\w(-])", " is greater than "),
    _rule(r"(\w) ?'n'? (?=\w)", r"\1 and "),
    _rule(r"\ba\.k\.a\.?", "also known as"),
    _rule(r"\bca?\. (?=\d)", "circa "),
    _rule(r"\bp\. (?=\d)", "page "),
    _rule(r"\bN\.B\.", "note well"),
    _rule(r"\be\.g\.,?", "for example,"),
    _rule(r"\bi\.e\.,?", "that is,"),
    _rule(r"\betc\.(?=\s+[a-z])", "etc"),
    _rule(r"\bai\b", "AI"),
    _rule(r"№ ?", "number "),
    _rule(r"℃", "°C"),
    _rule(r"℉", "°F"),
    _rule(r"([A-Za-z])\1{3,}", r"\1\1"),
    _rule(r"\b(\w{24})(?=\w{16})", r"\1 "),
    _rule(r"(?<![\w])([^\W\d_])(?![\w])", lambda m: GREEK.get(m.group(1), m.group(1))),
    _rule("|".join(re.escape(s) for s in sorted(SYMBOLS, key=len, reverse=True)), lambda m: f" {SYMBOLS[m.group()]} "),
)

PUNCTUATION: tuple[Rule, ...] = (
    _rule(r"[\[({<]+\s*", ", "),
    _rule(r"\s*[\])}>]+", ", "),
    _rule(r"\s*(?:—|–(?!\d)|--+)\s*|\s+-\s+", ", "),
    _rule(r"\.{2,}|(?:\. ){2,}\.", ", "),
    _rule(r"[!?]*\?[!?]*", "?"),
    _rule(r"!{2,}", "!"),
    _rule(r"[\"`~|\\^_*#=<>]+", " "),
    _rule(r"(?<!\w)'+|'+(?!\w)", " "),
    _rule(r"(?:\s*[,;:])+\s*(?=[.!?])|(?:\s*[,;:])*\s*([,;:])", r"\1"),
    _rule(r"(?<=[.!?])(?:\s*[,;:])+", ""),
    _rule(r"^(?:[^\S\n]|[,;:.])+", "", re.M),
    _rule(r"([,;:])(?=[^\W\d])", r"\1 "),
    _rule(r"(?<=[a-z])([.!?])(?=[A-Z][a-z])", r"\1 "),
)


def rewrite(text: str) -> str:
    """Text with its written forms as words; paragraphs stay apart by line breaks.

    Args:
        text: any text; characters that nothing is known of stay as they are.

    Returns:
        Text of words, numbers and ``. , ; : ! ? ' - & % $`` that :func:`photophone.text.phonemes.phonemize` reads.
    """
    text = re.sub(r"[^\S\n]+", " ", plain_characters(html.unescape(text)))
    text = re.sub(rf"(\S{{{LONGEST_WORD}}})(?=\S)", r"\1 ", text)
    for rules in (MARKUP, ADDRESSES, TIMES, NUMBERS):
        text = _apply(rules, text)
    text = _apply(WORDS, read_emoji(text))
    text = _apply(PUNCTUATION, text)
    return re.sub(r"[^\S\n]+", " ", text).strip()


def _apply(rules: tuple[Rule, ...], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text
