"""Text ids of VoxCPM and its pieces of long texts, with a small real tokenizer."""

import pytest
from speech import word_tokenizer

from photophone.text.voxcpm import voxcpm_ids, written_pieces


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer()


def read(tokenizer, text):
    return tokenizer.convert_ids_to_tokens(voxcpm_ids(tokenizer, text))


def test_chinese_words_are_read_character_by_character(tokenizer):
    assert tokenizer.tokenize("hello 你好世界!") == ["▁hello", "▁你好", "世界", "!"]
    assert read(tokenizer, "hello 你好世界!") == ["▁hello", "你", "好", "世", "界", "!"]


def test_other_words_stay_and_white_space_is_one_space(tokenizer):
    assert voxcpm_ids(tokenizer, "  hello\n\tworld ") == tokenizer("hello world")["input_ids"]
    assert read(tokenizer, "hello world") == ["▁hello", "▁world"]


def test_no_words_are_refused(tokenizer):
    with pytest.raises(ValueError, match="empty"):
        voxcpm_ids(tokenizer, " \n ")
    for text, words in ((3, "must be a string"), ("?!", "no words"), ("a" * 200_001, "the limit is 200000"),
                        ("a\x00b", r"U\+0000 at position 1")):
        with pytest.raises(ValueError, match=words):
            list(written_pieces(tokenizer, text))


def pieces(tokenizer, text, limit):
    return [(piece.text, piece.ends) for piece in written_pieces(tokenizer, text, limit)]


def test_sentences_stay_together_as_far_as_they_fit(tokenizer):
    text = "hello world. hello? world!\n\nhello"
    assert pieces(tokenizer, text, 99) == [("hello world. hello? world!", "paragraph"), ("hello", "paragraph")]
    assert pieces(tokenizer, text, 5) == [("hello world. hello?", "sentence"), ("world!", "paragraph"),
                                          ("hello", "paragraph")]
    assert pieces(tokenizer, "你好世界。你好。", 5) == [("你好世界。", "sentence"), ("你好。", "paragraph")]
    assert pieces(tokenizer, "version 2.5 is out", 99) == [("version 2.5 is out", "paragraph")]


@pytest.mark.parametrize("text", ["hello world, hello world hello, world", "hello " * 30, "你好世界" * 9, "abc" * 20])
@pytest.mark.parametrize("limit", [1, 3, 7])
def test_long_sentences_are_split_and_nothing_is_lost(tokenizer, text, limit):
    made = list(written_pieces(tokenizer, text, limit))
    assert "".join("".join(piece.text.split()) for piece in made) == "".join(text.split())
    assert all(len(voxcpm_ids(tokenizer, piece.text)) <= max(limit, 2) for piece in made)  # a letter and its "▁"
    assert len(made) > 1 and {piece.ends for piece in made[:-1]} == {"clause"}


def test_long_sentences_are_split_at_commas_first(tokenizer):
    made = pieces(tokenizer, "hello world, hello hello, world", 3)
    assert made == [("hello world,", "clause"), ("hello hello,", "clause"), ("world", "paragraph")]
