"""Written forms and pieces of text as CosyVoice's authors have them; Whisper's vocabulary from its ranks."""

import base64

import pytest
from cosyvoice_folders import byte_vocabulary, write_ranks

from photophone.text import cosyvoice_forms
from photophone.text.cosyvoice_forms import as_said, cosyvoice_pieces, is_rewritten, sentence_groups, spelled_out
from photophone.text.whisper_text import load_whisper_tokenizer, merges_of, read_ranks, special_tokens

WORDS = ["he", "hen", "en", " h", " hen", "ll", "ell", "hell", "lo", "你", "好", "\xe9l"]


@pytest.mark.parametrize(("text", "read"), [
    ("There are 12 hens.", "There are twelve hens."), ('He said "12".', 'He said "twelve".'),
    ("It costs $3.50 on May 1, 2024.", None),
    ("今天是2024年5月1日，气温25度，", "今天是二零二四年五月一日，气温二十五度。"),
    ("面积是5 m² - 不大（真的）。", None), ("天 气 hello world 好", "天气hello world好"),
])
def test_written_forms_become_words(text, read):
    words = spelled_out(text)
    assert not any(character.isdigit() for character in words) and "（" not in words and "²" not in words
    assert read is None or words == read


def test_the_switch_and_missing_libraries(monkeypatch):
    assert is_rewritten("12 hens", None) and is_rewritten("12 hens", True) and not is_rewritten("12 hens", False)
    assert not is_rewritten("<|en|>12 hens", True)
    monkeypatch.setattr(cosyvoice_forms, "LIBRARIES", ("no_such_library", "inflect"))
    with pytest.raises(ValueError, match=r"needs no_such_library: pip install 'photophone\[cosyvoice\]'"):
        is_rewritten("12 hens", True)
    with pytest.warns(UserWarning, match="the digits of '12 hens' are read as they are written"):
        assert not is_rewritten("12 hens", None)
    assert not is_rewritten("twelve hens", None)  # nothing to tell


def test_texts_on_which_the_grammars_fail():
    with pytest.raises(ValueError, match="wetext cannot read 'No. #5' .*; give normalize=False"):
        as_said("No. #5", True)
    with pytest.warns(UserWarning, match="read as it is written: wetext cannot read"):
        assert as_said("No. #5", None) == "No. #5"
    assert as_said("No. #5", False) == "No. #5" and as_said("5 hens", None) == "five hens"


def test_sentences_are_put_together_until_they_are_long_enough():
    """Worked out by hand from the authors' rule: over 80 with more than 60 ends a piece, a rest under 20 joins it."""
    long, short = "a" * 59 + ".", "b" * 29 + "."
    assert sentence_groups(long + short, len) == [long + short]  # 60 is not more than 60
    assert sentence_groups("a" + long + short, len) == ["a" + long, short]
    rest = "b" * 18 + "." + "c" * 18 + "."
    assert sentence_groups("a" + long + rest, len) == ["a" + long + rest]  # 80, then 19 more, which join
    assert sentence_groups("a" + long + rest[:-1] + "c.", len) == ["a" + long + rest[:19], "c" * 19 + "."]
    assert sentence_groups("No way?! Yes", len) == ["No way? Yes."]
    assert sentence_groups('He said "no!" and left', len) == ['He said "no!" and left.']
    assert sentence_groups("好。" * 50, len) == ["好。" * 40, "好。" * 10]
    assert sentence_groups("...", len) == []


def test_pieces_of_a_text():
    tokenizer = byte_vocabulary()

    def pieces(text, normalize):
        return [(piece.text, piece.ends) for piece in cosyvoice_pieces(tokenizer, text, normalize)]

    assert pieces("One hen. Two men\n\nThree cats", True) == [("One hen. Two men.", "paragraph"),
                                                             ("Three cats.", "paragraph")]
    assert pieces("1 hen. 2 men", False) == [("1 hen. 2 men", "paragraph")]
    assert pieces("<|en|>1 hen", True) == [("<|en|>1 hen", "paragraph")]
    endless = pieces("ab " * 200, False)
    assert len(endless) == 3 and all(len(text) <= 200 for text, _ in endless)
    assert "".join(text for text, _ in endless).replace(" ", "") == "ab" * 200
    assert [ends for _, ends in pieces("x" * 70 + ". " + "y" * 70 + ".", None)] == ["sentence", "paragraph"]
    with pytest.raises(ValueError, match="no words"):
        pieces("...", None)


def joined(ranks, word):
    """Ids of a word: again and again the leftmost pair of the lowest rank is joined, as tiktoken does it."""
    if word in ranks:
        return [ranks[word]]
    parts = [bytes([byte]) for byte in word]
    while True:
        known = [(ranks[first + second], place) for place, (first, second) in enumerate(zip(parts, parts[1:]))
                 if first + second in ranks]
        if not known:
            return [ranks[part] for part in parts]
        _, place = min(known)
        parts[place:place + 2] = [parts[place] + parts[place + 1]]


def test_ids_follow_from_the_ranks(tmp_path):
    path = write_ranks(tmp_path / "v.tiktoken", WORDS)
    ranks = read_ranks(path)
    for events in (False, True):
        specials = special_tokens(events)
        size = len(ranks) + len(specials)
        tokenizer = load_whisper_tokenizer(path, size)
        for word in ("hen", "hello", "hhenell", "xhen", "你好", "\xe9l\xe9l", "llell"):
            assert tokenizer(word, add_special_tokens=False)["input_ids"] == joined(ranks, word.encode()), word
        text = tokenizer("hen hen<|en|>hen, it's <|0.02|>", add_special_tokens=False)["input_ids"]
        assert text[:3] == [ranks[b"hen"], ranks[b" hen"], len(ranks) + 2] and text[-1] == size - 1500
        assert tokenizer.decode(text, skip_special_tokens=False) == "hen hen<|en|>hen, it's <|0.02|>"
        tokenizer.save_pretrained(tmp_path / str(events))
        assert load_whisper_tokenizer(tmp_path / str(events), size)("hello hen")["input_ids"] == tokenizer(
            "hello hen")["input_ids"]
    assert len(special_tokens(False)) == 51866 - 50257 and len(special_tokens(True)) == 60515 - 58836
    whole = path.read_bytes()
    path.write_bytes(whole + b"= %d\n" % len(ranks))  # as Whisper's file ends: a sequence of no bytes
    longer = load_whisper_tokenizer(path, size + 1)
    assert longer("hello<|zh/en|>")["input_ids"] == [*joined(ranks, b"hello"), len(ranks) + 1 + 2 + 103]
    assert (b"h", b"en") in merges_of(ranks) and (b"he", b"n") in merges_of(ranks)


@pytest.mark.parametrize(("content", "message"), [
    (b"aGVu x\n", "line 1 is"), (b"????\n", "line 1 is"), (b"aGVu 0\n", "every byte must have one"),
])
def test_broken_vocabularies_are_refused(tmp_path, content, message):
    path = tmp_path / "v.tiktoken"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_whisper_tokenizer(path, 300)
    with pytest.raises(ValueError, match="no such vocabulary"):
        load_whisper_tokenizer(tmp_path / "w.tiktoken", 300)
    with pytest.raises(ValueError, match="vocabulary of another model: with special tokens it has 1865 or 1935 ids"):
        load_whisper_tokenizer(write_ranks(path), 300)
    assert base64.b64decode(path.read_bytes().split()[0]) == b"\0"
