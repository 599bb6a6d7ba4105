"""Text as TASTE reads it: words between spaces, each cut by two vocabularies with a space in front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from photophone.text.voxcpm import check_words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class WordIds:
    """Ids of some words.

    Attributes:
        ids: of all words, one after the other.
        words: the number of the word that each id belongs to.
    """

    ids: list[int]
    words: list[int]

    @property
    def begins(self) -> list[int]:
        """Places of the first id of each word."""
        return [place for place, word in enumerate(self.words) if not place or word != self.words[place - 1]]


def split_words(text: str) -> list[str]:
    """The words of a text.

    Raises:
        ValueError: see :func:`photophone.text.voxcpm.check_words`.
    """
    check_words(text)
    return text.split()


def word_ids(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> WordIds:
    """Ids of words, each cut on its own with a space in front.

    Raises:
        ValueError: a word that the vocabulary has no id for.
    """
    ids: list[int] = []
    numbers: list[int] = []
    for number, word in enumerate(words):
        made = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        if not made:
            raise ValueError(f"the vocabulary has no ids for {word!r:.40}")
        ids += made
        numbers += [number] * len(made)
    return WordIds(ids, numbers)


def vocabulary_pieces(tokenizer: PreTrainedTokenizerBase, count: int) -> list[str]:
    """What each of ``count`` ids stands for, a word's first one with its space."""
    return [tokenizer.decode([index], clean_up_tokenization_spaces=False) for index in range(count)]


def said_words(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], begins: Sequence[int]) -> list[str]:
    """The words of ids, of which those at ``begins`` begin one; without white space."""
    ends = [*begins[1:], len(ids)]
    return ["".join(tokenizer.decode(list(ids[begin:end]), clean_up_tokenization_spaces=False).split())
            for begin, end in zip(begins, ends, strict=True)]
