"""Markup, plain pauses and inline pronunciations: what is read, what is refused by name, and text that stays text."""

import pytest

from photophone.core.limits import MAX_MARKUP_DEPTH, MAX_MARKUP_ELEMENTS
from photophone.text.lexicon import Lexicon
from photophone.text.script import Manner, Span, Stop, read_script
from photophone.text.speech_text import script_pieces, speech_pieces


def pieces(text, markup=None, **pronounce):
    return script_pieces(read_script(text, markup), Lexicon(pronounce))


def read(text, markup=None, **pronounce):
    """The words of each piece."""
    return [one.piece.text for one in pieces(text, markup, **pronounce)]


def speak(inner):
    return f"<speak>{inner}</speak>"


@pytest.mark.parametrize("text", ["x < 3 and y > 4", "a <b>big</b> house", "I <3 you", "if a<b then", "< speak >hello",
                                  "see [the guide](/docs/) and [this](https://x.com)", "[pause] here", "[pause 1 hour]",
                                  "say <speak> here", "<speaker> on"])
def test_text_that_merely_has_such_signs_stays_text(text):
    assert read_script(text).items == (Span(text),) and read_script(text).is_plain
    assert [one.piece for one in pieces(text)] == list(speech_pieces(text))


@pytest.mark.parametrize("text", ["Hello [pause 1s] you", "[GIF](/dʒɪf/)", "<speak>Hello</speak>"])
def test_markup_can_be_switched_off(text):
    assert read_script(text, markup=False).is_plain


def test_plain_pauses_cut_a_text_and_last_as_long_as_they_say():
    made = pieces("[pause 250ms] One [pause 0.5s] two. [pause 1 s][pause 500 ms] Three.[pause 2s]")
    assert [(one.piece.text, one.before, one.behind, one.piece.ends) for one in made] == [
        ("One", 0.25, 0.5, "clause"), ("two.", 0, 1.5, "sentence"), ("Three.", 0, 2.0, "paragraph")]
    assert read_script('so <break time="0.5s"/> it is').items[1] == Stop(seconds=0.5)


def test_sentences_and_paragraphs_end_without_punctuation():
    made = pieces(speak("<p><s>One</s><s>two</s></p><p>three</p>"))
    assert [(one.piece.text, one.piece.ends) for one in made] == [
        ("One", "sentence"), ("two", "paragraph"), ("three", "paragraph")]


@pytest.mark.parametrize(("attributes", "seconds"), [
    ('time="500ms"', 0.5), ('time="1.5s"', 1.5), ('time="+2s"', 2.0), ('strength="none"', 0.0),
    ('strength="strong"', 0.8), ("", 0.4), ('time="0.3s" strength="x-strong"', 0.3)])
def test_breaks(attributes, seconds):
    (first, _) = pieces(speak(f"One. <break {attributes}/> Two."))
    assert first.behind == seconds and first.piece.ends == "sentence"


@pytest.mark.parametrize(("inner", "words"), [
    ('<say-as interpret-as="characters">W3C</say-as>', "W three C"),
    ('<say-as interpret-as="spell-out">abc</say-as>', "A.B.C"),
    ('<say-as interpret-as="cardinal">1,205</say-as>', "one thousand two hundred five"),
    ('<say-as interpret-as="cardinal">-3.5</say-as>', "minus three point five"),
    ('<say-as interpret-as="ordinal">21</say-as>', "twenty first"),
    ('<say-as interpret-as="digits">2024</say-as>', "two zero two four"),
    ('<say-as interpret-as="telephone">+1 (212) 55</say-as>', "plus one, two one two, five five"),
    ('<say-as interpret-as="year">1905</say-as>', "nineteen oh five"),
    ('<say-as interpret-as="date" format="dmy">3/4/2021</say-as>', "April third, twenty twenty one"),
    ('<say-as interpret-as="date" format="mdy">3/4/2021</say-as>', "March fourth, twenty twenty one"),
    ('<say-as interpret-as="date" format="ymd">2021-03-04</say-as>', "March fourth, twenty twenty one"),
    ('<say-as interpret-as="date" format="md">12/24</say-as>', "December twenty fourth"),
    ('<say-as interpret-as="time">14:30</say-as>', "fourteen thirty"),
    ('<sub alias="World Wide Web">WWW</sub>', "World Wide Web"),
    ("3 &lt; 4 &amp; 5", "three is less than four and five"),
    ('<phoneme ph="təˈmeɪtoʊ">tomato</phoneme>', "tomato"), ("<![CDATA[x < y]]>", "x is less than y"),
    ("<!-- nothing -->one", "one"), ("two\n  lines", "two lines")])
def test_elements(inner, words):
    assert read(speak(f"So {inner} it is.")) == [f"So {words} it is."]


def test_manner_holds_inside_and_adds_up():
    text = speak('One <prosody rate="fast">two <prosody rate="80%" volume="+3dB">three</prosody> four</prosody> five.')
    assert [(one.piece.text, one.manner) for one in pieces(text)] == [
        ("One", Manner()), ("two", Manner(1.25)), ("three", Manner(1.0, 3.0)), ("four", Manner(1.25)),
        ("five.", Manner())]
    for rate, factor in (("150%", 1.5), ("+20%", 1.2), ("-20%", 0.8), ("0.9", 0.9), ("x-slow", 0.5)):
        assert pieces(speak(f'<prosody rate="{rate}">one</prosody>'))[0].manner.rate == pytest.approx(factor)


def test_pronunciations_by_element_inline_and_by_lexicon_sound_alike():
    said = [" ".join(one.piece.phonemes for one in made) for made in (
        pieces(speak('I saw a <phoneme ph="dʒɪf">GIF</phoneme>, twice.')), pieces("I saw a [GIF](/dʒɪf/), twice."),
        pieces("I saw a GIF, twice.", GIF="dʒɪf"))]
    assert len(set(said)) == 1 and "ʤˈɪf" in said[0]
    assert [word.text for word in pieces("I saw a GIF, twice.", GIF="dʒɪf")[0].piece.words] == [
        "I", "saw", "a", "GIF", "twice"]


@pytest.mark.parametrize(("inner", "message"), [
    ("<audio src='a.wav'/>", "<audio>, which is not known; known are <speak>, <p>, <s>, <break>"),
    ("<mstts:express-as>a</mstts:express-as>", "has <mstts:express-as>"),
    ("<prosody pitch='high'>a</prosody>", "<prosody> has the attribute pitch, which is not known; known: rate, volume"),
    ("<s><speak>a</speak></s>", "one <speak> element"), ("a < b", "no XML: .* at line 1, column 11"),
    ("<p>a", "no XML: mismatched tag"), ("a &nbsp; b", "undefined entity"),
    ("<break time='11s'/>a", "over the limit of 10 s"),
    ("<break time='soon'/>a", "time such as 500ms"), ("<break strength='huge'/>a", "known are none, x-weak"),
    ("<break>a</break>", "holds nothing"), ("<sub>a</sub>", "needs the attribute alias"),
    ("<sub alias='b'><s>a</s></sub>", "<sub> cannot hold <s>"),
    ("<say-as interpret-as='poem'>a</say-as>", "does not know interpret-as='poem'; it knows characters"),
    ("<say-as interpret-as='ordinal'>many</say-as>", "needs a whole number, got 'many'"),
    ("<say-as interpret-as='date' format='dmy'>31/2/2020</say-as>", "no date"),
    ("<say-as interpret-as='date' format='mdy'>1/2</say-as>", "needs 3 numbers"),
    ("<phoneme ph='a' alphabet='x-sampa'>a</phoneme>", "alphabet ipa, got 'x-sampa'"),
    ("<phoneme ph='ǃa'>a</phoneme>", "U\\+01C3"), ("<prosody rate='3'>a</prosody>", "rate 3; it must be 0.5 to 2"),
    ("<prosody rate='quick'>a</prosody>", "rate='quick'; known are x-slow"),
    ("<prosody volume='+30dB'>a</prosody>", "volume \\+30 dB"), ("", "nothing in the text"),
    ("<break/>", "nothing in the")])
def test_refusals_name_what_is_wrong(inner, message):
    with pytest.raises(ValueError, match=message):
        pieces(speak(inner))


@pytest.mark.parametrize("head", ['<!DOCTYPE speak [<!ENTITY a "b">]>', '<!DOCTYPE speak SYSTEM "file:///etc/passwd">',
                                  '<!DOCTYPE speak [<!ENTITY a SYSTEM "file:///etc/passwd">]>'])
def test_document_types_are_refused_so_nothing_grows_and_nothing_is_fetched(head):
    with pytest.raises(ValueError, match="document type"):
        read_script(f"{head}<speak>&a;</speak>")
    with pytest.raises(ValueError, match="processing instruction"):
        read_script(speak("<?php x ?>"))


def test_markup_has_limits():
    with pytest.raises(ValueError, match="elements"):
        read_script(speak("<s>" * (MAX_MARKUP_DEPTH + 1) + "</s>" * (MAX_MARKUP_DEPTH + 1)))
    with pytest.raises(ValueError, match="over the limit|the limit is|elements"):
        read_script(speak("<s/>" * (MAX_MARKUP_ELEMENTS + 1)))
    with pytest.raises(ValueError, match="over the limit of 10 s"):
        read_script("one [pause 60s] two")


def test_a_declaration_and_name_spaces_are_read():
    text = ('<?xml version="1.0" encoding="UTF-8"?>\n<speak version="1.1" xmlns="http://www.w3.org/2001/10/synthesis" '
            'xml:lang="en-US">Hello <s xml:lang="en">there</s></speak>')
    assert read(text) == ["Hello", "there"]
    assert read("Hello <break/> there", markup=True) == ["Hello", "there"]  # the root may be left out
