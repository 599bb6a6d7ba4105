"""Words that are written alike and said differently: the part of speech decides, else the words around them.

The tagger of hibari-tts tells parts of speech, but it has one fixed tag for many frequent words ("object" is always a
noun), and its lexicon one reading for "lead" or "row". What stands here corrects its tags where the words beside a
homograph leave no doubt, and tells the readings that no part of speech tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODALS = _words("will would can could may might must shall should cannot 'll 'd do does did don't doesn't didn't won't "
                "can't couldn't wouldn't shouldn't mustn't ca wo let's ought help helped helps make makes made let "
                "lets")
SUBJECTS = _words("i you we they who people")
SINGULARS = _words("he she it who that which nobody everyone everybody someone somebody anyone")
DETERMINERS = _words("a an the this these those my your his her its our their no some any each every another whose "
                     "many several few more most other both such one's first last second third")
PREPOSITIONS = _words("of in for with by from on without under about into against between during after before at per "
                      "through over than as like via upon within beyond")
BE = _words("is was are were be been being am 's 're 'm isn't wasn't aren't weren't isn wasn aren weren seems seem "
            "seemed "
            "feels feel felt looks look looked became become becomes remain remains remained stay stayed very quite "
            "too so "
            "rather perfectly fully all")
HAVE = _words("have has had 've having haven't hasn't hadn't")
ADVERBS = _words("always never often also really usually sometimes still just only now ever not n't already rarely "
                 "seldom gladly then soon quickly slowly simply both all again even probably")
AFTER_VERBS = _words("the a an my your his her its our their it them him me us this that these those")
AFTER_PLURALS = AFTER_VERBS | _words("in at on under with up down through around over by from into when while if and "
                                     "against each every between across along well quickly slowly again early late")
FINITE = _words("VBD VBZ VBP MD")
STARTS = _words("and then , ; : “ ” .") | {""}
"""What stands before an order."""
NOUNS = ("NN", "NNS")
TAGS = {"VERB": "VB", "NOUN": "NN", "ADJ": "JJ"}


ADJECTIVES = _words("close invalid upset diffuse minute live perfect present absent separate moderate intimate "
                    "deliberate "
                    "elaborate alternate appropriate approximate frequent converse compact content legitimate animate "
                    "aspirate consummate desolate adulterate degenerate desperate precipitate")
"""Of the homographs, those that describe a noun as adjectives; the others before a noun are nouns themselves."""


@dataclass(frozen=True)
class Context:
    """What stands around one token of a sentence.

    Attributes:
        words: of the sentence, small.
        tags: of the words, in the manner of the Penn Treebank.
        place: of the token.
    """

    words: Sequence[str]
    tags: Sequence[str]
    place: int

    def word(self, step: int) -> str:
        """The word so many places on; "" outside the sentence."""
        place = self.place + step
        return self.words[place] if 0 <= place < len(self.words) else ""

    def tag(self, step: int) -> str:
        """The tag so many places on."""
        place = self.place + step
        return self.tags[place] if 0 <= place < len(self.tags) else ""

    def before(self) -> int:
        """The step to the nearest word before that is no adverb of frequency or time."""
        step = -1
        while self.word(step) in ADVERBS and step > -4:
            step -= 1
        return step

    def other_verb(self) -> bool:
        """Whether another word of the clause is a finite verb."""
        return any(tag in FINITE and place != self.place and self.words[place] not in ("'s",)
                   for place, tag in enumerate(self.tags))


def part_of_speech(context: Context) -> str | None:
    """"VERB", "NOUN" or "ADJ" where the words around leave no doubt, else None."""
    word, first, behind = context.words[context.place], context.word(-1), context.word(1)
    return (_verb(context, word, behind) and "VERB") or _noun_or_adjective(context, first, behind)


def _verb(context: Context, word: str, behind: str) -> bool:
    step = context.before()
    subject, tag = context.word(step), context.tag(step)
    if word.endswith("s") and word not in ("house", "address", "progress", "discourse", "compress", "process"):
        if subject in SINGULARS and context.word(step - 1) not in ("of", "in", "on", "to", "for"):
            return subject not in ("that", "which") or not context.other_verb()
        return tag in ("NN", "NNP") and not context.other_verb() and behind in AFTER_PLURALS
    return _plain_verb(context, step, behind)


def _plain_verb(context: Context, step: int, behind: str) -> bool:
    """Of a form without s, by the word before, at ``step``."""
    subject, tag, earlier = context.word(step), context.tag(step), context.word(step - 1)
    if subject == "to":
        noun = context.tag(step) == "IN" and not context.tag(0).startswith("VB")
        verb = not noun and earlier not in ("due", "according", "next", "thanks", "prior", "addicted", "access")
    elif subject in MODALS or (subject in SUBJECTS and earlier not in ("of", "to", "for", "with")):
        asked = subject in ("you", "who") and behind in ("is", "was", "are", "were")
        verb = subject not in ("that", "make", "makes", "made") and not asked
    elif subject in ("him", "them", "me", "us", "it") and earlier in MODALS:
        verb = True
    elif subject == "please" or subject in STARTS and behind in AFTER_VERBS:
        verb = context.tag(1) not in ("VBZ", "VBD")
    else:
        goes_on = behind in AFTER_PLURALS or context.tag(1) in ("CD", "NN", "NNS", "RB") or behind in (
            "everyone", "everybody", "people")
        first = context.place + step == 0 and subject.endswith("s") and not subject.endswith(("ss", "us", "'s"))
        verb = (tag == "NNS" or tag == "NNP" and first) and goes_on and not context.other_verb()
    return verb


def _noun_or_adjective(context: Context, first: str, behind: str) -> str | None:
    kind = "ADJ" if context.words[context.place] in ADJECTIVES else "NOUN"
    described = context.tag(1) in NOUNS and behind != "" and kind == "ADJ"
    if context.tag(-1) == "POS" and first == "'s":
        return "NOUN"
    if first in BE and context.tag(-1) not in ("DT", "IN"):
        return "ADJ"
    if first in DETERMINERS:
        return "ADJ" if described else "NOUN"
    sure = not context.tag(0).startswith("VB")
    if sure and context.tag(-1) in ("JJ", "JJR", "JJS", "PRP$", "CD", "POS"):
        return "ADJ" if described else "NOUN"
    if first in PREPOSITIONS:
        return "ADJ" if described else "NOUN"
    return None


@dataclass(frozen=True)
class Sense:
    """A reading that the words around tell.

    Attributes:
        phonemes: of the word.
        before: the word before is one of these.
        behind: the word behind is one of these.
        near: one of these stands in the sentence.
        parts: parts of speech that it may have; empty: any.
        unless: none of these stands in the sentence.
    """

    phonemes: str
    before: frozenset[str] = frozenset()
    behind: frozenset[str] = frozenset()
    near: frozenset[str] = frozenset()
    parts: tuple[str, ...] = ()
    unless: frozenset[str] = frozenset()

    def fits(self, context: Context, part: str | None) -> bool:
        """Whether the words around are those of this reading."""
        if self.parts and part not in self.parts or self.unless & set(context.words):
            return False
        return bool(context.word(-1) in self.before or context.word(1) in self.behind or self.near & set(context.words))


_METAL = _words("paint painted pencil pencils pipe pipes metal metals toxic poison poisoning poisoned copper tin zinc "
                "iron "
                "steel gold silver mercury bullet bullets gasoline petrol solder roof roofs ore alloy battery "
                "batteries "
                "molten melted melt melts heavy weights glass dust acid blood contains contained contain pewter "
                "smelted "
                "mine mines mined plumbing sinker sinkers soldiers statue gray grey")
_RIPS = _words("coat fabric shirt trousers jeans paper cloth muscle ligament sail net sleeve dress curtain jacket "
               "tent bag "
               "canvas sheet sofa tendon skirt knee shoulder seam pants sock glove sofa wear rotator cuff meniscus "
               "pocket")
_SHIPS = _words("ship ship's boat boat's vessel stern deck sailor sailors waves captain port starboard anchor hull "
                "canoe "
                "yacht ferry")
_FISH = _words("fish fishing caught catch lake river sea striped largemouth smallmouth pond trout salmon ate eat "
               "grilled "
               "fillet fried angler bait anglers reel")
_SPUN = _words("up down around clock wool string rope scarf thread tape wire bandage yarn watch spool coil ribbon "
               "path road "
               "river trail through its cable bobbin")
_PIGS = _words("pig pigs piglets piglet boar boars litter hog hogs farmer's pen sty swine fed feeding pork")
_TINY = _words("amount amounts crack cracks detail details particle particles quantity quantities difference "
               "differences "
               "fraction trace traces change changes variation variations piece pieces speck scale size dose doses "
               "portion "
               "hole holes organism organisms insects structure structures movement movements quantities crystal "
               "crystals "
               "creatures creature examination inspection grains drops fragments print degree proportion")
_NOT_METAL = _words("take takes took taking in role singer guitar story")
_NUMBERS = _words("two three four five six seven eight nine ten twenty several many some the these those few of with")
SENSES: dict[str, tuple[Sense, ...]] = {
    "lead": (Sense("lˈid", parts=("VERB",), near=_words("lead")),
             Sense("lˈɛd", behind=_words(
                 "pipe pipes paint poisoning acid bullet bullets weight weights shot oxide ore mine "
                                         "mines sheet roof free solder glass battery batteries soldiers type content "
                                         "levels apron pencil crystal sinker exposure")),
             Sense("lˈɛd", before=_words(
                 "of molten melted pencil pure liquid contains contain containing with from like "
                                         "heavy and no any gray grey"), near=_METAL, parts=("NOUN", "ADJ", ""),
                   unless=_words("singer")),
             ),
    "bass": (Sense("bˈæs", near=_FISH), Sense("bˈAs", near=_words("bass"))),
    "row": (Sense("ɹˈW", before=_words("terrible blazing furious bitter public awful almighty violent heated family "
                                       "diplomatic political noisy"), parts=("NOUN", "ADJ", "")),
            Sense("ɹˈW", behind=_words("broke erupted over about"),
                  parts=("NOUN",), unless=_words("seats front back"))),
    "rows": (Sense("ɹˈWz", before=_words(
        "terrible blazing furious bitter public awful heated family noisy constant")),),
    "tear": (Sense("tˈɛɹ", near=_RIPS), Sense("tˈɛɹ", parts=("VERB",), near=_words("tear")),
             Sense("tˈɛɹ", behind=_words("up down apart off open out through"))),
    "tears": (Sense("tˈɛɹz", parts=("VERB",), near=_words("tears")),
              Sense("tˈɛɹz", near=_RIPS, unless=_words("eyes eye cried crying face cheeks"))),
    "bow": (Sense("bˈW", parts=("VERB",), near=_words("bow")),
            Sense("bˈW", near=_SHIPS, unless=_words("arrow arrows hair violin tie")),
            Sense("bˈW", before=_words("final deep low polite slight little formal curt"), parts=("NOUN", "ADJ")),
            Sense("bˈW", near=_words("took takes taking take"), parts=("NOUN",), unless=_words("arrow arrows violin"))),
    "bows": (Sense("bˈWz", parts=("VERB",), near=_words("bows")), Sense("bˈWz", near=_SHIPS),),
    "bowed": (Sense("bˈWd", near=_words("bowed"), unless=_words("legs strings violin")),),
    "bowing": (Sense("bˈWɪŋ", near=_words("bowing"), unless=_words("violin cello")),),
    "wound": (Sense("wˈWnd", behind=_words("up down around its through itself back tightly")),
              Sense("wˈWnd", near=_SPUN, parts=("VERB", ""), unless=_words("bullet blood surgeon doctor nurse healed")),
              Sense("wˈWnd", before=HAVE | _words("he she they we i"), near=_SPUN)),
    "sow": (Sense("sˈW", near=_PIGS), Sense("sˈO", near=_words("sow"))),
    "sows": (Sense("sˈWz", near=_PIGS), Sense("sˈOz", near=_words("sows"))),
    "does": (Sense("dˈOz", before=_NUMBERS - {"the"}, near=_words("buck bucks deer fawn fawns stag stags")),),
    "dove": (Sense("dˈOv", behind=_words(
                 "into in off from down under for deep to through right straight headfirst deeper "
                                         "beneath overboard back at toward towards below head")),
             Sense("dˈʌv", near=_words("dove"))),
    "minute": (Sense("mInˈut", behind=_TINY),),
    "aged": (Sense("ˈAʤɪd", before=_words("the an his her my our their"), behind=_words(
        "man woman men women people parents mother father couple person relative relatives king queen monk priest aunt "
        "uncle grandmother grandfather parent residents")),),
    "resume": (Sense("ɹˈɛzəmˌA", before=_words("my your his her their our a the"), parts=("NOUN", "ADJ"),
                     near=_words("resume")),),
    "close": (Sense("klˈOz", behind=_words("the my your his her its our their it them"), parts=("VERB", "")),
              Sense("klˈOs", behind=_words(
                 "to by enough friend friends call together relative relatives relationship ties "
                                           "attention second range quarters contact behind up encounter watch "
                                           "proximity "
                                           "look shave game race"), parts=("ADJ", "NOUN", ""))),
    "live": (Sense("lˈIv", behind=_words(
                 "concert music show shows broadcast coverage stream streams wire wires tv audience "
                                         "television radio band performance performances video animals bait ammunition "
                                         "album recording recordings event events data feed chat")),
             Sense("lˈIv", before=_words(
                 "went go goes going gone is are was were be broadcast shown performed streamed "
                                         "playing a recorded"))),
}
"""For each word the readings in the order in which they are tried; the rest is left to the part of speech."""
PAST = _words("yesterday ago last once earlier before then when after as finished while")
PRESENT = _words("every always often usually now today each daily sometimes rarely")
TOWNS = {"Nice": "nˈis", "Reading": "ɹˈɛdɪŋ", "Lima": "lˈimə", "Mobile": "mObˈil", "Tours": "tˈʊɹ"}


def correct(tokens: list[Any], choosable: Any) -> None:
    """Give homographs of a sentence their part of speech, or their phonemes.

    Args:
        tokens: of hibari-tts, with ``text``, ``tag`` and ``phonemes``; changed in place.
        choosable: tells of a small word whether its lexicon has readings for parts of speech.
    """
    words = [token.text.lower() for token in tokens]
    tags = [token.tag for token in tokens]
    for place, token in enumerate(tokens):
        word = words[place]
        listed = word in SENSES
        if token.phonemes is not None or not (listed or word == "read" or token.text in TOWNS or choosable(word)):
            continue
        context = Context(words, tags, place)
        if token.text in TOWNS:
            if context.word(-1) in ("in", "to", "from", "near", "of") and not context.word(1).isalpha():
                token.phonemes = TOWNS[token.text]
            continue
        if word == "read":
            token.tag = read_tag(context, token.tag)
            continue
        part = part_of_speech(context)
        if listed:
            own = part or ("VERB" if token.tag.startswith("VB") and token.tag not in ("VBN",) else "")
            token.phonemes = next((sense.phonemes for sense in SENSES[word] if sense.fits(context, own)), None)
        if token.phonemes is None and part is not None and choosable(word):
            token.tag = _tag(part, word, token.tag)


def _tag(part: str, word: str, tag: str) -> str:
    if part == "VERB":
        return tag if tag.startswith("VB") else "VBZ" if word.endswith("s") else "VB"
    if part == "ADJ" and tag in ("VBN", "VBG", "VBD"):
        return tag
    return TAGS[part]


def read_tag(context: Context, tag: str) -> str:
    """The tag of "read", which sounds like "red" in the past."""
    step = context.before()
    subject = context.word(step)
    object_behind = context.word(1) in AFTER_VERBS | {"page"}
    if subject == "to" or subject in MODALS or subject in ("", "please", "and") and object_behind:
        return "VB" if subject != "and" or not any(other == "VBD" for other in context.tags) else "VBD"
    if subject in HAVE or subject in BE or subject in ("well", "widely", "by"):
        return "VBN"
    if subject in SINGULARS or context.tag(step) in ("NN", "NNP"):
        inverted = context.words[0] in MODALS
        return "VB" if inverted or "did" in context.words[:context.place] else "VBD"
    if subject in SUBJECTS or context.tag(step) == "NNS":
        if set(context.words) & PRESENT or any(word in MODALS for word in context.words[:context.place]):
            return "VB"
        return "VBD" if set(context.words) & PAST or "VBD" in context.tags[:context.place] else (
            "VB" if tag in ("VB", "VBP") else tag)
    return tag
