"""Abbreviations, titles, initials, Roman numerals, and what chat writes."""

from __future__ import annotations

import re
from collections.abc import Callable

from photophone.text.forms.number_words import cardinal, ordinal, roman, spell, year
from photophone.text.forms.rules import Rule, choices, rule, word_pairs, word_set
from photophone.text.forms.tables import NUMBERED, RULERS

TITLES = word_pairs(
    "Mr:Mister Mrs:Mrs Ms:Miz Mx:Mix Dr:Doctor Prof:Professor St:Saint Mt:Mount Ft:Fort Gen:General Gov:Governor "
    "Sen:Senator Rep:Representative Capt:Captain Lt:Lieutenant Col:Colonel Sgt:Sergeant Cmdr:Commander Rev:Reverend "
    "Hon:Honorable Pres:President Supt:Superintendent Cpl:Corporal Maj:Major Adm:Admiral Fr:Father Msgr:Monsignor "
    "Messrs:Messrs Mme:madame Mlle:mademoiselle Brig:Brigadier Pvt:Private Sr:senior Br:Brother Amb:Ambassador "
    "Insp:Inspector Det:Detective Sec:Secretary Ald:Alderman Atty:Attorney Pt:Point Ste:Sainte Cdr:Commander "
    "Sts:Saints Esq:Esquire Ens:Ensign")
"""Before a name."""
PLACES = word_pairs(
    "St:Street Dr:Drive Ave:Avenue Av:Avenue Blvd:Boulevard Rd:Road Ln:Lane Hwy:Highway Pkwy:Parkway Ct:Court "
    "Sq:Square Pl:Place Ter:Terrace Cir:Circle Mt:Mountain Rte:Route Expy:Expressway Fwy:Freeway Tpke:Turnpike")
"""Behind a name."""
ALWAYS = word_pairs(
    "Jr:Junior Sr:Senior Ltd:Limited Inc:Incorporated Corp:Corporation Co:Company Bros:Brothers Dept:Department "
    "dept:department Univ:University Assn:Association Assoc:Association Govt:Government govt:government "
    "Apt:Apartment apt:apartment Bldg:Building bldg:building Ste:Suite approx:approximately Approx:Approximately "
    "est:established vs:versus Vs:Versus al:al viz:namely Viz:Namely cf:compare Cf:compare ibid:ibid Mgr:Manager "
    "mgr:manager Asst:Assistant asst:assistant Gov't:government esp:especially incl:including excl:excluding "
    "misc:miscellaneous Misc:Miscellaneous tel:telephone Tel:Telephone ext:extension Ext:Extension max:maximum "
    "Max:Maximum min:minimum Min:Minimum avg:average Avg:Average temp:temperature Temp:Temperature tech:technical "
    "qty:quantity Qty:Quantity attn:attention Attn:attention re:re ea:each hrs:hours mins:minutes secs:seconds "
    "yrs:years Intl:International Natl:National mfg:manufacturing pkg:package int'l:international nat'l:national "
    "Acad:Academy Inst:Institute Lib:Library Mfr:Manufacturer Hosp:Hospital Ind:Industries Sci:Science "
    "Eng:Engineering Tech:Technology Ph:Phone Bros:Brothers orig:originally resp:respectively supp:supplement "
    "trans:translated rev:revised Esq:Esquire ft:feet lbs:pounds oz:ounces tbsp:tablespoons tsp:teaspoons etc:etc")
"""Wherever they stand with their full stop."""
_PART_WORDS = {"Max", "Min", "Lib", "Ph", "Ind", "al", "re", "min", "max", "Temp", "temp", "Tech", "tech", "Sci", "rev"}
"""Of these, what is more often a word at the end of a sentence."""
BARE = word_set("vs Jr Sr Ltd Inc approx etc dept govt qty tbsp tsp lbs mgr asst Bldg Dept Bros Corp int'l nat'l")
"""Of these, what is read so without its full stop too."""
COUNTED = word_pairs(
    "No:number no:number Nos:numbers nos:numbers Nr:number nr:number vol:volume Vol:volume vols:volumes Vols:volumes "
    "ch:chapter Ch:chapter chap:chapter Chap:chapter fig:figure Fig:figure figs:figures Figs:figures p:page P:page "
    "pp:pages Pp:pages pg:page Pg:page pgs:pages sec:section Sec:section Sect:section sect:section eq:equation "
    "Eq:equation eqs:equations Eqs:equations Op:opus op:opus art:article Art:article para:paragraph Para:paragraph "
    "app:appendix App:appendix tab:table Tab:table ed:edition Ed:edition pt:part Pt:part lect:lecture ex:example "
    "Ex:example fol:folio v:verse vv:verses l:line ll:lines n:note nn:notes Rm:room rm:room fl:floor Fl:floor "
    "Apt:apartment Ste:suite ver:version Ver:version ca:circa c:circa approx:approximately BWV:B.W.V K:K Hob:Hoboken "
    "ext:extension Ext:extension tel:telephone art:article dist:district Dist:district Exh:exhibit cl:clause "
    "Cl:clause")
"""Before a number."""
BARE_COUNTED = word_set("Vol vol Vols Fig fig Figs Ch Eq Nos Op pp Rm Sect")
PHRASES = (("e.g", "for example"), ("i.e", "that is"), ("a.k.a", "also known as"), ("N.B", "note well"),
           ("n.b", "note well"), ("P.S", "P.S"), ("w.r.t", "with respect to"), ("R.S.V.P", "R.S.V.P"),
           ("q.v", "which see"), ("f.k.a", "formerly known as"), ("a.s.a.p", "A.S.A.P"))
CHAT = word_pairs(
    "BTW:by_the_way btw:by_the_way IMO:in_my_opinion imo:in_my_opinion TBD:to_be_determined aka:also_known_as "
    "AKA:also_known_as w/:with w/o:without b/c:because thx:thanks pls:please plz:please ppl:people idk:I_don't_know "
    "README:reed_me JSON:json shh:shush Shh:Shush Sshh:Shush shhh:shush Shhh:Shush pct:percent ai:AI hmm:hmm "
    "YAML:yammel SQL:sequel N/A:not_applicable n/a:not_applicable c/o:care_of a/c:account he/she:he_or_she "
    "she/he:she_or_he his/her:his_or_her him/her:him_or_her and/or:and_or s/he:she_or_he I/O:I.O TL;DR:T.L.D.R "
    "A/C:A.C R/C:R.C o/w:otherwise i/o:I.O OS/2:O.S_two")
STARTERS = word_set(
    "The A An He She It We They You I This That These Those There But And In On At If When Then So His Her My Our "
    "Their No Yes What Why Who Where How Is Are Was Were Do Does Did Can Could Will Would Should Not Now After "
    "Before Once As For From With Without Its Please Let Call Come Go See Most Many Some All Both Each Every One Two "
    "Nobody Everyone Someone Nothing Everything Here Today Later Soon Still Yet Also Perhaps Maybe Since While "
    "Because Although However Meanwhile Next Finally First Turn Take Look Wait Stop Ask Tell Try Nor Or By To")
"""Words that begin a sentence even behind an abbreviation."""


def ends_sentence(match: re.Match) -> bool:
    """Whether a sentence ends with the full stop that a match ends with."""
    behind = match.string[match.end():match.end() + 40]
    if not behind.strip() or re.match(r"[\"')\]]*\s*\n|[\"')\]]+\s*$", behind):
        return True
    word = re.match(r"[\"')\]]*\s+[\"'(]*([A-Z][a-z']*)", behind)
    return bool(word) and (word.group(1) in STARTERS or match.group().startswith("etc"))


def _with_stop(match: re.Match, words: str) -> str:
    return words + ("." if match.group().endswith(".") and ends_sentence(match) else "")


def _title(match: re.Match) -> str:
    return f"{TITLES[match.group(1)]} " if _is_title(match) else match.group()


def _place(match: re.Match) -> str:
    before = match.string[:match.start()].split()[-1:]
    named = before and (before[0][0].isupper() or before[0][0].isdigit() or before[0][-2:] in ("th", "st", "nd", "rd"))
    words = PLACES if named or match.group(1) not in TITLES else TITLES
    return _with_stop(match, words[match.group(1)])


def _always(match: re.Match) -> str:
    return _with_stop(match, ALWAYS[match.group(1)])


def _dotted(match: re.Match) -> str:
    """Letters between full stops: "U.S" of "U.S."; a sentence may end with them."""
    letters = re.findall("[A-Za-z]+", match.group(1))
    words = ".".join(letters).upper() if all(len(part) == 1 for part in letters) else spell("".join(letters))
    return _with_stop(match, words)


def _degree(match: re.Match) -> str:
    return _with_stop(match, spell(match.group(1).replace(".", "").replace(" ", "")))


def _initials(match: re.Match) -> str:
    letters = re.findall("[A-Z]", match.group(1))
    return (" ".join(map(spell, letters)) if " " in match.group().strip() else spell("".join(letters))) + " "


def _phrase(words: str) -> Callable[[re.Match], str]:
    def say(match: re.Match) -> str:
        first = match.group()[0].isupper() and not words.isupper() and match.group()[1:2] == "."
        begins = not match.string[:match.start()].strip() or match.string[:match.start()].rstrip()[-1:] in ".!?\n"
        said = words[0].upper() + words[1:] if first and begins else words
        return said + ("," if said[:3].lower() in ("for", "tha") or match.group().endswith(",") else "")

    return say


def _numeral(match: re.Match) -> str:
    """A Roman numeral behind a word: the ordinal of rulers, a cardinal behind what is numbered."""
    before, numeral = match.group("before", "numeral")
    behind = match.group("behind") or ""
    value = roman(numeral.upper())
    numbered = before.lower() in NUMBERED
    if len(numeral) == 1 and not _single_numeral(before, match.string[match.end():match.end() + 20]):
        return match.group()
    if not value or before == "Malcolm" and numeral == "X":
        return match.group()
    lone = len(numeral) == 1 and (numeral == "L" or before in ("John", "Mary", "Michael", "Robert", "Juan", "Carl"))
    if before in RULERS and re.fullmatch("[IVXL]+", numeral) and not lone:
        return f"{before} the {ordinal(value)}{behind}"
    named = before[0].isupper() and re.fullmatch("[IVX]{2,}", numeral) and numeral not in ("IV", "XX")
    if not (named or numbered and (len(numeral) > 1 or numeral in "IVX")):
        return match.group()
    return f"{before} {cardinal(value)}{behind}"


def _single_numeral(before: str, behind: str) -> bool:
    """Whether a lone I, V or X is a numeral, not a person, an initial or a letter."""
    if before in RULERS:
        return not re.match(r"\.? [A-Z]", behind)
    if before.lower() not in _FIRSTS or re.match(r"\. [a-z]| [A-Z]", behind):
        return False
    word = re.match(r" ([a-z]+)", behind)
    return before[0].isupper() or not word or word.group(1) in _AFTER_FIRSTS


_FIRSTS = word_set("chapter part act scene section volume book phase article war type stage class grade level table "
                     "figure appendix annex title schedule vol fig corps episode round bowl")
_AFTER_FIRSTS = word_set("error errors diabetes trial trials device devices study studies collagen interferon clinical "
                           "recall cancer disease and or to of in is was shows has contains")


def _numbered_part(match: re.Match) -> str:
    value = roman(match.group(2))
    if not value:
        return match.group()
    part = match.group(3)
    return f"{match.group(1)} {cardinal(value)} {spell(part) if part.isalpha() else part}"


def _century(match: re.Match) -> str:
    value = roman(match.group(1))
    return ordinal(value) if value else match.group()


def _year(match: re.Match) -> str:
    value = roman(match.group())
    return year(value) if 1500 <= value <= 2100 else match.group()


_BEFORE_NAME = r"(?=[A-Z][a-z'’]|[A-Z]\.|O'|de |von |van )"
_NUMERAL = r"[MDCLXVI]+"
ABBREVIATIONS: tuple[Rule, ...] = (
    *(rule(rf"(?<![\w.])[{dots[0].lower()}{dots[0].upper()}]{re.escape(dots[1:])}\.?(?![\w.]),?", _phrase(said))
      for dots, said in PHRASES),
    rule(rf"(?<![\w/])(?:{choices(CHAT)})(?![\w/])", lambda m: CHAT[m.group()].replace("_", " ")),
    rule(rf"\b({choices(COUNTED)})\.\s?(?=\d|[IVXL]+\b|§)", lambda m: f"{COUNTED[m.group(1)]} "),
    rule(rf"\b({choices(BARE_COUNTED)}) (?=\d)", lambda m: f"{COUNTED[m.group(1)]} "),
    rule(r"\b(Ph\.\s?D|Ed\.\s?D|M\.\s?Sc|B\.\s?Sc|Psy\.\s?D|D\.\s?Phil|M\.\s?Phil|LL\.\s?[BDM]|Ph\.\s?Ds)\.?(?!\w)",
         _degree),
    rule(rf"(?<![\w.])({choices(TITLES)})\.?[^\S\n]+{_BEFORE_NAME}", _title),
    rule(r"\b(?<![.'])((?:[A-Z]\.\s?){1,4})(?=(?:Mc|Mac|O'|De|Van|Von)?[A-Z][a-z]+)", lambda m: (
        _initials(m) if _is_initial(m) else m.group())),
    rule(rf"(?<![\w.'])({choices(PLACES)})\.(?!\w)", _place),
    rule(r"(?<=[a-z] )(St|Ave|Blvd|Rd|Hwy|Pkwy|Ln)(?=\s*$|\s*[,;]|\s+(?:[a-z]|in\b))",
         lambda m: PLACES[m.group(1)]),
    rule(r"(?<![\w.'&])(Mr|Mrs|Ms|Dr|Prof|Messrs)\.?(?!\w)", lambda m: _with_stop(m, TITLES[m.group(1)])),
    rule(rf"(?<![\w.'])({choices(set(ALWAYS) - _PART_WORDS)})\.(?!\w|\.)", _always),
    rule(r"(?<![\w.'])([Mm]ax|[Mm]in|[Tt]emp|[Tt]ech)\.(?=\s+[a-z])", lambda m: ALWAYS[m.group(1)]),
    rule(r"\bet al\b\.?", lambda m: _with_stop(m, "et al")),
    rule(rf"(?<![\w.'/-])({choices(BARE)})(?![\w.'/-])", lambda m: ALWAYS[m.group(1)]),
    rule(r"\b((?:[A-Z]\.){1,6}[A-Z])('s|s)?\.?(?!\w)", lambda m: _with_stop(m, m.group(1) + (
        "'s" if m.group(2) else ""))),
    rule(r"(?<![\w.])((?:[a-z]\.){2,6})(?!\w)", _dotted),
    rule(r"(?<![\w.])(?<=[A-Z][a-z] )([A-Z])\. (?=[A-Z][a-z])", r"\1 "),
    rule(r"(?<![\w.'])([A-HJ-Z])\.(?=[,;:])", r"\1"),
    rule(r"\bAD (?=\d)|(?<=\d )(?:AD|BC|BCE|CE)\b|(?<=[a-z] )(?:BC|BCE)\b", lambda m: spell(m.group().strip()) + (
        " " if m.group().endswith(" ") else "")),
)


def _is_initial(match: re.Match) -> bool:
    """Not the end of "It was I. Then" or of "vitamin C. The"."""
    letters = re.findall("[A-Z]", match.group(1))
    word = re.match(r"[A-Za-z']+", match.string[match.end():]).group()
    before = match.string[:match.start()].rstrip()
    if word in STARTERS and (len(letters) == 1 or match.group().endswith(" ")):
        return bool(len(letters) > 1 and word not in STARTERS) or not before and len(letters) > 1
    return not (len(letters) == 1 and before[-1:].islower() and letters[0] == "I")


def _is_title(match: re.Match) -> bool:
    """"St. Paul" and "Dr. Lee", but not "Main St. The" or "Elm Dr. He"."""
    before = match.string[:match.start()].rstrip()
    word = re.match(r"[A-Za-z']+\.?", match.string[match.end():]).group()
    place = match.group(1) in PLACES
    named = re.search(r"(?:\b[A-Z][a-z]+|\d(?:st|nd|rd|th)|(?:first|second|third|[a-z]+th))$", before)
    behind_name = named and not (
        re.search(r"(?:^|[.!?]\s*|\b(?:See|The|At|In|On|And|But|By|For|Mount|Saint))[A-Z]?[a-z]*$", before)
        and before.split()[-1] in STARTERS)
    if place and behind_name:
        return False
    return not (word in STARTERS and "." in match.group() and place and before != "")


NUMERALS: tuple[Rule, ...] = (
    rule(r"\b([A-Za-z]+)\s([IVXL]+)\.([A-Za-z]|\d+)\b", lambda m: _numbered_part(m)
         if m.group(1).lower() in NUMBERED else m.group()),
    rule(rf"\b({_NUMERAL})(?=\s+(?:century|centuries|dynasty|Dynasty|Olympiad|arrondissement|Corps)\b)", _century),
    rule(rf"\b(?P<before>[A-Za-z]+)\s(?P<numeral>{_NUMERAL}|(?<=cene )[ivx]+|(?<=age )[ivxl]+|(?<=part )[ivx]+)"
         r"(?P<behind>'s)?\b(?!['.]\w|-)", _numeral),
    rule(r"(?<=[a-z] )(?P<first>[IVX]{1,5})\s?[-–—]\s?(?P<last>[IVX]{1,5})\b", lambda m: (
        f"{cardinal(roman(m.group('first')))} to {cardinal(roman(m.group('last')))}"
        if roman(m.group("first")) and roman(m.group("last")) else m.group())),
    rule(r"\b(VIP|IV|XL|XXL|MC|MD|DC|CD|CV|LCD|LDL|DIY|MIDI|MMC|ID|CI|DI|DM|LL|MI|MM|VC|LI)(s?)\b", lambda m: (
        spell(m.group(1)) + ("'s" if m.group(2) else ""))),
    rule(r"\bM{1,3}[MDCLXVI]{2,}\b", _year),
    rule(r"\b(?:XX|XXX|XI{1,3}|XIV|XV|XVI{1,3}|XIX|XXI{1,3}|VI{2,3})\b", lambda m: cardinal(roman(m.group()))),
)
