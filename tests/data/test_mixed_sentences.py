"""Sentences mixed of parts of others."""

from collections import Counter

import pytest

from photophone.data.mixed_sentences import LONGEST_PART, MOST_INSERTED, mix_sentences, read_words, write_sentences
from photophone.data.speech_sources import read_sentences

TEXTS = ["One two three four five six seven eight.", "No."]
WORDS = ["hen", "owl"]


def test_a_sentence_begins_as_one_and_ends_as_another():
    starts = {tuple(text.split()[:size]) for text in TEXTS for size in range(1, LONGEST_PART + 1)}
    ends = {tuple(text.split()[-size:]) for text in TEXTS for size in range(1, LONGEST_PART + 1)}
    inserted = Counter()
    for text in mix_sentences(TEXTS, 300, WORDS, seed=1):
        words = text.split()
        places = [index for index, word in enumerate(words) if word in WORDS]
        inserted[len(places)] += 1
        if places:
            assert places == list(range(places[0], places[-1] + 1))
            assert tuple(words[:places[0]]) in starts and tuple(words[places[-1] + 1:]) in ends
        else:
            assert any(tuple(words[:cut]) in starts and tuple(words[cut:]) in ends for cut in range(1, len(words)))
    assert set(inserted) == set(range(MOST_INSERTED + 1))


def test_a_seed_means_the_same_sentences_and_a_list_may_be_missing():
    assert mix_sentences(TEXTS, 9, WORDS, seed=3) == mix_sentences(TEXTS, 9, WORDS, seed=3)
    assert mix_sentences(TEXTS, 9, WORDS, seed=3) != mix_sentences(TEXTS, 9, WORDS, seed=4)
    assert not set(WORDS) & set(" ".join(mix_sentences(TEXTS, 99)).split())
    with pytest.raises(ValueError, match="no sentences"):
        mix_sentences([], 1)


def test_lists_and_tables_of_sentences(tmp_path):
    listed = tmp_path / "words.txt"
    listed.write_text("hen\nhen's\n\nowl\n", encoding="utf-8")
    assert read_words(listed) == WORDS
    listed.write_text("7\n", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no words"):
        read_words(listed)
    texts = ['Say "yes", now.', "No."]
    write_sentences(tmp_path / "a.csv", texts, "train")
    assert [text for text, _ in read_sentences(tmp_path / "a.csv", "train", phonemize=str)] == texts
