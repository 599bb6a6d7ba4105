"""A small part of the Speech Synthesis Markup Language (W3C, SSML 1.1), read without trusting it.

The elements are those of ``ELEMENTS``. Others are refused by name, as are document types: there are no entities but the
five of XML, so nothing can grow, and nothing outside the text is read.
"""

from __future__ import annotations

import re
from xml.parsers import expat

from photophone.core.limits import MAX_MARKUP_DEPTH, MAX_MARKUP_ELEMENTS, SPEED_RANGE, VOLUME_RANGE
from photophone.text.say_as import say_as
from photophone.text.script import Manner, Span, Stop, pause_seconds

ELEMENTS: dict[str, tuple[str, ...]] = {
    "speak": ("version",), "p": (), "s": (), "break": ("time", "strength"), "say-as": ("interpret-as", "format"),
    "sub": ("alias",), "phoneme": ("ph", "alphabet"), "prosody": ("rate", "volume")}
"""Names and the attributes of each, beside ``xml:lang`` and name spaces, which say nothing here."""
TEXT_ONLY = ("say-as", "sub", "phoneme")
STRENGTHS = {"none": 0.0, "x-weak": 0.1, "weak": 0.2, "medium": 0.4, "strong": 0.8, "x-strong": 1.5}
"""Seconds of a break."""
RATES = {"x-slow": 0.5, "slow": 0.75, "medium": 1.0, "default": 1.0, "fast": 1.25, "x-fast": 1.6}
VOLUMES = {"x-soft": -12.0, "soft": -6.0, "medium": 0.0, "default": 0.0, "loud": 4.0, "x-loud": 8.0}
"""Decibels."""


def parse_ssml(text: str) -> list[Span | Stop]:
    """What markup says, in order.

    Args:
        text: one ``<speak>`` element, or what stands inside of one.

    Raises:
        ValueError: it is no XML, has a document type, elements or attributes that are not known, or is nested too deep.
    """
    if not re.search(r"<speak[\s/>]", text):
        text = f"<speak>{text}</speak>"
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.words
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.ProcessingInstructionHandler = _refuse
    try:
        parser.Parse(text.encode("utf-8"), True)
    except expat.ExpatError as error:
        reason = expat.errors.messages.get(error.code, "syntax error")
        raise ValueError(f"the markup is no XML: {reason} at line {error.lineno}, column {error.offset + 1}; a < or & "
                         "that is text is written &lt; or &amp;") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"the text has half a surrogate pair at position {error.start}; remove it") from error
    return reader.items


def _refuse(*_: object) -> None:
    raise ValueError("the markup has a document type or a processing instruction; leave it out")


class _Reader:
    """Takes down what the parser meets."""

    def __init__(self) -> None:
        self.items: list[Span | Stop] = []
        self.open: list[tuple[str, dict[str, str]]] = []
        self.manners = [Manner()]
        self.inside: list[str] = []
        self.seen = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        self.seen += 1
        check_element(name, attributes)
        if self.seen > MAX_MARKUP_ELEMENTS or len(self.open) >= MAX_MARKUP_DEPTH:
            raise ValueError(f"the markup has over {MAX_MARKUP_ELEMENTS} elements or {MAX_MARKUP_DEPTH} in each other; "
                             "split the text")
        if (name == "speak") == bool(self.open):
            raise ValueError("the markup must be one <speak> element, and no other one in it")
        if self.open and self.open[-1][0] in (*TEXT_ONLY, "break"):
            raise ValueError(f"<{self.open[-1][0]}> cannot hold <{name}>")
        self.open.append((name, attributes))
        if name in ("p", "s"):
            self.items.append(Stop("paragraph" if name == "p" else "sentence"))
        elif name == "break":
            self.items.append(Stop(seconds=break_seconds(attributes)))
        elif name == "prosody":
            self.manners.append(prosody(self.manners[-1], attributes))
        self.inside = []

    def words(self, text: str) -> None:
        """Text comes."""
        if self.open[-1][0] in TEXT_ONLY:
            self.inside.append(text)
        elif self.open[-1][0] == "break" and text.strip():
            raise ValueError("<break> holds nothing: write <break/>")
        else:
            self.items.append(Span(re.sub(r"\s+", " ", text), manner=self.manners[-1]))

    def end(self, name: str) -> None:
        """An element ends."""
        _, attributes = self.open.pop()
        text = " ".join("".join(self.inside).split())
        manner = self.manners[-1]
        if name in ("p", "s"):
            self.items.append(Stop("paragraph" if name == "p" else "sentence"))
        elif name == "prosody":
            self.manners.pop()
        elif name == "sub":
            self.items.append(Span(required(name, attributes, "alias"), manner=manner))
        elif name == "say-as":
            said = say_as(text, required(name, attributes, "interpret-as"), attributes.get("format"))
            self.items.append(Span(said, manner=manner))
        elif name == "phoneme":
            if attributes.get("alphabet", "ipa") not in ("ipa", "x-photophone"):
                raise ValueError(f"<phoneme> knows the alphabet ipa, got {attributes['alphabet']!r}")
            sounds = required(name, attributes, "ph")
            self.items.append(Span(text or sounds, sounds, manner))


def check_element(name: str, attributes: dict[str, str]) -> None:
    """Refuse what is not known.

    Raises:
        ValueError: names the element, or the attribute.
    """
    if name not in ELEMENTS:
        raise ValueError(f"the markup has <{name}>, which is not known; known are "
                         f"{', '.join(f'<{known}>' for known in ELEMENTS)}")
    for key in attributes:
        if key not in ELEMENTS[name] and key.partition(":")[0] not in ("xml", "xmlns", "xsi"):
            known = ", ".join(ELEMENTS[name]) or "none"
            raise ValueError(f"<{name}> has the attribute {key}, which is not known; known: {known}")


def required(name: str, attributes: dict[str, str], key: str) -> str:
    """An attribute that an element must have.

    Raises:
        ValueError: it has none, or an empty one.
    """
    value = attributes.get(key, "").strip()
    if not value:
        raise ValueError(f"<{name}> needs the attribute {key}")
    return value


def break_seconds(attributes: dict[str, str]) -> float:
    """How long a break lasts: its time, else by its strength, else that of a medium one.

    Raises:
        ValueError: neither is one.
    """
    if "time" in attributes:
        match = re.fullmatch(r"\+?(\d{1,6}(?:\.\d{1,6})?|\.\d{1,6})(ms|s)", attributes["time"].strip())
        if match is None:
            raise ValueError(f"<break> needs a time such as 500ms or 0.5s, got {attributes['time'][:40]!r}")
        return pause_seconds(*match.groups())
    return named("break", "strength", STRENGTHS, attributes.get("strength", "medium"))


def named(element: str, attribute: str, values: dict[str, float], name: str) -> float:
    """The value of a name.

    Raises:
        ValueError: an unknown one.
    """
    if name.strip() not in values:
        raise ValueError(f"<{element}> has {attribute}={name[:40]!r}; known are {', '.join(values)}"
                         + ("" if attribute == "strength" else " and numbers such as "
                            + ("120%" if attribute == "rate" else "+3dB")))
    return values[name.strip()]


def prosody(manner: Manner, attributes: dict[str, str]) -> Manner:
    """The manner inside of a ``prosody`` element; those around it count too.

    Raises:
        ValueError: values that are unknown, or together outside the limits.
    """
    rate, volume = attributes.get("rate", "medium").strip(), attributes.get("volume", "medium").strip()
    match = re.fullmatch(r"([+-]?)(\d{1,4}(?:\.\d{1,3})?)(%?)", rate)
    if match is None:
        factor = named("prosody", "rate", RATES, rate)
    else:  # "120%" and "1.2" are shares of the pace, "+20%" a change of it
        factor = float(match[2]) / (100 if match[3] else 1)
        factor = {"": factor, "+": 1 + factor, "-": 1 - factor}[match[1]]
    match = re.fullmatch(r"([+-]?\d{1,3}(?:\.\d{1,3})?)dB", volume)
    louder = named("prosody", "volume", VOLUMES, volume) if match is None else float(match[1])
    made = Manner(manner.rate * factor, manner.volume + louder)
    if not SPEED_RANGE[0] <= made.rate <= SPEED_RANGE[1]:
        raise ValueError(f"<prosody> makes the rate {made.rate:g}; it must be {SPEED_RANGE[0]:g} to {SPEED_RANGE[1]:g}")
    if not VOLUME_RANGE[0] <= made.volume <= VOLUME_RANGE[1]:
        raise ValueError(f"<prosody> makes the volume {made.volume:+g} dB; it must be {VOLUME_RANGE[0]:+g} to "
                         f"{VOLUME_RANGE[1]:+g}")
    return made
