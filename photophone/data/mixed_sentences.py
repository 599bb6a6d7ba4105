"""Sentences made of parts of others, for models that read text: more of them than anybody wrote.

A small corpus holds most of its words once or twice, always behind the same word, and a model learns the sentences by
heart before it learns to spell. What is made here has no meaning, but every word stands at other places, and words of
a list come in between.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from photophone.core.files import atomic_write

LONGEST_PART = 7
"""Words of a sentence that are taken at most."""
MOST_INSERTED = 4
"""Words of the list between two parts at most."""


def mix_sentences(texts: Sequence[str], count: int, words: Sequence[str] = (), seed: int = 0) -> list[str]:
    """New sentences: the beginning of one, up to :data:`MOST_INSERTED` words of a list, and the end of another.

    Args:
        texts: sentences, words apart by spaces.
        count: how many to make.
        words: to put between; none if empty.
        seed: of the choices.

    Raises:
        ValueError: there are no texts.
    """
    if not texts:
        raise ValueError("no sentences to mix; give at least one")
    choice = np.random.default_rng(seed)
    mixed = []
    for _ in range(count):
        first, last = (texts[index].split() for index in choice.integers(len(texts), size=2))
        begun = first[:choice.integers(1, LONGEST_PART + 1)]
        ended = last[-choice.integers(1, LONGEST_PART + 1):]
        between = [words[index] for index in choice.integers(len(words), size=choice.integers(MOST_INSERTED + 1))
                   ] if words else []
        mixed.append(" ".join([*begun, *between, *ended]))
    return mixed


def read_words(path: Path) -> list[str]:
    """The words of a list, one a line; those with other signs than letters are left out.

    Raises:
        ValueError: the file holds no word.
    """
    words = [line for line in path.read_text(encoding="utf-8").splitlines() if line.isalpha()]
    if not words:
        raise ValueError(f"{path} holds no words; a list has one word a line")
    return words


def write_sentences(path: Path, texts: Sequence[str], split: str) -> None:
    """Write texts as a ``.csv`` of sentences (``text``, ``split``), atomically."""
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "split"])
        rows.writerows([text, split] for text in texts)
