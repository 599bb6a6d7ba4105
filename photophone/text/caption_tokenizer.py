"""The vocabulary of captions: byte-pair encoding by the ``tokenizers`` library."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from photophone.core.files import saving_into
from photophone.core.limits import MAX_VOCABULARY_BYTES
from photophone.core.weight_files import read_json_object
from photophone.text.caption_guide import CaptionGuide

PAD = "<pad>"
NULL = "<null>"
UNKNOWN = "<unk>"
MAX_CAPTION_TOKENS = 10_000


class CaptionTokenizer:
    """Ids of normalised captions; see :func:`photophone.text.captions.encode_captions` for those of a user.

    The files are those of transformers' ``PreTrainedTokenizerFast``, which opens them too. That class itself is not
    used: importing transformers takes as long as importing torch.

    Args:
        tokenizer: with the special tokens ``<pad>``, ``<null>`` (the caption that says nothing) and ``<unk>``.
        max_length: tokens of the longest caption.
        guide: makes prompts that name no style into captions of the training data; None where there is none.

    Raises:
        ValueError: a special token is missing, or ``max_length`` is not in 1..10000.
    """

    config_name = "tokenizer_config.json"
    vocabulary_name = "tokenizer.json"

    def __init__(self, tokenizer: Tokenizer, max_length: int, guide: CaptionGuide | None = None) -> None:
        self.guide = guide
        missing = [token for token in (PAD, NULL, UNKNOWN) if tokenizer.token_to_id(token) is None]
        if missing:
            raise ValueError(f"the vocabulary lacks the special tokens {', '.join(missing)}")
        whole = isinstance(max_length, int) and not isinstance(max_length, bool)
        if not whole or not 1 <= max_length <= MAX_CAPTION_TOKENS:
            raise ValueError(f"max_length must be a whole number in 1..{MAX_CAPTION_TOKENS}, got {max_length!r:.60}")
        self.tokenizer = tokenizer
        self.tokenizer.encode_special_tokens = True  # "<pad>" in a caption is five characters
        self.max_length = max_length
        self.pad_id, self.null_id, self.unknown_id = (tokenizer.token_to_id(token) for token in (PAD, NULL, UNKNOWN))

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    @classmethod
    def train(cls, captions: Iterable[str], vocab_size: int, max_length: int) -> Self:
        """Learn a vocabulary (arXiv 1508.07909) of normalised captions.

        Args:
            captions: training texts.
            vocab_size: entries, the three special ones and the alphabet included.
            max_length: tokens of the longest caption.
        """
        tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=True)])
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[PAD, NULL, UNKNOWN], show_progress=False)
        tokenizer.train_from_iterator(captions, trainer)
        return cls(tokenizer, max_length)

    def encode(self, captions: list[str]) -> list[list[int]]:
        """Ids of each normalised caption, without special tokens."""
        return [row.ids for row in self.tokenizer.encode_batch(captions, add_special_tokens=False)]

    def tokens(self, ids: list[int]) -> list[str]:
        """The pieces of text that ids stand for."""
        return [self.tokenizer.id_to_token(number) for number in ids]

    @cached_property
    def characters(self) -> frozenset[str]:
        """All that captions may be written with."""
        return frozenset("".join(set(self.tokenizer.get_vocab()) - {PAD, NULL, UNKNOWN})) | {" "}

    def save_pretrained(self, save_directory: str | os.PathLike) -> None:
        """Write the vocabulary into a folder.

        Raises:
            NoSpace: the disk is full.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": self.max_length,
                    "pad_token": PAD, "unk_token": UNKNOWN, "extra_special_tokens": [NULL]}
        with saving_into(folder):
            self.tokenizer.save(str(folder / self.vocabulary_name))
            text = json.dumps(settings, indent=2, sort_keys=True)
            (folder / self.config_name).write_text(text + "\n", encoding="utf-8")
            if self.guide is not None:
                self.guide.save(folder)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike) -> Self:
        """A saved vocabulary.

        Raises:
            ValueError: a file is missing, damaged, or not what :meth:`save_pretrained` or transformers wrote.
        """
        folder = Path(folder)
        for name in (cls.vocabulary_name, cls.config_name):
            if not (folder / name).is_file():
                raise ValueError(f"{folder} holds no {name}")
        vocabulary = folder / cls.vocabulary_name
        read_json_object(vocabulary, MAX_VOCABULARY_BYTES)
        length = read_json_object(folder / cls.config_name).get("model_max_length")
        try:
            tokenizer = Tokenizer.from_file(str(vocabulary))
        except Exception as error:  # the library raises plain ones
            raise ValueError(f"{vocabulary} is not a vocabulary of the tokenizers library: {error}") from error
        guide = CaptionGuide.load(folder)
        try:
            return cls(tokenizer, length, guide)
        except ValueError as error:
            words = str(error).replace("max_length", f"model_max_length of {cls.config_name}")
            raise ValueError(f"{folder}: {words}; download or save it again") from error
