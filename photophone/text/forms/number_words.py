"""Numbers as English words, and letters to be spelled.

The words come from hibari-tts, whose lexicon reads them; nothing here knows a number's name.
"""

from __future__ import annotations

import re
import unicodedata

from photophone.text.hibari_reader import hibari_numbers

LARGEST = 10**36
"""From here on a number has no name that is known, and is read digit by digit."""
LETTER = "\u2060"
"""Stands behind an A that is a letter, not an article; it is invisible."""
NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
"""Digits, with commas between thousands and a decimal part, or without."""
VULGAR = "½¼¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞↉"
TENTHS = {2: "half", 4: "quarter"}


def _plain(words: str) -> str:
    return " ".join(word for word in re.split(r"[^a-z]+", words) if word and word != "and")


def cardinal(number: int) -> str:
    """"two hundred five" of 205."""
    if number < 0:
        return "minus " + cardinal(-number)
    return digits(str(number)) if number >= LARGEST else _plain(hibari_numbers().cardinal(number))


def ordinal(number: int) -> str:
    """"twenty first" of 21."""
    return cardinal(number) + "th" if number >= LARGEST else _plain(hibari_numbers().ordinal(number))


def year(number: int) -> str:
    """"nineteen oh five" of 1905, "two thousand seven" of 2007."""
    return _plain(hibari_numbers().year(number))


def digits(text: str) -> str:
    """Digits one by one, with a pause between groups: "two one two, five" of "(212) 5"."""
    return ", ".join(" ".join(cardinal(int(digit)) for digit in group) for group in re.findall(r"\d+", text))


def amount(text: str) -> str:
    """A number as a quantity: "one thousand point five zero" of "1,000.50"; digits behind a leading zero singly."""
    whole, _, part = text.replace(",", "").partition(".")
    if len(whole) > 1 and whole[0] == "0" and not part:
        return digits(whole)
    words = cardinal(int(whole or 0))
    return f"{words} point {digits(part)}" if part else words


def plain_number(text: str) -> str:
    """A number of which nothing is known: four digits from 1100 to 2099 are a year."""
    if re.fullmatch(r"1[1-9]\d\d|20\d\d", text):
        return year(int(text))
    return amount(text)


def code_number(text: str) -> str:
    """Digits in a name such as A380 or BA2490: "three eighty", "two four nine zero"."""
    if len(text) == 3 and text[0] != "0" and not text.endswith("00"):
        return f"{cardinal(int(text[0]))} " + (f"oh {cardinal(int(text[2]))}" if text[1] == "0" else cardinal(
            int(text[1:])))
    return digits(text) if len(text) > 3 or (len(text) > 1 and text[0] == "0") else cardinal(int(text))


def fraction(above: int, below: int) -> str:
    """"three quarters" of 3/4, "seven sixteenths" of 7/16."""
    name = TENTHS.get(below) or ordinal(below)
    if above == 1:
        return f"one {name}"
    return f"{cardinal(above)} " + ("halves" if below == 2 else f"{name}s")


def vulgar(character: str) -> str:
    """The words of a character such as ⅝."""
    above, _, below = unicodedata.normalize("NFKC", character).partition("⁄")
    if not below:
        return cardinal(int(above)) if above.isdigit() else "one over"
    return "zero" if above == "0" else fraction(int(above), int(below))


def spell(letters: str) -> str:
    """Letters to be read by their names: "F.B.I" of "FBI", which the reader spells."""
    letters = letters.upper()
    return letters + LETTER if letters == "A" else ".".join(letters)


def roman(numeral: str) -> int:
    """Value of a Roman numeral in capitals; 0 when it is none."""
    if not re.fullmatch(r"(?=.)M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})", numeral):
        return 0
    values = [{"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}[letter] for letter in numeral]
    return sum(-v if v < following else v for v, following in zip(values, [*values[1:], 0]))
