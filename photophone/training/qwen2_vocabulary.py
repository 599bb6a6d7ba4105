"""A small vocabulary in Qwen2's format, for small models of its kind.

In its format, because that is how it is read wherever Qwen2's ``config.json`` lies beside it: transformers takes the
rules of the model's class then, whatever the vocabulary's own files say of case and of where words are split.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

END_OF_TEXT = "<|endoftext|>"
"""The token of Qwen2 that ends texts, and pads them; nothing here reads it."""


def write_qwen2_vocabulary(texts: Iterable[str], folder: Path, size: int) -> None:
    """Write a vocabulary in Qwen2's format: byte pairs of some texts.

    Args:
        texts: to count pairs in.
        folder: such as ``CosyVoice-BlankEN``.
        size: entries, without those that CosyVoice adds.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import Qwen2TokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    empty = folder / "vocab.json", folder / "merges.txt"
    empty[0].write_text(json.dumps({END_OF_TEXT: 0}))
    empty[1].write_text("")
    rules = Qwen2TokenizerFast(str(empty[0]), str(empty[1])).backend_tokenizer
    counted = Tokenizer(models.BPE())
    counted.normalizer, counted.pre_tokenizer = rules.normalizer, rules.pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    counted.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size - 1, initial_alphabet=alphabet,
                                                           show_progress=False))
    counted.model.save(str(folder))
    vocabulary = json.loads(empty[0].read_text())
    empty[0].write_text(json.dumps({**vocabulary, END_OF_TEXT: len(vocabulary)}, ensure_ascii=False))
    Qwen2TokenizerFast(str(empty[0]), str(empty[1])).save_pretrained(folder)
