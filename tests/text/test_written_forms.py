"""The list of written forms, plain prose and homographs, by their phonemes; what is left out is told."""

import re
from collections import Counter
from pathlib import Path

import pytest

from photophone.evaluation.metrics.readings import misread, read_forms
from photophone.text.forms.addresses import ADDRESSES
from photophone.text.forms.markup import MARKUP
from photophone.text.phonemes import pronounce
from photophone.text.speech_text import speech_pieces, unread_parts
from photophone.text.written_forms import _KINDS, rewrite

FOLDER = Path(__file__).parent / "forms"
FORMS = read_forms(FOLDER / "written_forms.tsv")
HOMOGRAPHS = [line.split("\t") for line in (FOLDER / "homographs.tsv").read_text(encoding="utf-8").splitlines()[1:]]


def ours(text):
    return " ".join(piece.phonemes for piece in speech_pieces(text))


def test_the_list_has_400_forms_and_ten_of_each_kind():
    kinds = Counter(form.kind for form in FORMS)
    assert sum(kinds.values()) >= 400 and min(kinds.values()) >= 10 and len({form.written for form in FORMS}) >= 400


@pytest.mark.parametrize("kind", sorted({form.kind for form in FORMS}))
def test_forms_of_a_kind_are_read_as_expected(kind):
    wrong = misread([form for form in FORMS if form.kind == kind], ours)
    assert [(form.written, rewrite(form.written), form.spoken) for form in wrong.get(kind, [])] == []


def test_plain_prose():
    prose = read_forms(FOLDER / "prose.tsv")
    assert len(prose) >= 100
    assert [form.written for form in misread(prose, ours).get("prose", [])] == []


def test_forms_that_were_kept_apart_until_the_rules_were_done():
    wrong = misread(read_forms(FOLDER / "held_out.tsv"), ours)
    assert [(form.written, rewrite(form.written)) for forms in wrong.values() for form in forms] == []


def test_homographs():
    bare = str.maketrans("", "", "ˈˌ.,?!")
    wrong = [sentence for _, phonemes, sentence in HOMOGRAPHS
             if phonemes.translate(bare) not in pronounce(sentence).translate(bare).split()]
    assert len(HOMOGRAPHS) >= 100 and wrong == []


@pytest.mark.parametrize(("text", "unread"), [
    ("It is late.", ()),
    ("See https://a.org/b?q=1#c now.", ("?q=1#c",)),
    ("Read bell.org/a/b/c/d/e.", ("d/e",)),
    ("See [the guide](https://example.com/a).", ("https://example.com/a",)),
    ("Nice :-) and ^^ here", (":-)", "^^")),
    ("one ┌─┐ two", ("┌", "─", "┐")),
])
def test_what_is_not_read_is_told(text, unread):
    assert unread_parts(text) == unread


@pytest.mark.parametrize(("text", "words"), [
    ("a ☥ sign", "ankh"), ("x ⋈ y", "bowtie"), ("10 ⌘", "place of interest"), ("5 ₾", "lari"),
    ("pay in $.", "dollars."),
    ("press # now", "hash"),
    ("ΔT", "delta"), ("kΩ", "omega")])
def test_a_rare_sign_is_read_by_its_name(text, words):
    assert words in rewrite(text)


def test_a_result_tells_what_it_did_not_say():
    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

    pipeline = TextToSpeechPipeline.from_pretrained("photophone/tiny-speech")
    assert pipeline.facts("Go to a.org?b=1.", 1)["unread"] == ["?b=1"]
    assert "unread" not in pipeline.facts("Go.", 1)
    assert pipeline("Hi :)", output_type="latent").unread == [(":)",)]


def test_no_hyphen_is_left_where_a_line_cuts_a_word():
    assert re.search(r"\bphenated", rewrite("A hy-\nphenated word.")) is None


def test_rules_that_are_left_out_without_digits_find_nothing_there():
    rules = [rule for kind in (*_KINDS, MARKUP, ADDRESSES) for rule in kind if rule.of_digits]
    assert len(rules) > 100
    texts = [re.sub(r"\d", letter, form.written) for form in FORMS for letter in ("", "x", "B", "½")]
    found = [(rule.source, text) for rule in rules for text in texts if rule.pattern.search(text)]
    assert not found
