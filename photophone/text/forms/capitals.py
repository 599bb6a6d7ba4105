"""Words in capitals: shouted words become small, abbreviations are spelled."""

from __future__ import annotations

import re

from photophone.text.forms.number_words import spell
from photophone.text.forms.rules import Rule, rule, word_set
from photophone.text.phonemes import is_word

FUNCTION_WORDS = word_set(
    "A ABOUT ALL ALSO AM AN AND ANY ARE AS AT BE BEEN BUT BY CAN DID DO FOR FROM GET HAD HAS HAVE HE HER HERE HIM "
    "HIS HOW I IF IN INTO IS IT ITS JUST LIKE MAKE MAY ME MORE MOST MUST MY NEVER NO NOT NOW OF ON ONE ONLY OR OUR "
    "OUT OVER SEE SHE SHOULD SO SOME SUCH THAN THAT THE THEIR THEM THEN THERE THESE THEY THIS TO TOO TWO UP VERY WAS "
    "WE WERE WHAT WHEN WHERE WHICH WHILE WHO WHY WILL WITH WOULD YES YOU YOUR OH OFF LET GO NOR")
EMPHASIS = (FUNCTION_WORDS | word_set(
    "BAD BIG NEW OLD WOW HEY STOP END FUN SAD MAD HOT LOW FEW OWN WAY DAY GOT SAY SAW RUN WIN WON YET WHO OUT TOP "
    "TEN SIX HIT CUT PUT EAT ASK TRY BUY OPEN WAIT HELP LOVE HATE REAL FAKE FREE BEST HUGE EVER GOOD "
    "LAST NEXT FIRE")) - {
        "US", "A", "I", "AM", "OR", "CAN", "ACT"}
"""Short words that one may write in capitals among small ones."""
SPELLED = word_set(
    "AAA ABC ABS AC ADHD AGM AI AKA ALS AM AMA AMD API APR ATM ATV BA BBC BBQ BLT BMI BMW BS CAD CBC CBS CCTV CD CDC "
    "CEO CFO CGI CIA CNN COO CPR CPU CSS CTO CV DA DC DIY DJ DNA DNS DOJ DSL DVD ECG EEG EKG EMT EPA ER ESL ESP EST "
    "ETA EU FAA FAQ FBI FCC FDA FIFO FM FTC FTP FYI GDP GI GIS GM GMO GMT GOP GPA GPS GPU GQ HBO HD HDMI HIV HQ HR "
    "HTML HTTP HTTPS IBM ICU ID IMF IOU IP IPO IQ IRA IRS ISBN ISO ISP ITV IUD IV IVF JFK KFC KGB LA LAPD LCD LED "
    "LGBT LLC LLM LP LSD LSE MBA MC MD MIT MLB MLK MP MRI MS MSG MTV MVP NBA NBC NCAA NDA NFL NGO NHL NHS NPR NRA "
    "NSA NSF NY NYC NYPD NYU OBE OCD OECD OK OS PA PBS PC PDF PHD PHP PJ PM PMS POV PPE PR PS PTA PTO PTSD PVC QA QC "
    "QR RBI RIP RNA ROI RPG RPM RSVP RV SDK SEC SEO SMS SNL SOS SPF SQL SSN STD SUV TA TBA TBC TBD TED TGIF TIA TLC "
    "TMI TNT TV UAE UCLA UFC UFO UK UN UPS URL US USA USB USC USDA USSR UTC UTI UV VA VCR VHS VIP VP VPN VR WHO WTO "
    "WWE WWF XML XXL YMCA NGOS TPS OSS MOMA HMS USS RSI LOL OMG IMO BRB DOE DOD DOT GAO GSA NIH CUNY AWS SSD HDD RSS "
    "CSV SVG GCSE ELO HSBC AOL PGA UEFA ESPN LPGA CMS EKG PAC ETF APA SAP MI AP UPI NME EMI BP GE GP AD BC CE LTE") - {
        "WHO", "AM", "ER", "LA", "MS", "MI", "DOT", "DOE", "PAC", "SAP", "AP", "TED", "CE", "RIP", "MOMA", "FIFO",
        "UEFA"}
"""Spelled, also where all is in capitals."""
SAID = word_set(
    "NASA NATO UNESCO UNICEF OPEC FIFA AIDS LASER RADAR SCUBA SONAR ASCII NAFTA YOLO FOMO RAM ROM PIN SIM GIF JPEG "
    "BIOS SWAT NASDAQ ASEAN COBOL BASIC FEMA OSHA NIMBY SARS COVID MOMA LAN WAN VOIP CAPTCHA IKEA LEGO NAACP WASP "
    "SATS PETA HIPAA ERISA UEFA FIFO SOHO NOAA DARPA TESOL TOEFL GUI UNIX LINUX VISA ZIP ACE PAC SALT START AWOL") - {
        "NAACP", "GUI"}
"""Acronyms that are read as words."""
_WORD = r"[A-Z]+(?:'[A-Z]+)?"
_CONTRACTIONS = re.compile(r"(?:[A-Z]+N'T|I'M|(?:WE|YOU|THEY|HE|SHE|IT|I|THAT|WHAT|THERE|WHO|LET)'(?:S|RE|VE|LL|D))")
_IT_NOUNS = ("department|team|support|staff|manager|industry|sector|job|jobs|consultant|guy|guys|specialist|systems?|"
             "infrastructure|budget|professional|professionals|security|director|company|services?|project|projects")


def _ordinary(word: str) -> bool:
    """Whether a word in capitals is one that people also write small."""
    if word in SPELLED:
        return False
    if word in FUNCTION_WORDS or _CONTRACTIONS.fullmatch(word):
        return True
    return len(word) > 2 and is_word(word.lower()) and word not in SAID


def _shout(match: re.Match) -> str:
    """A run of words in capitals, small but for what looks like an abbreviation."""
    parts = re.split(rf"({_WORD})", match.group())
    words = parts[1::2]
    ordinary = sum(map(_ordinary, words))
    certain = any(word in FUNCTION_WORDS - {"A", "I"} or (len(word) > 3 and _ordinary(word)) for word in words)
    if ordinary * 2 < len(words) or not certain:
        return match.group()
    parts[1::2] = [_quiet(word, before) for word, before in zip(words, [""] + words)]
    text = "".join(parts)
    return text[:1].upper() + text[1:]


def _quiet(word: str, before: str) -> str:
    if word == "I" or _CONTRACTIONS.fullmatch(word) and word.startswith("I'"):
        return word[0] + word[1:].lower()
    if word == "US" and before in ("THE", "OF", "IN") or word == "IT" and before == "THE":
        return spell(word)
    if word == "US":
        return "us"
    if _ordinary(word) or word in SAID:
        return word.lower()
    bare = word.replace("'S", "")
    if word in SPELLED or len(bare) < 4 or not re.search("[AEIOUY]", bare):
        return word
    return word.lower()


def _alone(match: re.Match) -> str:
    """A word in capitals among small ones."""
    word = match.group()
    bare = word.replace("'S", "")
    if _CONTRACTIONS.fullmatch(word):
        return word.capitalize()
    if bare in SPELLED or bare in SAID and not is_word(bare.lower()):
        return word
    if bare in EMPHASIS or bare in SAID or (len(bare) > 3 and is_word(bare.lower())):
        return word.lower()
    return word


def _abbreviation(match: re.Match) -> str:
    """Letters one by one of what is no word; the reader knows the others."""
    word, behind = match.group(1), match.group(2) or ""
    if word in SAID or (len(word) > 3 and word not in SPELLED and re.search("[AEIOUY]", word[1:])):
        return match.group()
    if word not in SPELLED and (is_word(word) or (len(word) > 2 and is_word(word.lower()))):
        return match.group()
    return spell(word) + ("'s" if behind else "")


def _alternating(match: re.Match) -> str:
    word = match.group()
    changes = sum(a.isupper() != b.isupper() for a, b in zip(word, word[1:]))
    return word.capitalize() if changes > len(word) / 2 and not word.startswith(("Mc", "Mac")) else word


CAPITALS: tuple[Rule, ...] = (
    rule(r"(?<=\b[Tt]he )IT\b|\bIT(?= (?:" + _IT_NOUNS + r")\b)|(?<=\b[Ii]n )IT\b(?! [A-Z])", "I.T"),
    rule(r"(?<=\bthe )WHO\b(?! [A-Z]{2})", "W.H.O"),
    rule(rf"\b(?:{_WORD})(?:(?:[ \n]+|, |[-'/]|[.!?:;,]+\s+|\s?&\s?)(?:{_WORD})\b)+(?![a-z'])(?!\.[A-Z])", _shout),
    rule(rf"(?<![.\w'])(?:{_WORD})\b(?![.']\w)", _alone),
    rule(r"\b(?=\w*[a-z])[A-Za-z]{5,}\b", _alternating),
    rule(r"\b(US|UK|EU|UN|USA)(?!\w|\.\w)('s)?", _abbreviation),
    rule(r"(?<![.\w'])([A-Z]{2,6})('s|s)?\b(?![.']\w)", _abbreviation),
    rule(r"\bPhDs?\b", lambda m: "P.H.D" + ("'s" if m.group().endswith("s") else "")),
)
