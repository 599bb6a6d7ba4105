"""Captions: normalisation, ids, and the variations that make short, free prompts work."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from photophone.text.caption_tokenizer import CaptionTokenizer
from photophone.text.plain_caption import normalize_caption


def train_caption_tokenizer(captions: Iterable[str], vocab_size: int, max_length: int) -> CaptionTokenizer:
    """Learn a vocabulary of captions.

    Args:
        captions: training texts; they are normalised here.
        vocab_size: entries, the three special ones and the alphabet included.
        max_length: tokens per caption that the generator will read.
    """
    return CaptionTokenizer.train((normalize_caption(caption) for caption in captions), vocab_size, max_length)


def vary_caption(fields: dict[str, str], rng: np.random.Generator, keep: float = 0.6) -> str:
    """A training caption for one image.

    With probability ``keep`` the caption as it stands; else one that a person might type: an article in front, the
    style first, shortened or left out, colour or tag words put in.

    Args:
        fields: caption, label, style, tags, colours of :class:`photophone.data.images.ImageDataset`.
        rng: source of the choices.
    """
    caption = fields["caption"]
    label = fields["label"]
    style = fields["style"]
    if rng.random() < keep or not label:
        return caption
    # tinted silhouettes have a colour word before the label; keep it, it cannot be guessed
    subject = caption.split(",")[0] if label in caption.split(",")[0] else label
    if rng.random() < 0.4:
        subject = ("an " if subject[0] in "aeiou" else "a ") + subject
    tags = [tag for tag in fields["tags"].split() if tag not in subject]
    if tags and rng.random() < 0.3:
        subject += " " + " ".join(rng.permutation(tags)[: rng.integers(1, 3)])
    if style and rng.random() < 0.3:
        style = style.split()[-1] if rng.random() < 0.5 else style.split()[0]
    form = rng.integers(4)
    if form == 0 or not style:
        return subject
    return (f"{subject}, {style}", f"{style} of {subject}", f"{subject} {style}")[form - 1]


def encode_captions(tokenizer: CaptionTokenizer, captions: list[str], *, truncate: bool = False,
                    trim: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Captions to padded ids.

    Args:
        captions: B texts.
        truncate: cut captions over ``tokenizer.max_length``; else they are refused.
        trim: pad to the longest caption only, not to the full length.

    Returns:
        (ids Long (B, L), mask bool (B, L), null ids Long (L,)): the last is the null caption.

    Raises:
        ValueError: a caption with characters outside the vocabulary, or too long.
    """
    limit = tokenizer.max_length
    rows = tokenizer.encode([normalize_caption(caption) for caption in captions])
    for caption, row in zip([] if truncate else captions, rows):
        if tokenizer.unknown_id in row:
            unknown = ", ".join(unknown_characters(tokenizer, caption))
            raise ValueError(f"prompt {shorten(caption)!r} has characters the model was not trained on: {unknown}; "
                             "write it in plain English")
        if len(row) > limit:
            raise ValueError(f"prompt {shorten(caption)!r} has {len(row)} tokens, the model reads {limit}; shorten it")
    length = min(limit, max([1, *map(len, rows)])) if trim else limit
    ids = torch.full((len(rows), length), tokenizer.pad_id)
    for index, row in enumerate(rows):
        ids[index, : min(len(row), length)] = torch.tensor(row[:length], dtype=torch.long)
    null = torch.full((length,), tokenizer.pad_id)
    null[0] = tokenizer.null_id
    return ids, ids != tokenizer.pad_id, null


def unknown_characters(tokenizer: CaptionTokenizer, caption: str, most: int = 10) -> list[str]:
    """Up to ``most`` characters of a caption that its vocabulary lacks, invisible ones by their number."""
    unknown = sorted(set(normalize_caption(caption)) - tokenizer.characters)[:most]
    return [character if character.isprintable() else f"U+{ord(character):04X}" for character in unknown]


def check_characters(text: str, name: str = "text") -> None:
    """Refuse what is no writing: the same for captions and for text that is read aloud.

    Args:
        text: of a user.
        name: of it, for the message.

    Raises:
        ValueError: a control character that is no white space, half a surrogate pair, or a code point without a
            character that everybody knows (unassigned or private).
    """
    for position, character in enumerate(text):
        if character not in "\t\n\r\v\f\x85" and unicodedata.category(character) in ("Cc", "Cs", "Cn", "Co"):
            raise ValueError(f"the {name} has the control character U+{ord(character):04X} at position {position}; "
                             "remove it")


def shorten(text: str, limit: int = 60) -> str:
    """At most ``limit`` characters of ``text``, for messages."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
