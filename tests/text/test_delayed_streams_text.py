"""Texts for delayed streams, and words with their times; vocabularies of SentencePiece beside those of its library."""

import json
from pathlib import Path

import pytest

from photophone.text.delayed_streams import TimedWord, WordTimer, check_script, script_words
from photophone.text.sentencepiece import BPE, UNIGRAM, load_sentencepiece, read_sentencepieces

PIECES = Path(__file__).parents[1] / "goldens" / "data" / "sentencepiece"
RECORDED = json.loads((PIECES / "recorded.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tokenizer():
    return load_sentencepiece(PIECES / "unigram.model")


@pytest.mark.parametrize("kind", RECORDED)
def test_ids_are_those_of_sentencepiece(kind):
    """Recorded with sentencepiece 0.2.3: ids of texts, and what they decode to."""
    tokenizer = load_sentencepiece(PIECES / f"{kind}.model")
    for text, ids, decoded in RECORDED[kind]:
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids, text
        assert tokenizer.decode(ids) == decoded, text
    assert len(RECORDED[kind]) > 25 and len(tokenizer) == 600


def test_what_a_vocabulary_says():
    vocabulary = read_sentencepieces(PIECES / "unigram.model")
    assert vocabulary.kind == UNIGRAM and vocabulary.byte_fallback and vocabulary.dummy_prefix
    assert vocabulary.unknown == 0 and len(vocabulary.pieces) == 600 and vocabulary.pieces[4][0] == "<0x00>"
    assert read_sentencepieces(PIECES / "bpe.model").kind == BPE


def test_pieces_of_control_are_never_written(tokenizer):
    for text in ("<s>", "</s>", "<unk>", "<pad>"):
        assert min(tokenizer(text, add_special_tokens=False)["input_ids"]) > 3


def test_vocabularies_that_cannot_be_read_are_refused(tmp_path):
    whole = (PIECES / "unigram.model").read_bytes()
    for name, data in {"empty": b"", "cut": whole[:1001], "noise": bytes(range(256)), "text": b"{}"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match="no vocabulary of SentencePiece"):
            read_sentencepieces(tmp_path / name)
    with pytest.raises(ValueError, match="no such vocabulary"):
        read_sentencepieces(tmp_path / "away")
    (tmp_path / "words").write_bytes(whole + b"\x12\x02\x18\x03")  # model_type 3 in a second trainer_spec
    with pytest.raises(ValueError, match="cuts words or characters"):
        read_sentencepieces(tmp_path / "words")


def test_scripts_are_those_of_the_authors(tokenizer):
    words = script_words(tokenizer, 'It’s (really): <break time="1.5s"/>two\twords<break time="0.2s">', 12.5)
    assert [word.text for word in words] == ["It's", "really", "", "two", "words", ""]
    assert [word.padding for word in words if not word.ids] == [19, 2]  # round(18.75), round(2.5)
    first, second = words[0], words[1]
    ids = tokenizer("It's", add_special_tokens=False)["input_ids"]
    assert first.ids == (1, *ids) and first.padding == len(ids) + 1 and second.padding == len(second.ids)
    loose = script_words(tokenizer, "It's two", 12.5, padding_between=0, speakers=False)
    assert loose[0].ids == tuple(ids) and [word.padding for word in loose] == [0, 0]
    assert script_words(tokenizer, "two", 12.5, padding_between=3)[0].padding == len(script_words(
        tokenizer, "two", 12.5)[0].ids) + 2


@pytest.mark.parametrize(("text", "message"), [
    ("", "no words"), ("?! ()", "no words"), ('<break time="1s"/>', "no words"), (7, "must be a string"),
    ('a <break time="10.5s"/>', "break of 10.5 s, the limit is 10"), ("a\x00", "control character")])
def test_texts_without_words_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        check_script(text)


WORDS = {10: " he", 11: " said", 12: "ly", 13: "!"}


def timer(late=1.0, **options):
    return WordTimer(lambda ids: "".join(WORDS[one] for one in ids).strip(), lambda word: 1 + word.count("ly"), 10.0,
                     late, **options)


def heard(ids, **options):
    made = timer(**options)
    words = [(frame, word) for frame, one in enumerate(ids) for word in made.feed(one)]
    return words + [(len(ids), word) for word in made.finish()]


def test_words_last_until_the_next_begins():
    """0 says that a word begins with the next frame, 3 that nothing is said; at 10 frames a second, 1 s late."""
    ids = [3] * 12 + [0, 10, 3, 3, 0, 11, 12, 3, 0, 13, 3]
    assert heard(ids) == [(16, TimedWord("he", 0.3, 0.6)), (20, TimedWord("saidly", 0.7, 1.0)),
                          (23, TimedWord("!", 1.1, 1.3))]


def test_a_pause_ends_a_word_after_a_second():
    ids = [3] * 10 + [0, 10] + [3] * 30 + [0, 11, 3]
    assert heard(ids) == [(20, TimedWord("he", 0.1, 1.1)), (45, TimedWord("said", 3.3, 3.5))]


def test_words_without_a_sign_between_get_a_frame_for_each_id():
    assert heard([3] * 10 + [0, 11, 12, 10, 3, 3, 0]) == [(13, TimedWord("saidly", 0.1, 0.3)),
                                                        (16, TimedWord("he", 0.3, 0.6))]


def test_words_before_the_first_sign_are_kept_and_an_end_ends():
    assert heard([10, 3, 2, 3, 11]) == [(2, TimedWord("he", 0.0, 0.0)), (5, TimedWord("said", 0.0, 0.0))]
    assert heard([3] * 15) == [] and heard([]) == [] and heard([0] * 20) == []


def test_no_word_lasts_beyond_the_recording():
    assert heard([3] * 11 + [0, 10, 3, 3], seconds=0.35) == [(15, TimedWord("he", 0.2, 0.35))]


def test_a_word_that_never_ends_is_cut():
    words = heard([0] + [12] * 250, late=0.0)
    assert [len(word.text) for _, word in words] == [200, 200, 100]
