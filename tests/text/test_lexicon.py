"""A user's own pronunciations: IPA, words, files."""

import json

import pytest

from photophone.text.ipa import read_ipa
from photophone.text.lexicon import Lexicon, make_lexicon, read_lexicon
from photophone.text.phonemes import pronounce
from photophone.text.script import read_script
from photophone.text.speech_text import script_pieces


def phonemes(text, **entries):
    return " ".join(one.piece.phonemes for one in script_pieces(read_script(text), Lexicon(entries)))


@pytest.mark.parametrize(("ipa", "word"), [
    ("laɪt", "light"), ("/ˈhæp.i/", "happy"), ("ˈdʒæk", "Jack"), ("tʃɜːtʃ", "church"), ("bɔɪ", "boy"),
    ("həˈloʊ", "hello"), ("ˈmaʊn.tən", None), ("d͡ʒʌd͡ʒ", "judge"), ("ðə", "the thing"), ("θɹˈi", "three"),
    ("ɡreɪt", "great"),
    ("ɡuːs", "goose"), ("[bɜrd]", "bird")])
def test_ipa_is_read_as_the_lexicon_has_it(ipa, word):
    expected = None if word is None else pronounce(word).split()[0]
    assert read_ipa(ipa) == expected or word is None and read_ipa(ipa) == "mˈWntən"


def test_the_voices_own_symbols_stay():
    assert read_ipa("lˈIt kˈɛɹiz sˈWnd") == "lˈIt kˈɛɹiz sˈWnd"
    assert read_ipa("dʒɪf") == "ʤˈɪf"  # stressed where nothing is


@pytest.mark.parametrize(("given", "message"), [("", "no sounds"), ("ˈ", "no sounds"), ("b7", "'7'"), ("ѣ", "U\\+0463"),
                                                ("æ" * 101, "101 symbols"), ("你好", "does not know")])
def test_what_cannot_be_read(given, message):
    with pytest.raises(ValueError, match=message):
        read_ipa(given)


def test_words_are_found_as_they_are_written():
    assert "ʤˈɪf" in phonemes("A GIF.", GIF="dʒɪf") and "ʤˈɪf" not in phonemes("A gif.", GIF="dʒɪf")
    assert all("ʤˈɪf" in phonemes(text, gif="dʒɪf") for text in ("A gif.", "A GIF!", "Gif it.", "(gif)", "gif-like"))
    assert phonemes("My GIF's size.", GIF="dʒɪf").split()[1] == "ʤˈɪfs"
    assert "ʤˈɪf" not in phonemes("gifted gifs", gif="dʒɪf")
    assert "ɡɹˈYn" in phonemes("I live in  New\nYork.", **{"New York": "ɡrɔɪn"})  # several words, any white space


def test_words_that_the_rules_make_are_found_too():
    assert "dˈɑləz" in phonemes("It costs $5.", dollars="ˈdɑləz")


def test_the_longest_entry_counts_and_the_rest_of_the_text_is_read_as_ever():
    entries = {"new": "nju", "new york": "ɡrɔɪn"}
    assert phonemes("A new day in New York, no?", **entries) == phonemes("A new day in New York, no?", **entries)
    plain, told = phonemes("We met Dr. Smith at 7:30 pm in Rome, no?"), phonemes(
        "We met Dr. Smith at 7:30 pm in Rome, no?", rome="ɹoʊm")
    assert plain == told


def test_entries_that_occur_are_told():
    lexicon = Lexicon({"GIF": "dʒɪf", "New York": "ɡrɔɪn", "sky": "skaɪ"})
    assert lexicon.among("a gif of York") == {"GIF": "dʒɪf"}
    assert not Lexicon({}).given and make_lexicon(None).given == {}


def test_files(tmp_path):
    lines, table = tmp_path / "own.tsv", tmp_path / "own.json"
    lines.write_text("# ours\nGIF\tdʒɪf\n\nNew York\tɡrɔɪn\n", encoding="utf-8")
    table.write_text(json.dumps({"GIF": "dʒɪf", "New York": "ɡrɔɪn"}))
    assert read_lexicon(lines) == read_lexicon(table) == make_lexicon(lines).given
    for text, message in (("GIF dʒɪf\n", "line 1: 'GIF dʒɪf' is no word, tab"), ("\tx", "line 1")):
        lines.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            read_lexicon(lines)
    lines.write_bytes(b"GIF\t\xff")
    with pytest.raises(ValueError, match="not UTF-8: byte 0xFF at position 4"):
        read_lexicon(lines)
    for text in ("[1]", "{", "[" * 100_000):
        table.write_text(text)
        with pytest.raises(ValueError, match="JSON"):
            read_lexicon(table)
    with pytest.raises(FileNotFoundError):
        read_lexicon(tmp_path / "none.tsv")


@pytest.mark.parametrize(("entries", "message"), [({"": "a"}, "no letter or digit"), ({"?": "a"}, "no letter or digit"),
                                                  ({"a": 3}, "are strings"), ([], "must be words"),
                                                  ({"x" * 101: "a"}, "over 100 characters"), ({"a": "7"}, "'7'")])
def test_wrong_entries(entries, message):
    with pytest.raises(ValueError, match=message):
        Lexicon(entries)
