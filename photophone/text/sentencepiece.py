"""Vocabularies of SentencePiece (arXiv 1808.06226), read without its package, as tokenizers of transformers.

A ``.model`` file is a protocol buffer of pieces with their scores, and of how text is normalised before it is cut. The
cutting itself, by the likeliest pieces or by merges, is that of the tokenizers library.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from photophone.core.limits import MAX_VOCABULARY_BYTES
from photophone.loading.wire import fields

if TYPE_CHECKING:
    from tokenizers import Tokenizer, models, normalizers
    from transformers import PreTrainedTokenizerFast

PIECE, TRAINER, NORMALIZER = 1, 2, 3
TEXT, SCORE, KIND = 1, 2, 3
UNKNOWN, CONTROL, UNUSED = 2, 3, 5
MODEL_TYPE, BYTE_FALLBACK = 3, 35
UNIGRAM, BPE = 1, 2
CHARACTER_MAP, DUMMY_PREFIX, FEWER_SPACES = 2, 3, 4
SPACE = "▁"
NEVER_WRITTEN = "\ufdd0"
"""Stands before pieces that no text may give, such as that of a sentence's end."""


@dataclass
class SentencePieces:
    """What a file says.

    Attributes:
        pieces: text, score and kind of each id.
        kind: UNIGRAM or BPE.
        byte_fallback: characters without a piece become bytes.
        character_map: of the normalisation, as SentencePiece compiles it; b"" for none.
        dummy_prefix: a space is put in front.
        fewer_spaces: spaces at both ends go, and several in a row become one.
    """

    pieces: list[tuple[str, float, int]] = field(default_factory=list)
    kind: int = UNIGRAM
    byte_fallback: bool = False
    character_map: bytes = b""
    dummy_prefix: bool = True
    fewer_spaces: bool = True

    @property
    def unknown(self) -> int:
        """The id of what has no piece."""
        return next((index for index, (_, _, kind) in enumerate(self.pieces) if kind == UNKNOWN), 0)


def read_sentencepieces(path: str | Path) -> SentencePieces:
    """The content of a ``.model`` file.

    Raises:
        ValueError: there is none, or it is damaged or of a kind that is not read.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"no such vocabulary: {path}")
    if file.stat().st_size > MAX_VOCABULARY_BYTES:
        raise ValueError(f"{path} has {file.stat().st_size} bytes, the limit is {MAX_VOCABULARY_BYTES}")
    made = SentencePieces()
    try:
        for number, value in fields(memoryview(file.read_bytes())):
            if number == PIECE:
                made.pieces.append(_piece(value))
            elif number == TRAINER:
                found = dict(fields(value))
                made.kind = found.get(MODEL_TYPE, UNIGRAM)
                made.byte_fallback = bool(found.get(BYTE_FALLBACK, False))
            elif number == NORMALIZER:
                found = dict(fields(value))
                made.character_map = bytes(found.get(CHARACTER_MAP, b""))
                made.dummy_prefix = bool(found.get(DUMMY_PREFIX, True))
                made.fewer_spaces = bool(found.get(FEWER_SPACES, True))
        if not made.pieces:
            raise ValueError("no pieces")
    except (ValueError, IndexError, TypeError, struct.error) as error:
        raise ValueError(f"{path} is no vocabulary of SentencePiece that can be read: {error}") from error
    if made.kind not in (UNIGRAM, BPE):
        raise ValueError(f"{path} cuts words or characters (model type {made.kind}); only unigram and BPE vocabularies "
                         "are read")
    return made


def _piece(data: memoryview) -> tuple[str, float, int]:
    text, score, kind = "", 0.0, 1
    for number, value in fields(data):
        if number == TEXT:
            text = str(bytes(value), "utf-8")
        elif number == SCORE:
            (score,) = struct.unpack("<f", value)
        elif number == KIND:
            kind = int(value)
    return (NEVER_WRITTEN + text if kind in (UNKNOWN, CONTROL, UNUSED) else text), score, kind


def load_sentencepiece(path: str | Path) -> PreTrainedTokenizerFast:
    """A tokenizer that gives the ids of SentencePiece; its pieces of control, such as a sentence's end, have their ids
    and are never written.

    Raises:
        ValueError: see :func:`read_sentencepieces`.
    """
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=build_tokenizer(read_sentencepieces(path)),
                                   clean_up_tokenization_spaces=False)


def build_tokenizer(vocabulary: SentencePieces) -> Tokenizer:
    """The tokenizer of a vocabulary."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers

    tokenizer = Tokenizer(_cutting(vocabulary))
    tokenizer.normalizer = _normalizer(vocabulary)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
        replacement=SPACE, prepend_scheme="always" if vocabulary.dummy_prefix else "never", split=False)
    front = [decoders.Strip(content=" ", left=1)] if vocabulary.dummy_prefix else []
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(),
                                           *front])
    return tokenizer


def _normalizer(vocabulary: SentencePieces) -> normalizers.Normalizer:
    from tokenizers import Regex, normalizers

    steps = [normalizers.Precompiled(vocabulary.character_map)] if vocabulary.character_map else []
    if vocabulary.fewer_spaces:
        steps += [normalizers.Strip(left=True, right=True), normalizers.Replace(Regex(" {2,}"), " ")]
    return normalizers.Sequence(steps)


def _cutting(vocabulary: SentencePieces) -> models.Model:
    from tokenizers import models

    if vocabulary.kind == UNIGRAM:
        return models.Unigram([(text, score) for text, score, _ in vocabulary.pieces], vocabulary.unknown,
                              vocabulary.byte_fallback)
    ids = {text: index for index, (text, _, _) in enumerate(vocabulary.pieces)}
    merges = []
    for text, score, _ in vocabulary.pieces:
        for place in range(1, len(text)):
            left, right = text[:place], text[place:]
            if left in ids and right in ids:
                merges.append((-score, ids[left], ids[right], left, right))
    return models.BPE(ids, [merge[3:] for merge in sorted(merges)], unk_token=vocabulary.pieces[vocabulary.unknown][0],
                      fuse_unk=True, byte_fallback=vocabulary.byte_fallback)
