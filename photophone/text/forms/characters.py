"""One form of every character: what looks alike is alike, pictures and rare signs have names."""

from __future__ import annotations

import re
import unicodedata

_PUNCTUATION = str.maketrans({
    "‘": "'", "’": "'", "‚": "'", "‛": "'", "´": "'", "ʼ": "'", "ʻ": "'", "ʹ": "'", "“": '"', "”": '"', "„": '"',
    "‟": '"', "«": '"', "»": '"', "‹": "'", "›": "'", "‐": "-", "‑": "-", "‒": "–", "−": "-", "﹣": "-", "―": "—",
    "⁄": "/", "∕": "/", "…": "...", "¡": "", "¿": "", "。": ". ", "、": ", ", "‽": "?!", "′": "'", "″": '"', "‴": "'''",
    "·": "·", "⋅": "·", "∙": "·", "∶": ":", "ˈ": "'", "∗": "*", "∣": "|", "∼": "~", "～": "~", "µ": "μ"})
_LATIN = {"ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ı": "i", "œ": "oe", "Œ": "Oe", "ħ": "h", "Ħ": "H", "ŋ": "ng",
          "Ŋ": "Ng", "ſ": "s", "ĸ": "k", "ŧ": "t", "Ŧ": "T", "ə": "uh", "Ə": "Uh", "ʃ": "sh", "ʒ": "zh", "Ʒ": "Zh",
          "ɛ": "e", "Ɛ": "E", "ɔ": "o", "Ɔ": "O", "ẞ": "SS", "Ǆ": "Dz", "ǆ": "dz"}
_MARKS = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20e2\u20e4-\u20ff\ufe20-\ufe2f]+")
_SUPERS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni"))
_SUBS = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎", "0123456789+-=()"))
SUPERSCRIPTS = "".join(_SUPERS)
SUBSCRIPTS = "".join(_SUBS)
KEPT = frozenset("²³¹№℃℉™℠℗℅ªº")
"""Letter-like signs that rules read."""


def plain_characters(text: str) -> str:
    """One form of every character: composed, half width, without control and formatting characters."""
    text = unicodedata.normalize("NFC", text)
    text = "".join(_plain(character) for character in text)
    text = _MARKS.sub("", text)  # marks that no letter took up
    return text.translate(_PUNCTUATION)


def _plain(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    category = unicodedata.category(character)
    if category == "Zs" or character == "\t":
        return " "
    if category in ("Zl", "Zp") or character in "\n\x0b\x0c\x85\r":
        return "\n"
    if category in ("Cc", "Cf", "Co", "Cs", "Cn"):
        return character if character == "\u200d" else ""  # the joiner of emoji goes with them
    if category in ("Nd", "Nl"):
        value = unicodedata.numeric(character, 0.5)
        return str(int(value)) if value == int(value) else character
    return _plain_letter(character, ord(character), category)


def _plain_letter(character: str, code: int, category: str) -> str:
    if character in KEPT or character in _SUPERS or character in _SUBS:
        return character
    if (0xFF01 <= code <= 0xFF5E or 0xFB00 <= code <= 0xFB06 or 0x1D400 <= code <= 0x1D7FF or 0x2460 <= code <= 0x24FF
            or 0x2100 <= code <= 0x214F or 0x3300 <= code <= 0x33FF or 0x1F100 <= code <= 0x1F14F):
        simple = unicodedata.normalize("NFKC", character)
        return simple if simple.isascii() or len(simple) == 1 else "".join(_SUPERS.get(c, c) for c in simple)
    name = unicodedata.name(character, "")
    if category in ("Lm", "Ll", "Lo") and not 0x80 <= code < 0x100 and (
            name.startswith(("MODIFIER LETTER", "SUPERSCRIPT LATIN", "LATIN SUBSCRIPT"))):
        plain = unicodedata.normalize("NFKC", character)
        return f" {plain.upper()}" if "SUBSCRIPT" in name else plain
    if name.startswith("LATIN") and code >= 0x100:  # letters that the reader does not know
        return _LATIN.get(character) or _latin(character, name)
    return character


def _latin(character: str, name: str) -> str:
    """The plain letter below a letter with marks, by its parts or by its name."""
    simple = unicodedata.normalize("NFKD", character)[0]
    if simple.isascii():
        return simple
    match = re.match(r"LATIN (SMALL|CAPITAL)?.*?LETTER (?:[A-Z]{3,} )*([A-Z]{1,2})\b", name)
    if not match:
        return character
    return match.group(2).capitalize() if match.group(1) == "CAPITAL" else match.group(2).lower()


def lowered(digits: str) -> str:
    """Raised or lowered digits and signs as plain ones."""
    return "".join(_SUPERS.get(c) or _SUBS.get(c) or c for c in digits)


def is_emoji(character: str) -> bool:
    """True for pictures, not for letters, punctuation or signs of mathematics."""
    code = ord(character)
    return (0x1F000 <= code <= 0x1FAFF or 0x2600 <= code <= 0x27BF or 0x2B00 <= code <= 0x2BFF
            or 0x2300 <= code <= 0x23FF) and unicodedata.category(character) == "So"


def _emoji_name(character: str) -> str:
    name = unicodedata.name(character, "").lower()
    name = re.sub(r"^(?:(?:white|black|heavy|medium|large|small|negative|squared|circled) )+", "", name)
    return re.sub(r" (?:sign|symbol)$| with rays$", "", name)


def read_emoji(text: str) -> str:
    """Each picture by its Unicode name between commas; a repeated one once; skin tones and joiners left out."""
    text = re.sub("(?<=[0-9#*])\ufe0f?\u20e3", " ", text)  # keys: the digit alone
    text = re.sub("[\U0001F3FB-\U0001F3FF\u200d\ufe0e\ufe0f\u20e3\U000E0020-\U000E007F]", "", text)
    text = re.sub("[\U0001F1E6-\U0001F1FF]{2}", f"{_PAUSE}flag{_PAUSE}", text)
    parts: list[str] = []
    last = ""
    for character in text:
        if is_emoji(character):
            if character != last:
                parts.append(f"{_PAUSE}{_emoji_name(character)}{_PAUSE}")
            last = character
        else:
            parts.append(character)
            last = last if character.isspace() else ""
    text = re.sub(rf"[^\S\n]*{_PAUSE}[{_PAUSE} ]*(?=[,.!?;:\n]|$)", "", "".join(parts))
    text = re.sub(rf"(^|[,.!?;:\n])[^\S\n]*{_PAUSE}[{_PAUSE} ]*", r"\1 ", text)
    return re.sub(rf"[^\S\n]*{_PAUSE}[{_PAUSE} ]*", ", ", text).lstrip(" ")


_PAUSE = "\ue000"
"""Around the name of a picture: a comma where no other mark stands. No text has it: private characters are left out."""
_BY_NAME = {"FULL STOP": ". ", "QUESTION": "? ", "EXCLAMATION": "! ", "COMMA": ", ", "SEMICOLON": "; ", "COLON": ": ",
            "ELLIPSIS": ", ", "DANDA": ". ", "BULLET": ", ", "QUOTATION": " ", "BRACKET": ", ", "PARENTHESIS": ", "}
_UNNAMED = ("BOX DRAWINGS", "BRAILLE", "BLOCK", "QUADRANT", "GEOMETRIC", "REPLACEMENT", "OBJECT REPLACEMENT")
READABLE = re.compile("[\\w\\s.,;:!?'\"()&%$/+\\-–—\u2060\u200d]")
"""What the rules of punctuation and the reader handle."""


def read_signs(text: str, unread: list[str]) -> str:
    """Signs that no rule knew by their Unicode names; what has no name worth saying is added to ``unread``."""
    parts = []
    last = ""
    for character in text:
        if READABLE.match(character) and character.isascii() or character.isalpha() or character in "–—\u2060":
            parts.append(character)
        elif character != last:
            parts.append(_sign(character, unread))
        last = character
    return "".join(parts)


def _sign(character: str, unread: list[str]) -> str:
    category, name = unicodedata.category(character), unicodedata.name(character, "")
    if category in ("Ps", "Pe", "Pi", "Pf", "Pd"):
        return ", "
    if category == "Po":
        words = next((mark for part, mark in _BY_NAME.items() if part in name), None)
        if words is not None:
            return words
    if category in ("Sk", "Lm", "Mn", "Me", "Mc") or not name or name.startswith(_UNNAMED):
        unread.append(character)
        return " "
    words = re.sub(r"^(?:N-ARY|LATIN|GREEK) | (?:SIGN|SYMBOL)$", "", name).lower().replace("-", " ")
    return f" {re.sub(r'[0-9]+', ' ', words)} "
