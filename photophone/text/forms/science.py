"""Chemistry, raised and lowered signs, Greek letters, signs of mathematics."""

from __future__ import annotations

import re

from photophone.text.forms.characters import SUBSCRIPTS, SUPERSCRIPTS, lowered
from photophone.text.forms.number_words import LETTER, amount, cardinal, code_number, ordinal, spell
from photophone.text.forms.rules import Rule, choices, rule, word_pairs, word_set
from photophone.text.forms.tables import GREEK, SYMBOLS

ELEMENTS = word_pairs("H:hydrogen He:helium Li:lithium Be:beryllium B:boron C:carbon N:nitrogen O:oxygen F:fluorine "
                 "Ne:neon Na:sodium "
    "Mg:magnesium Al:aluminum Si:silicon P:phosphorus S:sulfur Cl:chlorine Ar:argon K:potassium Ca:calcium Sc:scandium "
    "Ti:titanium V:vanadium Cr:chromium Mn:manganese Fe:iron Co:cobalt Ni:nickel Cu:copper Zn:zinc Ga:gallium "
    "Ge:germanium As:arsenic Se:selenium Br:bromine Kr:krypton Rb:rubidium Sr:strontium Y:yttrium Zr:zirconium "
    "Nb:niobium Mo:molybdenum Tc:technetium Ru:ruthenium Rh:rhodium Pd:palladium Ag:silver Cd:cadmium In:indium Sn:tin "
    "Sb:antimony Te:tellurium I:iodine Xe:xenon Cs:cesium Ba:barium La:lanthanum Ce:cerium Nd:neodymium Sm:samarium "
    "Eu:europium Gd:gadolinium Tb:terbium W:tungsten Re:rhenium Os:osmium Ir:iridium Pt:platinum Au:gold Hg:mercury "
    "Tl:thallium Pb:lead Bi:bismuth Po:polonium At:astatine Rn:radon Fr:francium Ra:radium Ac:actinium Th:thorium "
    "Pa:protactinium U:uranium Np:neptunium Pu:plutonium Am:americium Cm:curium Cf:californium")
_ISOTOPES = word_set(
    "C-11 C-12 C-13 C-14 U-233 U-234 U-235 U-236 U-238 Pu-238 Pu-239 Pu-240 Pu-241 Cs-133 Cs-134 Cs-137 "
    "I-123 I-125 I-129 I-131 Sr-87 Sr-89 Sr-90 Co-57 Co-60 K-40 H-2 H-3 Ra-226 Ra-228 Rn-222 Th-232 Am-241 "
    "Po-210 Tc-99 O-16 O-17 O-18 N-14 N-15 Fe-56 Ni-60 He-3 He-4 Li-6 Li-7 Be-10 Na-22 P-32 S-35 Cl-36 Ar-39 "
    "Xe-133 Kr-85 Ga-67 F-18 Pb-206 Pb-207 Pb-208 Tl-201")
_ELEMENT = choices(ELEMENTS)
_SUB = f"[{re.escape(SUBSCRIPTS)}]"
_SUPER = f"[{re.escape(SUPERSCRIPTS)}]"
_FORMULA = re.compile(rf"(?:(?:{_ELEMENT})(?:\d{{1,2}}|{_SUB}+)?|[()]\d*{_SUB}*)+")
_PART = re.compile(rf"({_ELEMENT})|(\d+|{_SUB}+)|([()])")
_WORDS = word_set("PCs CDs Cs NOs POs PhD INs BiOS CPUs IPOs IPs ICs BCs NPCs PoS SoC VoIP CoS NoS HoF B2B C2C P2P B2C")
"""Names that could be formulas."""


def _isotope(match: re.Match) -> str:
    return f"{_element(match.group(2))} {code_number(lowered(match.group(1)))}"


def _element(symbol: str) -> str:
    name = ELEMENTS[symbol]
    return "led" if name == "lead" else name


def _formula(match: re.Match) -> str:
    """Letters and counts one by one; what is no formula stays."""
    whole, charge = match.group("formula"), match.group("charge") or ""
    capitals = len(re.findall("[A-Z]", whole))
    counts = re.search(rf"\d|{_SUB}", whole)
    known = _FORMULA.fullmatch(whole) and whole not in _WORDS and whole.count("(") == whole.count(")")
    mixed = capitals >= 2 and re.search("[a-z]", whole)
    lowered_count = re.search(_SUB, whole)
    if not known or not (charge or lowered_count or mixed or (counts and capitals >= 2)):
        return match.group()
    words = []
    letters = ""
    for element, count, _ in _PART.findall(whole):
        if element:
            letters += element
        elif count:
            words += [spell(letters)] if letters else []
            words.append(code_number(lowered(count)))
            letters = ""
    words += [spell(letters)] if letters else []
    return " ".join(words) + _charge(charge)


def _charge(charge: str) -> str:
    number = "".join(re.findall(r"\d", lowered(charge)))
    sign = " plus" if "+" in lowered(charge) else " minus" if charge else ""
    return (f" {cardinal(int(number))}" if number else "") + sign


def _power(match: re.Match) -> str:
    """"squared" of ², "to the sixth" of ⁶, "to the minus three" of ⁻³; a raised number behind a word is a note."""
    before, raised = match.groups()
    plain = lowered(raised)
    if before.isalpha() and not match.string[:match.start()][-1:].isalnum():
        before = spell(before)
    if re.search(r"[a-z]{3,}$", match.string[:match.start() + 1]) and plain.isdigit():
        return f"{before}, note {cardinal(int(plain))}, "
    if plain in ("2", "3"):
        return f"{before} {'squared' if plain == '2' else 'cubed'} "
    if plain in ("+", "-"):
        return f"{before} {'plus' if plain == '+' else 'minus'} "
    if not re.search(r"\d", plain):
        return f"{before} to the {' '.join(_SAID.get(letter, letter.upper()) for letter in plain)} "
    return f"{before} to the {exponent(plain)} "


_SAID = {"+": "plus", "-": "minus", "=": "equals", "(": "", ")": ""}


def exponent(plain: str) -> str:
    """"sixth" of 6, "minus three" of -3."""
    if plain.isdigit():
        return ordinal(int(plain))
    number = "".join(re.findall(r"\d", plain))
    return ("minus " if "-" in plain else "plus " if "+" in plain else "") + (cardinal(int(number)) if number else "")


def _caret(match: re.Match) -> str:
    plain = match.group(1).strip("{}()")
    if plain in ("2", "3"):
        return " squared" if plain == "2" else " cubed"
    sign = "minus " if plain.startswith("-") else ""
    return f" to the power of {sign}{amount(plain.lstrip('-'))}"


def _lower(match: re.Match) -> str:
    return f" {code_number(lowered(match.group()))} " if lowered(match.group()).isdigit() else (
        " " + " ".join({"+": "plus", "-": "minus", "=": "equals"}.get(c, cardinal(int(c)) if c.isdigit() else "")
                       for c in lowered(match.group())) + " ")


def _greek(match: re.Match) -> str:
    """Letters by name, apart from what stands beside them."""
    before = match.string[:match.start()][-1:]
    behind = match.string[match.end():][:1]
    words = " ".join(GREEK[letter] for letter in match.group())
    return (" " if before.isalnum() else "") + words + (" " if behind.isalnum() else "")


def _letter_beside(match: re.Match) -> str:
    return f"{match.group(1)} {spell(match.group(2))}"


_GREEK = "[" + "".join(GREEK) + "]"
_VARIABLE = r"(?<![\w'.])([A-Za-z])(?![\w'])"
CHEMISTRY: tuple[Rule, ...] = (
    rule(rf"([⁰¹²³⁴⁵⁶⁷⁸⁹]{{1,3}}){_SUB}*({_ELEMENT})(?![a-z])", _isotope),
    rule(rf"(?<![\w-])(?:{choices(_ISOTOPES)})(?![\w-])", lambda m: (
        f"{_element(m.group().split('-')[0])} {code_number(m.group().split('-')[1])}")),
    rule(r"\bpH\b", "P.H"),
    rule(r"(?<![\w.-])(?P<formula>[A-Z(][A-Za-z0-9()₀-₉]*)(?P<charge>[⁰¹²³⁴⁵⁶⁷⁸⁹]*[⁺⁻]|(?<=\d)[+](?=\s+ions?\b))?"
         r"(?![\w-])", _formula),
)
POWERS: tuple[Rule, ...] = (
    rule(rf"(\S)({_SUPER}+)", _power),
    rule(rf"{_SUPER}+", _lower),
    rule(rf"(?<![\w'])([A-Za-z])(?={_SUB}| N\b)", lambda m: spell(m.group(1)) if m.group(1) in "aA" else m.group(1)),
    rule(rf"{_SUB}+", _lower),
    rule(r"(?<=\S)\^(-?\d+(?:\.\d+)?|\{-?\d+\}|\(-?\d+\))(?!\w)", _caret),
)
GREEK_RULES: tuple[Rule, ...] = (
    rule(rf"({_GREEK})(?=[A-Za-z](?![A-Za-z]))", _greek),
    rule(rf"{_GREEK}{{1,2}}", _greek),
    rule(rf"\b({choices(set(GREEK.values()))}) ([A-Za-z])(?![\w'])", _letter_beside),
    rule(r"(?<=\d)([a-zA-Z])\b(?=\s*[²³=+])", r" \1"),
)
_SIGN = "[=≠<>≤≥≈≡∈∉∪∩⊂⊆→⇒↔×÷±√∧∨]"
MATHEMATICS: tuple[Rule, ...] = (
    rule(rf"(?<![\w'.])[aA](?=\s?{_SIGN}|\s?[-–+] ?[A-Z]\b|\s\+ )|(?<=[=<>≤≥∪∩→×+√] )[aA](?![\w'])", "A" + LETTER),
    rule(r"\b([a-zA-Z])\(([a-zA-Z])\)", r"\1 of \2"),
    rule(r"(?<=[\w)])\s*<\s*(?=[\w(-])", " is less than "),
    rule(r"(?<=[\w)])\s*>\s*(?=[\w(-])", " is greater than "),
    rule(r"(?<![\w.])[<](?=\s?\d)", " less than "),
    rule(r"(?<![\w.])[>](?=\s?\d)", " more than "),
    rule(r"~\s?(?=\d)", " about "),
    rule(r"(?<=\w) \* (?=\w)", " times "),
    rule(choices(SYMBOLS), lambda m: f" {SYMBOLS[m.group()]} "),
)
